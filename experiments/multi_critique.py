"""Are several critics better than their best, and several refiners fairer?

MultiCritique has a model judge each point of several models' critiques, and
merges the good ones; then pairs of critiques are told apart by what several
models make of them. Here three starts imitate as many texts of one form by the
same three critics: `merged`, `best_single` (the best critique of the three, bad
points too) and `unmerged` (any of them). From `merged`, DPO learns from pairs
by six refinements with each critique: two by each of three refiners of
different skill, `several`, or six by one of the solver's skill, `one`. In the
evaluations `solver` refines, whose refinements paid nobody.

Expectation: the starts are ordered as their texts are. By rule, of the texts
with a right verdict on 3,000 problems' wrong solutions, 83 % of `merged` make
all points that are right and no other, 78 % of `best_single` and 49 % of
`unmerged`, and the first point is as it should be in 90, 86 and 62 %. So
`merged` finds up to 5 points more first wrong steps than `best_single`, maybe
within the seeds' spread, and both at least 15 more than `unmerged`. Pairs do
not get cleaner by several refiners: by rule 99 % of those that differ are
ordered as the hints are right, by one refiner or by three, and 62 % are ties,
because refiners here do what they are told. If trained refiners misread
critiques in ways of their own, 'critique/ordered' of the training metrics is
higher in `several` than in `one`; by more than 2 points would surprise. Both
refine better than `merged`.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/multi_critique.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
_COLUMNS = 'merged', 'best_single', 'unmerged', 'several', 'one'
_FOUND = (
  'first wrong step found',
  'right solutions passed',
  'ProcessBench F1',
  'balanced verdict accuracy',
)
TABLE = [
  dict(
    evaluation='heldout',
    columns=_COLUMNS,
    metrics=(
      *_FOUND,
      'refined right, wrong solutions',
      'accuracy after critique and refine',
    ),
  ),
  dict(evaluation='slips', columns=_COLUMNS, metrics=_FOUND),
]
