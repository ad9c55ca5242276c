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

Result (2026-12-01, five seeds, means [least, greatest] in percent): some.
Balanced verdicts of the RL critic are right in 98 [97, 98] on chains as trained
on, 85 [79, 88] on 5 and 6 steps, 74 [62, 86] on 7 and 8, 49 [46, 50] on unseen
operands; of the cold start's in 70 [67, 72], 62 [46, 68], 55 [29, 66] and 52
[48, 56]. What fails in long chains is mostly a right solution that is called
wrong: 82 [61, 95] of these pass in 5 and 6 steps, 59 [30, 81] in 7 and 8.
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
