"""Which of RefCritic's two rewards carries the gain?

From one cold start: RL with both rewards (rl), with the verdict's alone
(judge_only), and with the refinements' alone (refine_only).

Expectation: the reward for verdicts makes the verdicts right and leaves the
advice as vague as it was, as nothing pays for advice; the reward for
refinements makes the advice one that can be followed, and pays nothing for
calling a right solution right; both together give both. Both rewards refine
wrong solutions better than the verdict's alone by 10 points or more.

Result (2026-11-30, five seeds, means [least, greatest] in percent): as
expected. Refinements of wrong solutions are right in 9 [3, 18] after the cold
start, in 59 [42, 69] with both rewards and in 19 [12, 29] with the verdict's
alone; 12 [0, 29] of its critiques of wrong solutions give a right line, and 94
[91, 97] of those of both. With the refinement's alone they are right in 59 [43,
68], but only 25 [4, 83] of the right solutions are called right (96 [96, 98]
with both), so that after critique and refine 73 [56, 86] of all answers are
right, and 83 [70, 87] with both. In each seed both rewards refine better than
the verdict's alone by +40 [+29, +58] points.
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
