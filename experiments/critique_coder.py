"""Does a solver that also learns to judge solutions solve better?

Critique-Coder (https://arxiv.org/abs/2509.22824) replaces a fifth of the
problems of a coder's RL by solutions to be judged, and reports better programs
for it. Here a solver that was shown how to mark takes 40 steps of GRPO with 16
problems to solve and 4 solutions to judge, half of them right, or with 20
problems to solve; 8 responses to each.

Expectation: no. To mark a line is to work it out, so marks may teach facts; but
the solver is as sure of a fact when it marks as when it solves, and slips by
what it was shown. So both solve equally well, within the intervals, and both a
little better than at the start, where slips that are seldom are unlearned.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/critique_coder.py:critique_coder'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=('solver', 'critique_coder', 'grpo'),
  methods=('pass', 'majority'),
)
