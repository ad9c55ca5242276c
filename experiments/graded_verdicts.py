"""Does a critic learn more of near misses, or of reasons that are checked?

FAPO (https://arxiv.org/abs/2510.22543) pays for the first wrong step by its
distance, DeepSeekMath-V2 (https://arxiv.org/abs/2511.22570) for a verdict as
far as its reasons are so, ECHO (https://arxiv.org/abs/2601.06794) for what
refining changes, the more the less there is to improve. From one cold start,
40 steps of RL each: `distance` beside `hit`, which pays for the very step;
`reviewed` beside `judge_only`, which pays for the verdict; and `gain`, in the
share of steps that are right, beside `delta`, in right answers.

Expectation: a near miss is worth little here, because who works lines out finds
the very line: `distance` finds as many first wrong steps as `hit`, within the
intervals, and not sooner. `reviewed` judges as well as `judge_only` and names a
wrong step in nearly all critiques of wrong solutions, where `judge_only` names
one in less than a half. `gain` refines as well as `delta` and no better:
solutions have 2 to 4 steps, so shares are coarse.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/graded_verdicts.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=(
    'cold_start', 'hit', 'distance', 'judge_only', 'reviewed', 'delta', 'gain'
  ),
  metrics=(
    'balanced verdict accuracy',
    'first wrong step found',
    'right solutions passed',
    'critiques that correct a step, if wrong',
    'refined right, wrong solutions',
    'lift over no critique',
    'accuracy after critique and refine',
  ),
)  # fmt: skip
