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

Result (2026-11-30, five seeds, means [least, greatest] in percent): some.
Balanced verdicts of the RL critic are right in 96 [95, 97] on chains as trained
on, 85 [79, 91] on 5 and 6 steps, 71 [56, 81] on 7 and 8, 50 [49, 52] on unseen
operands; of the cold start's in 66 [64, 69], 62 [60, 66], 50 [40, 61] and 52
[50, 54]. Lessons of AdamW's 650 steps in the place of Muon's 400 had given 90
on 5 and 6 steps and 74 on 7 and 8 (seed 0, 2026-11-29).
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
