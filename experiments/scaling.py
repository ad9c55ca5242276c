"""Which of the claims grows with the critic's size, and which with its RL?

Solver and critic of three sizes (the critic begins as a copy of the solver):
2 layers of width 64, 3 of 128, 4 of 192. Each critic is measured after the cold
start and after 10, 40 and 160 steps of RL.

Expectation: verdicts on chains as trained on need few steps of RL at any size
that can check at all; advice that can be followed needs more of them; longer
chains gain by size and not by RL.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/evidence.py:sizes'
SIZES = ['mini', 'tiny', 'small']
GRID = grid.product(
  grid.zipped(
    grid.sweep('models.solver.size', SIZES),
    grid.sweep('models.critic.size', SIZES),
  ),
  grid.sweep('seed', [0, 1, 2]),
)
STAGES = 'cold_start', 'rl_10', 'rl_40', 'rl_160'
TABLE = [
  dict(
    evaluation='heldout',
    columns=STAGES,
    metrics=(
      'balanced verdict accuracy',
      'refined right, wrong solutions',
      'first wrong step found',
      'critiques that compute',
    ),
  ),
  *(
    dict(
      evaluation=evaluation,
      columns=STAGES,
      metrics=('balanced verdict accuracy',),
    )
    for evaluation in ('slips', 'longer')
  ),
]
