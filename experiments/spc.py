"""Does a critic learn more from an attacker who learns, too?

SPC (https://arxiv.org/abs/2504.19162) trains a critic on errors that an
attacker makes to fool it, in rounds, and found attackers of one round too easy
for its critic, so that those of several are mixed. From one cold start, 80
steps of RL on verdicts each: against an attacker who plants random slips
(`fixed`); in the second half against one who has learned to fool the critic of
the first (`same`), or against both (`mixed`); and on the solver's own errors
(`own`). All are measured on the solver's errors (`heldout`) and on planted
slips (`slips`).

Expectation: an attacker finds lines that the critic does not work out, and by
their end there are none: who works lines out is not fooled by any. So all four
judge planted slips equally well, within the intervals. On the solver's errors
`own` is best, because it sees them, and `mixed` is not behind `fixed`; `same`
may be, as it forgets what the attacker no longer does.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/spc.py:arms'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('cold_start', 'critic_1', 'fixed', 'same', 'mixed', 'own'),
    metrics=(
      'verdict accuracy, right solutions',
      'verdict accuracy, wrong solutions',
      'balanced verdict accuracy',
    ),
  )
  for evaluation in ('heldout', 'slips')
]
