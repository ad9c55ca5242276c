"""Does filtered majority voting scale better with k than plain majority?

RefCritic's use of a critic at test time: of k solutions those vote that the
critic accepts. Beside it stands the same number of votes kept at random, and
pass@k, the ceiling. Problems have 5 steps, one more than the critic's RL had,
so that about half of the solutions are right.

Expectation: the solver slips in another place from one sample to the next, and
the RL critic sees it. So filtered with the RL critic is above plain majority at
every k from 2 on and nears pass@k, the random control is not, and the
cold-start critic, which mostly glances, gains less.

Result (2026-12-01, means of five seeds): as expected. Right answers in percent
at k = 2, 4, 8, 16, 32: plain majority 39, 47, 51, 54, 56; filtered by the RL
critic 52, 66, 78, 87, 93 of the 56, 73, 85, 93, 97 of pass@k; by the cold-start
critic 44, 52, 60, 69, 75; at random as many votes as the RL critic keeps 39,
42, 46, 51, 54. At k = 16 the RL critic's filter is above plain majority by 33
[28, 40] points.
"""

from configs import grid

CONFIG = 'configs/evidence.py:critics'
GRID = grid.sweep('seed', [0, 1, 2, 3, 4])
TABLE = dict(
  evaluation='selection',
  columns=('cold_start', 'rl'),
  methods=('majority', 'filtered', 'random_filtered', 'weighted', 'pass'),
)
