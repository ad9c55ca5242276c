r"""A process reward model, by Monte-Carlo labels, and what it finds.

The quickstart's solver; then a model, which begins as a copy of it, learns to
judge each line of its solutions, by what the solver makes of their beginnings:

  python -m critic_jax.train --config configs/process_reward.py \
      --workdir runs/steps

  completed  Monte-Carlo labels, by relative progress (GenPRM,
             https://arxiv.org/abs/2504.00891)
  labelled   the checker's labels, as people's would be
             (https://arxiv.org/abs/2305.20050)
  smollm2    SmolLM2 with a scalar head on the labels of PRM800K and MR-GSM8K;
             not run for longer than a test
  tiny       two steps of each phase; for tests

The settings are not tuned: only `tiny` was run.
"""

from configs import common, refcritic, sft


def get_config(arg='completed'):
  makers = dict(
    completed=completed, labelled=labelled, smollm2=smollm2, tiny=tiny
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def process_reward(**settings) -> dict:
  """The recipe's settings."""
  section = dict(
    role='steps',
    num_solutions=1,
    # The truth, with which the labels are compared.
    first_error=dict(module='arithmetic', name='first_error'),
    completions=dict(num=8, max_steps=6, labels=dict(name='ratio')),
    objective=dict(name='cross_entropy'),
    limits={'step/score': dict(low=0.02, high=0.98)},
  )
  return section | settings


def completed():
  """The solver, and a process reward model of its completions."""
  config = refcritic.quickstart()
  config.models = dict(
    solver=refcritic.tiny_role(),
    steps=refcritic.tiny_role() | dict(head='reward'),
  )
  phases = config.phases
  del phases.cold_start, phases.rl
  phases.steps = common.phase(
    recipe='process_reward',
    train=('steps',),
    batch_size=64,
    **refcritic.IMITATION,
    copy=dict(steps='solver'),
    records_every=10,
    row_shapes=((22, 192), (26, 192)),
    **process_reward(),
  )
  config.order = ('quiz', 'solver', 'steps')
  config.evals = dict(
    heldout=steps_of(num_solutions=8),
    slips=steps_of(data=refcritic.slips(())['data']),
  )
  return config


def steps_of(**settings) -> dict:
  """An evaluation in which the model judges, and chooses the best solution."""
  return common.evaluation(
    after=('steps',),
    num_critiques=0,
    num_refinements=0,
    first_error=dict(module='arithmetic', name='first_error'),
    step_scores=dict(role='steps', aggregate='minimum'),
    **settings,
  )


def labelled():
  """The same, by the checker's labels."""
  config = completed()
  config.phases.steps.completions.num = 0
  return config


def smollm2():
  """SmolLM2-135M-Instruct judges steps that people labelled."""
  section = common.phase(
    recipe='process_reward',
    train=('steps',),
    steps=200,
    learning_rate=5e-4,
    batch_size=16,
    microbatches=2,
    records_every=10,
    **process_reward(num_solutions=0, first_error=dict(module='', name='')),
  )
  section['completions'] = section['completions'] | dict(num=0)
  return common.real(
    common.solutions(train=f'{common.PRM800K},{common.MR_GSM8K}'),
    # A solution with more tokens teaches nothing.
    dict(
      steps=common.smollm2(
        adapters=True, head='reward', max_new_tokens=1024, lengths=(385,)
      )
    ),
    dict(steps=section),
    num_critiques=0,
    num_refinements=0,
    step_scores=dict(role='steps', aggregate='minimum'),
  )


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = completed()
  config.order = ('solver', 'steps')
  del config.phases.quiz
  sft.shrink(config)
  config.phases.solver.lessons.max_steps = 4
  config.phases.steps.completions.num = 2
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(num_examples=4, num_solutions=2)
  del config.evals.slips
  return config
