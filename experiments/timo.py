"""Do pairs that a solver finds hard itself teach it more than any pairs?

Timo (https://arxiv.org/abs/2406.14192) has a model grade its own answers, and
pairs the best right one with the best wrong one for DPO. Three arms learn from
pairs of their own solutions, from one base and with one pair of a problem: by
the solver's own critiques (`approval`, one of each of 4 solutions), by the mean
log-probability of a solution (`confidence`, of 9), and at random (`random`, of
9); a fourth imitates a right one of 9 (`imitated`). A critique is about a
quarter longer than a solution, so that all sample as many tokens.

Expectation: all three arms of pairs answer more held-out problems than
`imitated`, by 2 points or more. `confidence` and `approval` are within 2 points
of `random`: this solver slips by chance, and which slip it made says little
about the next. `approval` has the fewest pairs, as 4 solutions are more often
of one kind. pass@4 falls in all arms of pairs, and least in `imitated`.

Result: not asked yet.
"""

from configs import grid, timo

CONFIG = 'configs/timo.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=tuple(timo.ARMS),
  metrics=('selection/pass@1', 'selection/pass@4', 'selection/majority@4'),
)
