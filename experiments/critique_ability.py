"""Is a critic worst where a solver is least certain, and does self-check help?

"Critique Ability" (https://arxiv.org/abs/2310.04815) finds that a critic errs
most on problems that a model is not certain of, and that a vote from which a
model drops what it calls wrong itself, on such problems alone, is right more
often than a plain one. The solver as its own critic (`own`), the cold start and
the critic of RL judge 8 solutions of each problem. A control drops as many at
random.

Expectation: `own` was taught to check lines: its self-check is above the vote
by 5 points or more, the random drop is not, and RL's critic adds more. The
verdicts of `own` are less true on uncertain problems than on certain ones, by 3
points or more, and on convincing wrong solutions they are no worse than on any
(within 3 points), since what is convincing here is a slip that happens often,
and not one that looks right. To check everywhere is no worse than below a
certainty of 1: a threshold saves tokens only.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/critique_ability.py'
GRID = grid.sweep('seed', [0, 1, 2])
_KINDS = 'uncertain', 'middle', 'certain'
TABLE = dict(
  evaluation='heldout',
  columns=('own', 'cold_start', 'rl'),
  metrics=(
    'ability/convincing',
    'ability/convincing_lenient',
    'ability/unselected',
    'ability/vote',
    'ability/self_check_1',
    'ability/random_drop_1',
    'ability/self_check_all',
    'ability/random_drop_all',
    *(f'ability/problems_{kind}' for kind in _KINDS),
    *(f'ability/verdicts_{kind}' for kind in _KINDS),
  ),
)
