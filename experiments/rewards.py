"""Which of RefCritic's two rewards carries the gain?

From one cold start: RL with both rewards (rl), with the verdict's alone
(judge_only), and with the refinements' alone (refine_only).

Expectation: the reward for verdicts makes the verdicts right and leaves the
advice as it was; the reward for refinements makes the advice one that can be
followed, and verdicts right only as far as advice needs them; both together
give both.

Result: not yet run.
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
    'description/names_step_wrong',
    'description/gives_result_wrong',
    'critique length in tokens',
  ),
)
