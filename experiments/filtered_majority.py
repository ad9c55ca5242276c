"""Does filtered majority voting scale better with k than plain majority?

RefCritic's use of a critic at test time: of k solutions those vote that the
critic accepts. Beside it stands the same number of votes kept at random, and
pass@k, the ceiling. Solutions are sampled at temperature 1.4, where half of
them are right: at 1 the solver of this world says nearly the same each time,
and there is nothing to vote about.

Expectation: filtered with the RL critic is above plain majority at every k, the
random control is not, and the cold-start critic gains less.

Result: not yet run.
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='selection',
  columns=('cold_start', 'rl'),
  methods=('majority', 'filtered', 'random_filtered', 'weighted', 'pass'),
)
