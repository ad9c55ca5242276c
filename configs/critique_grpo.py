r"""Critique-GRPO (https://arxiv.org/abs/2506.03106): a solver that is helped.

The quickstart's solver and its critic, trained by RL; then the solver learns
from its own solutions and from one refinement among those of each problem:

  python -m critic_jax.train --config configs/critique_grpo.py \
      --workdir runs/critique_grpo

The variants are arms from one start, which differ in who joins a group; 14
solutions of a problem have as many tokens as 4 with critiques and refinements:

  critique    4 solutions; one of 4 refinements by the critic's critiques
  own         the same by the solver's own critiques
  verdict     7; one of 7 refinements by the verdict alone
  leaked      7; one of 7 refinements by the verdict and the right answer, which
              is what the paper's code does where it is not told otherwise
  extra       7; one of 7 more solutions
  reference   14; the problem's own solution (LUFFY,
              https://arxiv.org/abs/2504.14945)
  grpo        14; nobody
  arms        all of them, one after another
  smollm2     `own` of SmolLM2 on GSM8K's problems, whose own solution joins
              where no refinement is right; not run for longer than a test
  tiny        two steps with the smallest models; for tests

As in the paper, advantages are not divided by a deviation, nor losses by a
length, and f(p) = p / (p + 0.1) weighs the refinement's tokens. Its bonus for
entropy is not here, and its missing clip is no difference: each batch is
learned from once. Learning rate, batches and steps are ours.
"""

from configs import common, refcritic, sft

LEAKED = dict(module='labels', name='leaked_answer')
VERDICT = dict(module='labels', name='critique', verdict_first=False)
ARMS = dict(
  critique=dict(num_solutions=4),
  own=dict(num_solutions=4, critic='solver'),
  verdict=dict(num_solutions=7, writer=VERDICT),
  leaked=dict(num_solutions=7, writer=LEAKED),
  extra=dict(num_solutions=7, num_refinements=0, num_extra=7),
  reference=dict(num_solutions=14, num_refinements=0, use_reference=True),
  grpo=dict(num_solutions=14),
)
# By solutions of a problem: what holds most batches, and what holds nearly all.
ROW_SHAPES = {
  4: ((7, 416), (8, 416)),
  7: ((10, 416), (14, 416)),
  14: ((16, 416), (20, 416)),
}


def get_config(arg='critique'):
  makers = dict(arms=arms, smollm2=smollm2, tiny=tiny)
  makers |= {name: lambda name=name: only(name) for name in ARMS}
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def policy_gradient() -> dict:
  """The settings that all arms share: Dr. GRPO's."""
  return common.policy_gradient() | dict(
    advantage=dict(name='group_relative', normalize=False),
    aggregate='constant',
  )


def critique_grpo(**settings) -> dict:
  """The recipe's settings."""
  section = policy_gradient() | dict(
    num_solutions=4,
    num_refinements=1,
    num_extra=0,
    use_reference=False,
    critic='critic',
    writer=dict(module=''),  # the critic itself
    gate='always',
    off_policy=dict(name='shaped', gamma=0.1),
  )
  section['limits'] = common.policy_limits() | {
    # Others saw both grow without end where critiques were left out.
    'policy/entropy': dict(high=3.0, relative=True),
    'policy/off_policy_gap': dict(high=0.5),
    'critique/leak': dict(high=0.9),
    'critique/truncated': dict(high=0.5),
  }
  return section | settings


def arm(name) -> dict:
  """The phase of an arm, from the solver as it was before all arms."""
  settings = ARMS[name]
  if name == 'grpo':
    recipe, section = 'grpo', policy_gradient() | common.solver_rewards()
    section |= settings
  else:
    recipe, section = 'critique_grpo', critique_grpo(**settings)
  return common.phase(
    recipe=recipe,
    train=('solver',),
    steps=40,
    learning_rate=3e-4,
    batch_size=16,
    copy=dict(solver='start'),
    records_every=10,
    row_shapes=ROW_SHAPES[settings['num_solutions']],
    **section,
  )


def arms(names=tuple(ARMS)):
  """The quickstart, then each of these arms from its solver."""
  config = refcritic.quickstart()
  config.models.start = refcritic.tiny_role()
  config.phases.rl.copy = dict(start='solver')
  for name in names:
    config.phases[name] = arm(name)
  config.order = (*config.order, *names)
  del config.evals.slips
  config.evals.heldout = common.evaluation(
    after=('rl', *names), num_solutions=4, num_critiques=1, controls=False
  )
  return config


def only(name):
  """The quickstart, then one arm."""
  return arms((name,))


def smollm2():
  """SmolLM2-135M-Instruct, which is its own critic, on GSM8K."""
  section = arm('own') | dict(
    steps=20,
    copy={},
    batch_size=2,
    microbatches=2,
    row_shapes=(),
    records_every=1,
    use_reference=True,
  )
  return common.real(
    common.files(train=common.GSM8K),
    dict(solver=common.smollm2(adapters=True, temperature=1.0)),
    dict(own=section),
    num_critiques=0,
    num_refinements=0,
  )


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = only('critique')
  # The others are the quickstart's.
  config.order = ('solver', 'critique')
  phases = config.phases
  del phases.quiz, phases.cold_start, phases.rl, config.models.start
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # longer texts do not fit
  # Untrained models solve nothing: the reference joins.
  phases.critique.copy = dict(critic='solver')
  phases.critique.update(num_solutions=2, use_reference=True)
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(
    after=('critique',), num_examples=4, num_solutions=2
  )
  return config
