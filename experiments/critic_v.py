"""Does what a critic learns of planted errors hold for a solver's own errors?

Critic-V (https://arxiv.org/abs/2411.18203) plants 1 to 5 errors in right
solutions, ranks critiques by their overlap with them, and trains a critic by
DPO, to be used on errors that nobody planted. Here `planted` learns from
critiques of solutions in which a rule planted 1 to 3 slips, and `own`, from the
same start and in as many steps, from critiques of the solver's solutions, by
the same overlap. Both are measured on the solver's solutions (`heldout`) and on
solutions with one planted slip (`slips`).

Expectation: `planted` finds as many of the solver's first wrong steps as `own`
does, within the intervals, and both more than `imitate`: a critic that works
lines out does not need to know who erred. `planted` has more pairs, because the
solver is right in 63 of 100 solutions, and all critiques that find nothing
there are alike; so if the two part, `own` is behind.

Result: not asked yet.
"""

from configs import grid

CONFIG = 'configs/critic_v.py:critic_v'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('imitate', 'planted', 'own'),
    metrics=(
      'first wrong step found',
      'right solutions passed',
      'ProcessBench F1',
      'F1 of guessing the commonest step',
      'balanced verdict accuracy',
    ),
  )
  for evaluation in ('heldout', 'slips')
]
