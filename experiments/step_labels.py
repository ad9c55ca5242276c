"""Does RL without step labels find the first wrong step as well as with them?

RefCritic claims to beat, on ProcessBench, critics that were fine-tuned on step
labels, with the labels of whole solutions only. From one cold start,
`step_labels` imitates critiques that are the label of the checker, the first
wrong step without a thought; `step_rl` is paid for the first wrong step itself
and for nothing else; `rl` has RefCritic's two rewards and `judge_only` the
verdict's, neither of which knows a step. (The base of all saw step labels: it
was taught to mark the student's lines.) Measured on solutions with one planted
slip (`slips`, which no solver wrote) and on the solver's own (`heldout`).

Expectation: the RL critic finds far more first wrong steps than the critic of
labels, as it computes before it says which; RL on step labels is no better than
RefCritic's rewards, as advice that is followed must name the step; the
verdict's reward alone finds fewer, as nothing asks to name one.

Result (2026-12-01, five seeds, means [least, greatest] in percent): without
labels nearly as well. First wrong steps found on the solver's own solutions: 18
[17, 20] by the critic of labels, 27 [16, 39] with the verdict's reward, 94 [91,
97] by RL on step labels, 93 [88, 96] by RefCritic's rewards, which is by seed
at most 3 points less. The critic of labels does not compute, and is at chance
on slips (50 [48, 53] of verdicts).
"""

from configs import grid

CONFIG = 'configs/evidence.py:critics'
GRID = grid.sweep('seed', [0, 1, 2, 3, 4])
TABLE = [
  dict(
    evaluation=evaluation,
    columns=('step_labels', 'cold_start', 'judge_only', 'step_rl', 'rl'),
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
