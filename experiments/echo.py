"""Does a critic that learns together with its solver stay useful to it?

ECHO (https://arxiv.org/abs/2601.06794) trains both at once, so that the critic
does not fall behind a solver that makes other errors by then. From one start,
40 steps of 416 responses each: critic and solver (`echo`), the critic by the
same reward with a solver that stays (`critic_alone`), and the solver by its
answers alone (`solver_alone`), beside the critic as it was.

Expectation: the solver gets better in `echo`, by less than in `solver_alone`,
which learns from more first solutions. There the critic that stayed helps less
than at the cold start, as the errors that are left are not those that it was
shown. The critic of `echo` lifts wrong solutions as much as `critic_alone`,
within the intervals, although fewer are wrong: who works lines out needs not
know the solver. So `echo` is the best after a critique and a refinement.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/echo.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=('cold_start', 'echo', 'critic_alone', 'solver_alone'),
  metrics=(
    'accuracy before',
    'balanced verdict accuracy',
    'refined right, wrong solutions',
    'lift over no critique',
    'accuracy after critique and refine',
  ),
)
