"""Do critics generalise to longer chains and to unseen operations?

All critics were trained by RL on problems of 2 to 4 steps with small operands;
their base was taught to mark solutions of up to 8. Here they judge solutions
with planted slips: of such problems (`slips`), of 5 and 6 steps (`longer`), of
7 and 8 (`longest`), and of operands that nobody was trained on (`unseen`:
adding and taking away 7 to 9, four and five times as many).

Expectation: what the critic learned to do step by step it does in chains of two
more, with a few more errors, and in chains of four more clearly above chance;
facts are memorised in this world, so operands that it never saw it cannot
know, and it calls right solutions wrong.

Result (2026-11-29, seed 0 alone; the other seeds are to be run): some. Balanced
verdicts of the RL critic are right in 98 % on chains as trained on, 82 % on 5
and 6 steps, 58 [54, 63] % on 7 and 8, 51 % on unseen operands, where it calls
nearly all solutions wrong. Where it fails on longer chains it quotes a line
that is not there, mostly the fifth: all of RL's critiques had ended by then.
The base that RL began from, then taught to mark up to 6 steps, is at 93 % on 5
and 6 steps, and at 59 on 7 and 8. With lessons of up to 8 steps, and more of
them on marks, RL's critic is at 90 % on 5 and 6 and 74 on 7 and 8.
"""

from configs import grid

CONFIG = 'configs/evidence.py:critics'
GRID = grid.sweep('seed', [0, 1, 2, 3, 4])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('cold_start', 'more_sft', 'step_labels', 'rl'),
    metrics=(
      'verdict accuracy, right solutions',
      'verdict accuracy, wrong solutions',
      'balanced verdict accuracy',
      'ProcessBench F1',
    ),
  )
  for evaluation in ('slips', 'longer', 'longest', 'unseen')
]
