"""Does filtered majority voting scale better with k than plain majority?

RefCritic's use of a critic at test time: of k solutions those vote that the
critic accepts. Beside it stands the same number of votes kept at random, and
pass@k, the ceiling. Problems have 5 steps, so that about half of the solutions
are right, and the solver errs in another place from one sample to the next.

Expectation: filtered with the RL critic is above plain majority at every k, the
random control is not, and the cold-start critic gains less.

Result (2026-11-23, 3 seeds): it does not. Filtered by the RL critic is above
plain majority at k = 2 (43.6 and 42.3 %), below it at 4 and 8 (51.2 and 51.9,
53.9 and 54.6) and level at 16 (54.5 and 54.9), where pass@16 is 62.3. It is
above the random control at 2 and 4 by one point, so the verdicts inform a
little; but every vote that is dropped costs more. Where the majority is wrong
the solver believes a wrong fact, nearly all its samples say the same, and there
is nothing to keep; the errors that temperature adds are the ones that this
critic does not see (70 to 74 % of the wrong solutions called wrong, see
experiments/step_labels.py).
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='selection',
  columns=('cold_start', 'rl'),
  methods=('majority', 'filtered', 'random_filtered', 'weighted', 'pass'),
)
