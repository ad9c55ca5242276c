"""Which of RefCritic's two rewards carries the gain?

From one cold start: RL with both rewards (rl), with the verdict's alone
(judge_only), and with the refinements' alone (refine_only).

Expectation: the reward for verdicts makes the verdicts right and leaves the
advice as it was; the reward for refinements makes the advice one that can be
followed, and verdicts right only as far as advice needs them; both together
give both.

Result (2026-11-23, 3 seeds): as expected. Refinements of wrong solutions are
right in 10 % after the cold start, 62 % with both rewards, 6 % with the
verdict's alone, 62 % with the refinement's alone; balanced verdict accuracy is
76, 93, 93 and 79 %. The critic of refinements alone calls right solutions wrong
(up to 71 % of them, seed 0), so that refining harms: accuracy after critique
and refine is 83 % with both rewards and 74 % with the refinement's alone.
Critiques of wrong solutions give the right line in 14, 90, 10 and 95 %.
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
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
