"""What is executing its checks worth to a critic who was taught to check?

GenPRM (https://arxiv.org/abs/2504.00891) executes the programs of its critic
and feeds the output back; of its average F1 of 80.5 by 8 votes, 78.8 are there
without programs, and 60.0 without thinking. One critic, imitation alone, judges
solutions with a planted slip or none, with its own results and with executed
ones: of the lengths that it was taught, longer ones, and with operands that
nobody was taught.

Expectation: on `slips` execution adds less than two points, because the critic
has learned these facts. On `unseen` it lifts verdicts from near chance to over
80 %, as all that is missing there are facts; comparing and quoting are known.
On `longer` it adds little: a long chain fails by lines that are left out, not
by wrong results.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/genprm.py'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('cold_start',),
    metrics=(
      'balanced verdict accuracy',
      'first wrong step found',
      'right solutions passed',
      'ProcessBench F1',
    ),
  )
  for world in ('slips', 'longer', 'unseen')
  for evaluation in (world, f'{world}_executed')
]
