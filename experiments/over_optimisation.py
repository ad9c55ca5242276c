"""Does the best of many solutions get worse, and do several models prevent it?

Reward Model Ensembles (https://arxiv.org/abs/2310.02743): who takes the best of
more and more samples by one reward model ends at those that it overrates, and
five models that differ in their heads and in their order of data overrate
others. Here five models learn from pairs of a solver's solutions, of which a
quarter are labelled wrong, and choose among up to 64 solutions of 100 held-out
problems; right answers are the gold. `single` is the first model alone,
`average` the mean of five, `worst_case` the least, `uncertainty` the mean less
half the variance, and `relabelled` one model that learned from pairs relabelled
by the five (https://arxiv.org/abs/2401.06080).

Expectation: `average` is above `single` from k = 4 on, and `worst_case` and
`uncertainty` are within the intervals of `average`: most of the gain is the
mean's. A curve that falls from k = 16 to 64 is that of `single`, if any: 64
samples of a solver that mostly slips by chance hold few traps. `relabelled` is
between `single` and `average`. All are above the majority of 4 and less, which
is what a model that learned nothing of checking would be below.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/reward_model.py:ensemble'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('relabelled',),
    methods=('best_of', 'majority', 'pass'),
  )
  for evaluation in (
    'single',
    'average',
    'worst_case',
    'uncertainty',
    'relabelled',
  )
]
