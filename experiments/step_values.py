"""Which rule makes the best labels of steps, and of how many completions?

GenPRM's ablation, where the truth is known: a process reward model learns from
labels by hard values, by shares, by relative progress as a ratio and as a
difference, and by shares less what a step lost, of 2, 8 and 32 completions of
each prefix. The solver errs on 20 % of the facts more often than not, so that
right prefixes fail. How often a label is the first wrong step is logged while
training, `solve/label_right`, `label_early` and `label_late`.

Expectation: hard labels need many completions, and are the best of 32, as
nothing recovers from a slip here; the ratio calls steps wrong that are only
hard, the more so the fewer completions there are; shares are the best of 2, as
a score may be in between. The model is better than its labels, whose noise is
in both directions, but for the ratio's.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/process_reward.py:completed'
RULES = ['hard', 'soft', 'ratio', 'difference', 'penalised']
GRID = grid.product(
  grid.sweep('phases.steps.completions.labels.name', RULES),
  grid.sweep('phases.steps.completions.num', [2, 8, 32]),
  grid.sweep('seed', [0, 1, 2]),
)
TABLE = [
  *(
    dict(
      evaluation=evaluation,
      columns=('steps',),
      metrics=(
        'first wrong step found',
        'right solutions passed',
        'ProcessBench F1',
      ),
    )
    for evaluation in ('heldout', 'slips')
  ),
  dict(
    evaluation='heldout',
    columns=('steps',),
    methods=('pass', 'majority', 'filtered', 'best_of'),
  ),
]
