"""Does a filter of votes by a learned meta-judge beat more votes?

SPCT (https://arxiv.org/abs/2504.02495) has a critic score several responses in
one text, adds the scores of k texts, and keeps the half that a meta-judge likes
best: in others' summary 72.0 with 8 votes, where 32 plain ones have 71.0, a
single one 67.9, and one without sampling noise 69.9. One critic of the embedded
world chooses among three solutions, one of which is right, by 1 to 16 votes:
all of them, the half that a meta-judge keeps, the half that the critic was
surest of (`certain`), and half of them at random, which is the plain vote at
half of k. `greedy` has the same votes without sampling noise.

Expectation: RL lifts the choice by one vote far more than votes do. The plain
vote gains most from 1 to 4 and is flat from 8 on, and a part of its gain is
there in `greedy`. The filter beats the plain vote of as many texts by a few
points where single texts still guess, and no vote when nearly all work the
lines out; `certain` comes close to it, because a guessed score is a flat
distribution that the critic itself shows.

Result: not asked yet.
"""

from configs import grid

_METHODS = 'vote', 'filtered', 'certain'

CONFIG = 'configs/spct.py'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=columns,
    metrics=tuple(
      f'ratings/{method}@{k}' for method in methods for k in (1, 2, 4, 8, 16)
    ),
  )
  for evaluation, columns, methods in (
    ('votes', ('cold_start', 'rl'), ('vote',)),
    ('greedy', ('rl',), ('vote',)),
    ('filtered', ('meta',), _METHODS),
  )
]
