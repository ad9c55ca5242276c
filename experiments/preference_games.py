"""Does a game of raters make a better critic than the sum of what they score?

Three raters compare critiques of planted errors: by the verdict, by the overlap
of the steps that are called wrong with those that are, and by the share of
steps that are judged rightly. From one start critics learn from the best and
the worst of 8 critiques, by wins among the raters (INPO, DNO, SPPO and online
IPO) or by the sum of the three scores (DPO). What such updates come to without
noise is known (tests/objectives/tabular_games.py, and LOG.md); here the three
raters agree mostly, so that there is little to win by a game.

Expectation: no arm is better than another by more than the intervals, in right
verdicts and in first wrong steps. Raters that agree make no cycle, and the best
of 8 by wins is mostly that by the sum. A difference would come from how far an
arm goes in 40 steps: SPPO and online IPO have targets that they reach, DPO has
none, and INPO's is far.

Result: not asked yet.
"""

from configs import grid, preference_games

CONFIG = 'configs/preference_games.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('imitate', *preference_games.ARMS),
    metrics=(
      'first wrong step found',
      'right solutions passed',
      'balanced verdict accuracy',
    ),
  )
  for evaluation in ('heldout', 'slips')
]
