"""What are a solver's revised and derived answers worth to it, and a filter?

SciGLM (https://arxiv.org/abs/2401.07950) annotates problems in three attempts:
an answer, another after a reflection on the error, and a derivation of the true
answer; then a classifier drops what is noisy. Four arms imitate what they keep
of their own, from one base: solutions alone (`solved`, four of each problem,
where the others have two), with reflections (`reflected`), with derivations
(`derived`), and with these only where two reviews by the base let them pass
(`filtered`). All sample about as many tokens, within a quarter by our count
(`tokens/...` of a run are the true numbers).

Expectation: `solve/covered` of training, the share of problems with an answer
to imitate, rises from arm to arm, to 100 % in `derived`, and is less in
`filtered`. A third of the derivations is forged (`refine_2/faithful`), and a
forged last line is a lesson in false sums: `derived` answers at most as many
held-out problems as `reflected`, maybe fewer, and `filtered` as many or more.
`solved` is within 3 points of `reflected`: its base solves most of what it can
by asking twice as often. Differences of the arms are small, as each imitates
itself.

Result: not asked yet.
"""

from configs import grid, sciglm

CONFIG = 'configs/sciglm.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=tuple(sciglm.ARMS),
  methods=('pass', 'majority'),
)
