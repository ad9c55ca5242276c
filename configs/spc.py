r"""SPC (https://arxiv.org/abs/2504.19162): an attacker and a critic, in rounds.

The quickstart's base and its cold start. An attacker begins with slips at the
step that it is told; then critics and the attacker learn in turn:

  python -m critic_jax.train --config configs/spc.py --workdir runs/spc

  spc   two rounds, the second against attackers of both
  arms  critics of as many steps, for experiments/spc.py: against one attacker
        for ever (`fixed`), against that of the round (`same`), against those of
        both rounds (`mixed`), and on the solver's own errors (`own`)
  smollm2  a round of SmolLM2 on solutions of GSM8K; both begin with slips in
        equations, and an attack counts if the answer is wrong and the
        told line is the first whose equation fails (tasks/equations.py); not
        run for longer than a test
  tiny  two steps of each phase; for tests

The ratio normalised by length, its clip of 0.2, the rewards of 1 and -1 and the
number of rounds are as we read them in its code, where the script names a KL of
0.1 that the loss leaves out: `kl.coef` is 0 here. There updates are offline,
without a baseline, against the first critic, and beside imitation; here each
step plays anew. Learning rate, steps and group sizes are ours.
"""

from configs import common, refcritic, sft

ORDER = 'Make step {} wrong.'


def get_config(arg='spc'):
  makers = dict(spc=spc, arms=arms, smollm2=smollm2, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def self_play(learner, **settings) -> dict:
  """The recipe's settings: one attacker, one critic."""
  section = common.policy_gradient() | dict(
    learner=learner,
    attackers=('attacker',),
    critics=('critic',),
    order=ORDER,
    writer=dict(
      module='arithmetic_labels', name='plant', max_slips=1, right_share=1.0
    ),
    first_error=dict(module='arithmetic', name='first_error'),
    num_attacks=8 if learner == 'attacker' else 1,
    num_critiques=1 if learner == 'attacker' else 8,
    objective=dict(name='gspo', clip_low=0.2, clip_high=0.2),
    aggregate='sequence',
  )
  section['limits'] = common.policy_limits() | {
    'critique/called_wrong': dict(low=0.02, high=0.98),
    'critique/missing': dict(high=0.5),
    'attack/breaks': dict(low=0.1),
  }
  return section | settings


def phase(learner, steps=40, **settings) -> dict:
  """A phase in which one side learns."""
  copy = settings.pop('copy', {})
  return common.phase(
    recipe='self_play',
    train=(learner,),
    steps=steps,
    batch_size=16 if learner == 'critic' else 32,
    copy=copy,
    records_every=5,
    row_shapes=((64, 208), (80, 208)),
    learning_rate=refcritic.RL_RATE,
    **self_play(learner, **settings),
  )


def base():
  """The quickstart up to both players' starts, its RL left out."""
  config = refcritic.quickstart()
  for role in ('attacker', 'attacker_0'):
    config.models[role] = refcritic.tiny_role()
  phases = config.phases
  del phases.rl
  phases.attack_start = common.phase(
    recipe='sft',
    train=('attacker',),
    batch_size=32,
    **refcritic.IMITATION,
    copy=dict(attacker='solver'),
    role='attacker',
    row_shapes=((18, 208), (22, 208)),
    lessons=dict(module='arithmetic_labels', name='attack_lesson', order=ORDER),
  )
  config.order = ('quiz', 'solver', 'cold_start', 'attack_start')
  return config


def measured(config, after):
  """The config with its evaluations after these phases."""
  for evaluation in config.evals.values():
    evaluation.after = after
  return config


def spc():
  """Two rounds; the critic of the second meets the attackers of both."""
  config = base()
  both = 'attacker_0', 'attacker'
  config.phases.critic_1 = phase('critic')
  config.phases.attacker_1 = phase('attacker', copy=dict(attacker_0='attacker'))
  config.phases.critic_2 = phase('critic', attackers=both)
  config.phases.attacker_2 = phase('attacker')
  config.order += 'critic_1', 'attacker_1', 'critic_2', 'attacker_2'
  return measured(config, ('cold_start', 'critic_1', 'critic_2'))


def arms():
  """Critics after as many steps, from one cold start and one first round."""
  config = spc()
  for role in ('cold', 'critic_1'):
    config.models[role] = refcritic.tiny_role()
  phases = config.phases
  phases.critic_1.copy = dict(cold='critic')
  phases.attacker_1.copy = dict(attacker_0='attacker', critic_1='critic')
  phases.mixed = phases.critic_2
  del phases.critic_2, phases.attacker_2
  phases.same = phase('critic', copy=dict(critic='critic_1'))
  phases.fixed = phase(
    'critic', attackers=('attacker_0',), copy=dict(critic='critic_1')
  )
  own = refcritic.refcritic(refine_weight=0.0, misjudge_weight=1.0)
  phases.own = common.phase(
    recipe='refcritic',
    train=('critic',),
    steps=80,
    batch_size=32,
    copy=dict(critic='cold'),
    records_every=5,
    row_shapes=((64, 208), (80, 208)),
    learning_rate=refcritic.RL_RATE,
    **own,
  )
  order = 'critic_1', 'attacker_1', 'mixed', 'same', 'fixed', 'own'
  config.order = (*config.order[:4], *order)
  return measured(config, ('cold_start', 'critic_1', *order[2:]))


def smollm2():
  """SmolLM2-135M-Instruct, both players adapters of it, on GSM8K."""
  settings = dict(batch_size=4, microbatches=4, row_shapes=(), records_every=1)
  slips = dict(max_slips=1, right_share=0.5)
  return common.real(
    common.files(train=common.GSM8K),
    dict(
      attacker=common.smollm2(adapters=True),
      critic=common.smollm2(adapters=True, prompts='brief', prefix='Verdict:'),
    ),
    dict(
      attack_start=common.naming_slips(
        'attacker', 'attack_lesson', order=ORDER
      ),
      critic_start=common.naming_slips(**slips),
      critic_1=phase('critic', steps=20, **_by_numbers()) | settings,
      attacker_1=phase('attacker', steps=20, **_by_numbers()) | settings,
    ),
    data=common.solutions(test=common.MR_GSM8K),
    num_refinements=0,
  )


def _by_numbers() -> dict:
  """Who solves, and who knows wrong steps, on real rows."""
  return dict(
    writer=dict(module='equations', name='plant', max_slips=1, right_share=1.0),
    first_error=dict(module='equations', name='first_error'),
  )


def tiny():
  """Two steps of a round with the smallest models; for tests."""
  config = spc()
  both = 'attacker_0', 'attacker'
  config.phases.critic_1.update(attackers=both)
  config.order = ('solver', 'critic_1', 'attacker_1')
  phases = config.phases
  for name in set(phases) - set(config.order):
    del phases[name]
  del config.evals.slips
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # texts are longer with its tokenizer
  phases.critic_1.num_critiques = phases.attacker_1.num_attacks = 2
  for name in config.order[1:]:  # else nothing that they write counts
    phases[name].first_error = dict(module='', name='')
  for role in config.models:
    config.models[role].max_new_tokens = 48
  config.evals.heldout.update(
    after=config.order[1:2], num_examples=4, num_critiques=2
  )
  return config
