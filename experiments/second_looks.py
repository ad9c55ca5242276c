"""Does imitating critiques that were put right make a better critic?

DeepCritic imitates critiques of critiques, and claims that those in which the
second look changed the judgement matter. From one base, critics imitate merged
texts, with any second look that is right (`second_look`), or only where it put
a wrong judgement right (`flipped_only`), as many steps of as many rows; each
then learns by GRPO on the checker's labels (`rl`). The start of
`configs/refcritic.py:quickstart` is the critic without a second look.

Expectation: who imitates flips only checks more after the start, as no text of
theirs agrees with a guess; after RL the two are alike, as it pays for checking.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/deepcritic.py:deepcritic'
GRID = grid.product(
  grid.sweep('phases.second_look.flipped_only', [False, True]),
  grid.sweep('seed', [0, 1, 2]),
)
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('second_look', 'rl'),
    metrics=(
      'first wrong step found',
      'right solutions passed',
      'ProcessBench F1',
      'balanced verdict accuracy',
      'critiques that compute',
    ),
  )
  for evaluation in ('heldout', 'slips')
]
