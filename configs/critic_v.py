r"""Critic-V (https://arxiv.org/abs/2411.18203): pairs of critiques, and DPO.

The quickstart's base; then a critic imitates lists of errors that are seldom
complete, and learns by DPO which of its own lists are better:

  python -m critic_jax.train --config configs/critic_v.py --workdir runs/v

  critic_v  solutions in which 1 to 3 errors are planted; then, from the same
            start, solutions of the solver, whose errors are its own
  smollm2   SmolLM2 on solutions of GSM8K in whose equations 1 to 3 errors are
            planted (critic_jax/tasks/equations.py); not run for longer than a
            test
  tiny      two steps of each phase; for tests

The paper's beta and learning rate are unknown to us; the values here are ours.
"""

from configs import common, refcritic, sft


def get_config(arg='critic_v'):
  makers = dict(critic_v=critic_v, smollm2=smollm2, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def online_preference(**settings) -> dict:
  """The recipe's settings: planted errors, their overlap, and DPO."""
  section = dict(
    num_solutions=1,
    writer=planted('plant'),
    num_critiques=8,
    max_pairs=3,
    score=dict(judge=0.0, overlap=1.0, agreement=1.0),
    step_marks=dict(module='arithmetic_labels', name='step_marks'),
    preference={},  # the sum of the scores, and not wins by them
    objective=dict(name='dpo', beta=0.1, label_smoothing=0.0),
    aggregate='sequence',
    limits={
      # A chosen response may become less likely too, but not by far.
      'preference/chosen': dict(low=-20.0),
      'critique/missing': dict(high=0.5),
      'critique/truncated': dict(high=0.5),
    },
  )
  return section | settings


def planted(name, **settings) -> dict:
  """A function of solutions with 1 to 3 errors; every fifth has none."""
  slips = dict(max_slips=3, right_share=0.2)
  return dict(module='arithmetic_labels', name=name, **slips, **settings)


def critic_v():
  """One critic from planted errors, and one from the solver's own."""
  config = refcritic.quickstart()
  for role in ('ref', 'start'):
    config.models[role] = refcritic.tiny_role()
  phases = config.phases
  del phases.cold_start, phases.rl
  phases.imitate = common.phase(
    recipe='sft',
    train=('critic',),
    batch_size=64,
    **refcritic.IMITATION,
    copy=dict(critic='solver'),
    role='critic',
    row_shapes=((27, 192), (30, 192)),
    lessons=planted('errors_lesson', check_share=0.5, name_share=0.6),
  )
  phases.planted = common.phase(
    recipe='online_preference',
    train=('critic',),
    steps=40,
    learning_rate=1e-4,
    batch_size=32,
    copy=dict(ref='critic', start='critic'),
    records_every=5,
    row_shapes=((16, 416), (24, 416)),
    **online_preference(),
  )
  phases.own = phases.planted.copy_and_resolve_references()
  phases.own.copy = dict(critic='start', ref='start')
  phases.own.writer = dict(module='')
  config.order = ('quiz', 'solver', 'imitate', 'planted', 'own')
  for evaluation in config.evals.values():
    evaluation.after = ('imitate', 'planted', 'own')
  return config


def smollm2():
  """SmolLM2-135M-Instruct on GSM8K: imitation of lists, then DPO."""
  slips = dict(module='equations', max_slips=3, right_share=0.2)
  settings = dict(batch_size=4, microbatches=4, row_shapes=())
  pairs = online_preference(
    num_critiques=4,
    writer=slips | dict(name='plant'),
    step_marks=dict(module='equations', name='step_marks'),
  )
  role = dict(prompts='brief', prefix='Verdict:', max_new_tokens=64)
  return common.real(
    common.files(train=common.GSM8K),
    dict(
      critic=common.smollm2(adapters=True, **role),
      ref=common.smollm2(adapters=True, **role),
    ),
    dict(
      imitate=common.naming_slips(max_slips=3, right_share=0.2),
      planted=common.phase(
        recipe='online_preference',
        train=('critic',),
        steps=20,
        learning_rate=5e-5,
        copy=dict(ref='critic'),
        records_every=1,
        **settings,
        **pairs,
      ),
    ),
    data=common.solutions(test=common.MR_GSM8K),
    num_refinements=0,
  )


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = critic_v()
  # The others are SFT and planted's again; slips is in `evaluate.py:tiny`.
  config.order = ('imitate', 'planted')
  phases = config.phases
  del phases.quiz, phases.solver, config.evals.slips
  phases.imitate.copy = {}
  sft.shrink(config)
  phases.imitate.optimizer.learning_rate = 1e-2  # so that two steps show it
  config.models.critic.max_new_tokens = 48
  config.evals.heldout.update(
    after=config.order, num_examples=4, num_critiques=2
  )
  return config
