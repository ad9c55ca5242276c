"""Is a judge who is asked in both orders righter, and how often is it silent?

Label Critic (https://arxiv.org/abs/2411.02753) compares two labels in both
orders and abstains where the answers differ. A critic of slates of two
solutions, one right, is measured after it learned to work lines out (`checks`),
to mostly guess (`cold_start`), and after RL: by single answers, by two that
agree in both orders (`swaps/consistent`, of a share `swaps/coverage`), and by
two that agree in one order (`swaps/same_consistent`), which costs as much.

Expectation: after the cold start single answers are right in 55 to 70 %, and
those that agree in both orders in 3 to 10 points more, at half of coverage or
more. Most of that is two answers instead of one: the control of one order is
within 3 points, since a guess has no liking for a place (`swaps/first_bias`
within 5 points of 0). After RL, coverage and accuracy are above 90 %, and a
swap adds less than 3 points.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/label_critic.py'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='votes',
  columns=('checks', 'cold_start', 'rl'),
  metrics=(
    'swaps/single',
    'swaps/coverage',
    'swaps/consistent',
    'swaps/same_coverage',
    'swaps/same_consistent',
    'swaps/first_bias',
  ),
)
