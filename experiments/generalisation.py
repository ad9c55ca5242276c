"""Do critics generalise to longer chains and to unseen operations?

All critics were trained on problems of 2 to 4 steps with small operands. Here
they judge solutions with planted slips: of such problems (`slips`), of 5 and 6
steps (`longer`), and of operands that nobody was trained on (`unseen`: adding
and taking away 7 to 9, four and five times as many).

Expectation: what the critic learned to compute it computes in longer chains,
too, with more chances to err; facts that it never saw it cannot know, and a
critic that computes them wrongly calls right solutions wrong.

Result (2026-11-23, 3 seeds): no critic generalises, and none could: verdicts on
slips are at chance (49 to 51 %) even for problems as trained on, for the reason
found in experiments/step_labels.py. In longer chains the RL critic's are below
it (43 %), with unseen operands, too (46 %). Whether critics that compare
results generalise is a question for a world in which the solver slips (LOG.md).
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('cold_start', 'more_sft', 'step_labels', 'rl'),
    metrics=(
      'verdict accuracy, right solutions',
      'verdict accuracy, wrong solutions',
      'balanced verdict accuracy',
      'ProcessBench F1',
    ),
  )
  for evaluation in ('slips', 'longer', 'unseen')
]
