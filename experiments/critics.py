"""Which of the systems' critics judges, finds and helps best in one world?

All begin with the same solver, and those without a start of their own with the
same cold start: RefCritic (both rewards), FAPO (the first wrong step by its
distance), DeepSeekMath-V2 (verdicts whose reasons are so), ECHO (gains), and
Critique-RL (verdicts, then refinements) by RL of as many critiques; SPC against
an attacker who learns; Critic-V by DPO on its lists of planted errors;
DeepCritic by imitation of second looks and RL on step labels; GenPRM by
imitation of a teacher who works out every line. Each phase is that of the
system's config; it was not tuned here.

Expectation: all who work lines out in the end judge alike, within the
intervals; refinements part those who are paid for them (RefCritic, ECHO,
Critique-RL) from the others by 10 points or more, for paid advice names the
result; the first wrong step is found by whoever is paid for it or for
refinements; GenPRM's teacher is the ceiling of the others in verdicts.
RefCritic spends more tokens than the cold start and fewer than DeepCritic.

Result: not asked yet.
"""

from configs import critics, grid

CONFIG = 'configs/critics.py:critics'
GRID = grid.sweep('seed', [0, 1, 2])
COLUMNS = 'cold_start', *critics.SYSTEMS
TABLE = [
  dict(
    evaluation='heldout',
    columns=COLUMNS,
    metrics=(
      'balanced verdict accuracy',
      'first wrong step found',
      'right solutions passed',
      'refined right, wrong solutions',
      'lift over no critique',
      'accuracy after critique and refine',
      'critique length in tokens',
    ),
  ),
  dict(
    evaluation='slips',
    columns=COLUMNS,
    metrics=('balanced verdict accuracy', 'critiques that compute'),
  ),
]
