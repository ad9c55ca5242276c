"""Do supervised critics stay superficial, and do RL critics not?

RefCritic's motivating observation (https://arxiv.org/abs/2507.15024): critics
after supervised fine-tuning write what looks like a critique and do not verify.
In the embedded world that can be seen: a critique works the steps out anew, or
it says that they look right (`critic_jax/tasks/arithmetic_labels.py:describe`).

Expectation: more of the same imitation (`more_sft`, as many steps again as the
cold start) leaves the share of critiques that compute at the teacher's, which
is 25 %, and the verdicts with it; RL raises it to nearly all, with the reward
for verdicts alone, too.

Result (2026-12-01, five seeds, means [least, greatest] in percent): as
expected. Of the critiques 41 [38, 44] compute after the cold start, 38 [35, 41]
after as much imitation again, 100 [100, 100] and 100 [100, 100] after RL with
the verdict's reward alone and with both. Balanced verdicts: 70 [69, 72], 70
[69, 71], 96 [94, 98] and 97 [95, 97].
"""

from configs import grid

CONFIG = 'configs/evidence.py:critics'
GRID = grid.sweep('seed', [0, 1, 2, 3, 4])
TABLE = dict(
  evaluation='heldout',
  columns=('cold_start', 'more_sft', 'judge_only', 'rl'),
  metrics=(
    'critiques that compute',
    'critiques that name a step, if wrong',
    'critiques that correct a step, if wrong',
    'balanced verdict accuracy',
    'refined right, wrong solutions',
    'critique length in tokens',
  ),
)
