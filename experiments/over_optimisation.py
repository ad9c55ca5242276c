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

Result (2026-11-30, two seeds of the three, at 47d1f66): all are over-optimised,
and ensembles do not prevent it. One solution drawn at random is right in 89 and
90 of 100; the best of 2, 8 and 64 by `single` in 91, 81, 47 and in 92, 82, 40,
by `average` in 92, 84, 58 and in 92, 81, 41, with intervals of 8 to 10 to
either side at 64. `worst_case`, `uncertainty` and `relabelled` are within them,
too: 53, 51, 55 and 42, 44, 50. The majority of 64 is right in 98. The
expectation was wrong about traps: the models learned little from 60 batches of
labels of which a quarter are wrong (`single` ranks a right solution first in 37
of 100, seed 0; chance in 22), and of 64 solutions, it seems, they like what is
strange. Models that learned more were not asked.
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
