"""Do critiques of contrasted paths teach a critic to find the first wrong step?

MMC lays a wrong path beside a right one of the same problem, and has a critique
written where they part; it claims that this teaches more than critiques that
are written from the wrong path alone. Three critics imitate annotators of the
solver's paths, from one base and in one form: `contrasted` has a right path,
`alone` works the lines out as the student does, with the student's errors, and
`supplied` is the checker, who knows. All read the paths of problems that one of
four paths solves, and learn what has a right verdict.

Expectation: as the labels are, so are the critics. By rule, of the critiques of
2,000 problems' wrong paths that are kept, 97 % name the first wrong step with a
contrast (a right answer after the same slip misleads the others) and 84 %
without. So `contrasted` finds nearly as many first wrong steps as `supplied`,
within 5 points, and `alone` at least 10 points fewer; `alone` also passes fewer
right solutions and judges slips worse, as it imitates lines that are worked out
wrongly, and its accuracy rises least over rounds.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/mmc.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
_COLUMNS = 'contrasted', 'alone', 'supplied'
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
      'revision/accuracy_0',
      'revision/accuracy_1',
      'revision/accuracy_3',
    ),
  ),
  dict(evaluation='slips', columns=_COLUMNS, metrics=_FOUND),
]
