"""Do supervised critics stay superficial, and do RL critics not?

RefCritic's motivating observation (https://arxiv.org/abs/2507.15024): critics
after supervised fine-tuning write what looks like a critique and do not verify.
In the embedded world that can be seen: a critique computes the steps anew, or
it says that they look right (`critic_jax/tasks/arithmetic_labels.py:describe`).

Expectation: more of the same imitation (`more_sft`, as many steps again as the
cold start) makes verdicts better and leaves the share of critiques that compute
where it is, as the teacher's share is what is imitated; RL raises it to nearly
all.

Result (2026-11-23, 3 seeds): as expected. 51 % of the critiques compute after
the cold start, 55 % after as much imitation again, 99 % after RL, with the
reward for verdicts alone, too. Imitation does make the verdicts better (76 to
90 %): those that only glance are right 58 % of the time after the cold start
and 68 to 91 % after more of it. Without computing they see which facts this
solver gets wrong; see experiments/step_labels.py.
"""

from configs import grid

CONFIG = 'configs/refcritic.py:evidence'
GRID = grid.sweep('seed', [0, 1, 2])
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
