"""What are a solver's revised and derived answers worth to it, and a filter?

SciGLM (https://arxiv.org/abs/2401.07950) annotates problems in three attempts:
an answer, another after a reflection on the error, and a derivation of the true
answer; then a classifier drops what is noisy. Four arms imitate what they keep
of their own, from one base: solutions alone (`solved`, two of each problem,
where the others have one), with reflections (`reflected`), with derivations
(`derived`), and with these only where a review by the base lets them pass
(`filtered`). Problems a step are so many that all sample as many tokens, within
a tenth by our count (`tokens/...` of a run are the true numbers). An arm has 10
steps.

Expectation: (Stated after one run with other settings, in which 40 steps of any
arm ended at 98 % right answers.) `solve/covered` of training, the share of problems
with an answer to imitate, rises from `reflected` to `derived` and is less in
`filtered`. A third of the right derivations is forged (`refine_2/faithful`). So
many lessons in false sums cost: `derived` answers fewer held-out problems than
`reflected`, by 3 points or more, and `filtered` as many as `reflected`, within
3. `solved` is the best or within 3 points of it: it imitates answers that a
solver finds by itself, and sampling again is as cheap as reflection.

Result: not asked yet.
"""

from configs import grid, sciglm

CONFIG = 'configs/sciglm.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=tuple(sciglm.ARMS),
  metrics=('selection/pass@1', 'selection/pass@4', 'selection/majority@4'),
)
