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
arm ended at 98 % right answers.) `solve/covered` of training, the share of
problems with an answer to imitate, rises from `reflected` to `derived` and is
less in `filtered`. A third of the right derivations is forged
(`refine_2/faithful`). So many lessons in false sums cost: `derived` answers
fewer held-out problems than `reflected`, by 3 points or more, and `filtered` as
many as `reflected`, within 3. `solved` is the best or within 3 points of it: it
imitates answers that a solver finds by itself, and sampling again is as cheap
as reflection.

Result (2026-12-01, three seeds, at ff4e4b1): no attempt after the first is
worth anything here. Of held-out problems `solved` answers 93.5 % (91.2 to
94.8), `reflected` 93.3, `derived` 91.9 and `filtered` 91.6; the latter two are
below `solved` in all seeds, by 1.0 to 2.4 points. Covered are 88 % of problems
in `reflected`, 91 in `derived`, 90 in `filtered`, as expected, and 90 by two
solutions of each in `solved`. Of 88 right derivations 9 were forged and no
third: a told solver reached the answer in 30 % of its attempts only. So that
`derived` is behind is hardly their fault: with fewer problems a step, for
tokens, it imitated 692 answers, `filtered` 575, `reflected` 755. `solved`
sampled 36 thousand tokens and the others 24 to 30, as critiques got fewer when
solvers got better; its problems a step, and those of `reflected` and
`filtered`, were changed since.
"""

from configs import grid, sciglm

CONFIG = 'configs/sciglm.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = dict(
  evaluation='heldout',
  columns=tuple(sciglm.ARMS),
  metrics=('selection/pass@1', 'selection/pass@4', 'selection/majority@4'),
)
