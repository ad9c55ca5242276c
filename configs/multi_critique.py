r"""MultiCritique (https://arxiv.org/abs/2410.15287): critics and refiners.

The quickstart's base; then a critic imitates what three critics of different
skill say together, each point judged, and learns by DPO which of its critiques
three refiners of different skill do better with:

  python -m critic_jax.train --config configs/multi_critique.py \
      --workdir runs/multi

  multi_critique  both stages
  arms            and others to compare: a start from the best of the three
                  critiques, and from any of them; and from the start of
                  `several` as many refinements by one refiner, `one`; for
                  experiments/multi_critique.py
  smollm2         both stages of SmolLM2 on GSM8K's problems; it begins with
                  slips in equations, all named, and its refiners are
                  SmolLM2 at three temperatures; not run for longer than a
                  test
  tiny            two steps of each phase; for tests

In evaluations `solver` refines; what it makes of a critique pays nobody. The
critics and the judge are rules (critic_jax/tasks/README.md); the refiners are
the solver after some more lessons. The paper trains a reward model, then PPO;
learning rates, steps, shares and the margin are ours, and not tuned: only
`tiny` was run.
"""

from configs import common, critic_v, refcritic, sft

# The shares of facts that are hard: of the critics, and of the refiners.
SKILLS = dict(first=0.1, second=0.2, third=0.4)


def get_config(arg='multi_critique'):
  makers = dict(
    multi_critique=multi_critique, arms=arms, smollm2=smollm2, tiny=tiny
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def preference(**settings) -> dict:
  """The recipe's settings."""
  section = dict(
    num_solutions=1,
    num_critiques=8,
    refiners=tuple(SKILLS),
    num_refinements=2,  # by each of them
    gate='called_wrong',  # the paper: always
    margin=0.2,  # two of six refinements
    max_pairs=3,
    corrections=dict(module='arithmetic_points', name='corrections'),
    objective=dict(name='dpo', beta=0.1, label_smoothing=0.0),
    aggregate='sequence',
    limits=critic_v.online_preference()['limits'],
  )
  return section | settings


def start(name, **writer) -> dict:
  """Imitation of a text that three critics give, from the base."""
  return common.phase(
    recipe='cold_start',
    train=('critic',),
    batch_size=64,
    **refcritic.IMITATION,
    copy=dict(critic='solver'),
    num_solutions=1,
    num_critiques=2,
    row_shapes=((28, 192), (36, 192)),
    writer=dict(
      module='arithmetic_points',
      name=name,
      hard_shares=tuple(SKILLS.values()),
      **writer,
    ),
  )


def pairs(copy, **settings) -> dict:
  """DPO on pairs of critiques from a start."""
  return common.phase(
    recipe='multi_critique',
    train=('critic',),
    steps=40,
    learning_rate=1e-4,
    batch_size=32,
    copy=copy,
    records_every=5,
    row_shapes=((16, 512), (20, 512)),
    **preference(**settings),
  )


def multi_critique():
  """Merged critiques, then pairs by what several refiners make of them."""
  config = refcritic.quickstart()
  del config.phases.cold_start, config.phases.rl
  config.models.ref = refcritic.tiny_role()
  for role, hard_share in SKILLS.items():
    config.models[role] = refcritic.tiny_role()
    lessons = config.phases.solver.copy_and_resolve_references()
    lessons.update(train=(role,), role=role, steps=100, copy={role: 'solver'})
    lessons.lessons.hard_share = hard_share
    config.phases[role] = lessons
  config.phases.merged = start('merged', judge_error=0.1)
  config.phases.several = pairs(dict(ref='critic'))
  config.order = ('quiz', 'solver', *SKILLS, 'merged', 'several')
  return measured(config, 'merged', 'several')


def measured(config, *phases):
  """The config with its evaluations after some phases."""
  for evaluation in config.evals.values():
    evaluation.after = phases
  return config


def arms():
  """Three starts from one base, and two kinds of pairs from one start."""
  config = multi_critique()
  config.models.start = refcritic.tiny_role()
  phases = config.phases
  phases.several.copy.start = 'critic'
  phases.one = pairs(
    dict(critic='start', ref='start'),
    refiners=('second',),  # of the solver's skill
    num_refinements=6,
  )
  phases.best_single = start('best_single', judge_error=0.1)
  phases.unmerged = start('unmerged')
  others = 'one', 'best_single', 'unmerged'
  config.order += others
  return measured(config, 'merged', 'several', *others)


def smollm2():
  """SmolLM2-135M-Instruct as solver, critic and three refiners, on GSM8K.

  Differences of one refinement in six make pairs; where none is right, as of a
  model this small, there are none.
  """
  temperatures = dict(zip(SKILLS, (0.2, 0.7, 1.0), strict=True))
  section = pairs(
    dict(ref='critic'), num_critiques=4, gate='always', margin=0.1
  )
  section['corrections'] = dict(module='')
  section |= dict(
    batch_size=2, microbatches=2, row_shapes=(), steps=20, records_every=1
  )
  refiners = {
    role: common.smollm2(temperature=temperature)
    for role, temperature in temperatures.items()
  }
  return common.real(
    common.files(train=common.GSM8K),
    dict(
      solver=common.smollm2(temperature=0.2),
      critic=common.smollm2(adapters=True, prompts='brief', temperature=1.0),
      ref=common.smollm2(adapters=True, prompts='brief'),
      **refiners,
    ),
    dict(
      imitate=common.naming_slips(max_slips=3, right_share=0.2),
      several=section,
    ),
  )


def tiny():
  """Two steps of the phases with the smallest models; for tests."""
  config = multi_critique()
  config.order = ('solver', 'merged', 'several')
  phases = config.phases
  del phases.quiz, config.evals.slips
  for role in SKILLS:
    del phases[role]
  del config.models.second, config.models.third
  sft.shrink(config)
  phases.solver.lessons.max_steps = 4  # texts are longer with its tokenizer
  for role in config.models:
    config.models[role].max_new_tokens = 48
  phases.several.copy.first = 'solver'
  phases.several.update(refiners=('solver', 'first'), num_refinements=1)
  config.evals.heldout.update(
    after=('merged', 'several'), num_examples=4, num_critiques=2
  )
  return config
