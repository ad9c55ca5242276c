"""Does a critic that is paid for refinements alone judge badly?

Critique-RL's claim. From one cold start, 80 steps of RL each: paid for verdicts
alone (judge_only), for refinements alone (refine_only), and for verdicts in the
first half and for both in the second (help). Each arm has a new reference
and a new optimiser after its first half; budgets are equal in critiques that
are written, while refinements cost the solver's tokens.

Expectation: refinements alone refine wrong solutions as well as both do, and
judge worse than either other arm: nothing pays for calling a right solution
right but that its refinement is a copy. Verdicts alone judge as well as both,
and their advice helps less. Both in stages are within 3 points of the better
arm on each side.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/critique_rl.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=('cold_start', 'judge_only', 'refine_only', 'help'),
  metrics=(
    'verdict accuracy, right solutions',
    'verdict accuracy, wrong solutions',
    'balanced verdict accuracy',
    'refined right, wrong solutions',
    'lift over no critique',
    'accuracy after critique and refine',
    'critiques that name the answer',
    'critique length in tokens',
  ),
)
