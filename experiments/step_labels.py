"""Does an RL critic without step labels find the first wrong step better?

RefCritic claims to beat, on ProcessBench, critics that were fine-tuned on step
labels, with the labels of whole solutions only. Here `step_labels` goes on from
the same cold start and imitates critiques that are the label of the checker:
the first wrong step, without a thought. Measured on solutions with one planted
slip (`slips`, which no solver wrote) and on the solver's own (`heldout`).

Expectation: the RL critic finds more first wrong steps, because it computes
before it says which.

Result (2026-11-23, 3 seeds): on the solver's own solutions the RL critic finds
as many first wrong steps as the critic of step labels (86 and 88 %; F1 91 and
90 %), without a step label, and the reward for verdicts alone leads to 52 %. It
does not find more of them. On planted slips no critic is better than guesses
that have not read the solution (F1 21 and 20 %, the commonest step 25 %;
verdicts 51 and 49 %): the solver errs on fixed facts and nowhere else, so all
of these critics learned its facts instead of comparing results. LOG.md has the
counts ("the critic learns its solver").
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('step_labels', 'cold_start', 'judge_only', 'rl'),
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
