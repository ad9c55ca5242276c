"""Which of RefCritic's two rewards carries the gain?

From one cold start: RL with both rewards (rl), with the verdict's alone
(judge_only), and with the refinements' alone (refine_only).

Expectation: the reward for verdicts makes the verdicts right and leaves the
advice as vague as it was, as nothing pays for advice; the reward for
refinements makes the advice one that can be followed, and pays nothing for
calling a right solution right; both together give both. Both rewards refine
wrong solutions better than the verdict's alone by 10 points or more.

Result (2026-12-01, five seeds, means [least, greatest] in percent): as
expected. Refinements of wrong solutions are right in 9 [8, 10] after the cold
start, in 66 [60, 69] with both rewards and in 14 [8, 25] with the verdict's
alone; 12 [5, 25] of its critiques of wrong solutions give a right line, and 96
[93, 97] of those of both. With the refinement's alone they are right in 65 [60,
68], but only 12 [0, 36] of the right solutions are called right (97 [96, 97]
with both), so that after critique and refine 78 [72, 85] of all answers are
right, and 86 [84, 88] with both. In each seed both rewards refine better than
the verdict's alone, by 51 [35, 59] points, with intervals apart.
"""

from configs import grid

CONFIG = 'configs/evidence.py:critics'
GRID = grid.sweep('seed', [0, 1, 2, 3, 4])
TABLE = dict(
  evaluation='heldout',
  columns=('cold_start', 'rl', 'judge_only', 'refine_only'),
  metrics=(
    'verdict accuracy, right solutions',
    'verdict accuracy, wrong solutions',
    'balanced verdict accuracy',
    'refined right, wrong solutions',
    'accuracy after critique and refine',
    'first wrong step found',
    'critiques that name a step, if wrong',
    'critiques that correct a step, if wrong',
    'critique length in tokens',
  ),
)
