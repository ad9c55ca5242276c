r"""SPCT (https://arxiv.org/abs/2504.02495): a critic scores several responses.

DeepSeek-GRM's flow in the embedded world. A critic reads three solutions of a
student to one problem and writes principle, critique and scores in one text. It
learns to work lines out from a teacher who always does; then it gets a cold
start by rejective fine-tuning on one who mostly guesses, and RL on the rule
that the best response has the highest score. A meta-judge learns which of its
texts are right, and filters votes:

  python -m critic_jax.train --config configs/spct.py --workdir runs/spct

  spct  all of it; choices by 1 to 16 votes, plain and filtered
  tiny  two steps of each phase; for tests

The range, the rule's rewards of 1 and -1, ties that are false, no reward of the
form, four texts a slate, the KL of 0.08 (of 27B; 16B has 0.002), samples at a
temperature of 0.5 and a filter that keeps half are the paper's, as others
describe it. Its meta-judge is a classifier; here it is a scalar head that
learns from pairs. Learning rates, steps and shares of the teacher are ours, and
not tuned: only `tiny` was run.
"""

from configs import common, refcritic, reward_model, sft


def get_config(arg='spct'):
  makers = dict(spct=spct, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def role(**settings) -> dict:
  """A model that reads slates and writes about them."""
  longer = dict(prompts='slates', max_new_tokens=208, lengths=(208,))
  return refcritic.tiny_role() | longer | settings


def rejective(check_share, **settings) -> dict:
  """The settings of rejective fine-tuning on a teacher's texts."""
  section = dict(
    num_solutions=0,  # the data gives slates
    num_critiques=4,
    num_hinted=1,
    drop_easy=True,
    # Or '', for the critic itself.
    writer=dict(
      module='arithmetic_slates',
      name='teacher_scores',
      check_share=check_share,
    ),
  )
  return section | settings


def ranking(**settings) -> dict:
  """The settings of RL on the rule: 1 if the scores are right, else -1."""
  section = refcritic.refcritic(
    num_solutions=0,
    num_critiques=4,
    num_refinements=0,
    num_controls=0,
    misjudge_weight=1.0,
    refine_weight=0.0,
    kl=dict(name='k3', coef=0.08),
  )
  section['limits'] = common.policy_limits() | {
    'critique/judge': dict(low=0.1),
    'critique/missing': dict(high=0.5),
    'critique/contradictory': dict(high=0.2),
    'critique/truncated': dict(high=0.5),
  }
  return section | settings


def phases() -> dict:
  """The phases of a critic of slates, and of the judge of its texts."""
  return dict(
    checks=common.phase(
      recipe='rejective_sft',
      train=('critic',),
      steps=700,
      until={'loss/nll': dict(high=0.02)},
      learning_rate=1.2e-2,
      optimizer='muon',
      adam_fraction=0.25,
      batch_size=40,
      row_shapes=((36, 416), (40, 416)),
      **rejective(1.0, num_critiques=1, num_hinted=0, drop_easy=False),
    ),
    cold_start=common.phase(
      recipe='rejective_sft',
      train=('critic',),
      steps=60,
      learning_rate=4e-3,
      optimizer='muon',
      adam_fraction=0.25,
      batch_size=32,
      schedule='linear',
      row_shapes=((24, 416), (32, 416)),
      **rejective(0.25),
    ),
    rl=common.phase(
      recipe='refcritic',
      train=('critic',),
      steps=40,
      learning_rate=1e-3,
      optimizer='muon',
      adam_fraction=0.25,
      batch_size=32,
      copy=dict(ref='critic'),
      records_every=5,
      row_shapes=((32, 1040),),  # a slate and its texts a row
      **ranking(),
    ),
    meta=common.phase(
      recipe='reward_model',
      train=('meta',),
      steps=60,
      learning_rate=1e-3,
      batch_size=32,
      schedule='linear',
      copy=dict(meta='critic'),
      **reward_model.reward_model(role='meta', stage='critique'),
    ),
  )


def votes(after, temperature=0.5, **settings) -> dict:
  """Choices by votes on held-out slates, each in other random orders."""
  return common.evaluation(
    after=after,
    num_examples=0,
    num_critiques=1,
    num_refinements=0,
    sampling=dict(critic=dict(temperature=temperature)),
    **settings,
  )


def spct():
  """A critic of slates, from nothing to votes that a meta-judge filters."""
  config = common.base()
  config.data = dict(
    name='slates',
    seed=2,
    min_steps=2,
    max_steps=3,
    num_train=20_000,
    num_test=100,
    num_responses=3,  # of which one is right
    num_right=1,
    hard_share=0.2,
    low=1,
    high=10,
    tolerance=0,
    num_orders=16,  # votes on each slate of the test
  )
  config.models = dict(critic=role(), ref=role(), meta=role(head='reward'))
  config.phases = phases()
  config.order = ('checks', 'cold_start', 'rl', 'meta')
  config.evals.votes = votes(('cold_start', 'rl'))
  # Votes that differ by the order of responses alone.
  config.evals.greedy = votes(('rl',), temperature=0.0)
  config.evals.filtered = votes(
    ('meta',),
    reward_model=dict(roles=('meta',), name='average', stage='critique'),
  )
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests.

  An untrained critic has no right texts, so that pairs are a teacher's.
  """
  config = spct()
  config.data.update(max_steps=2, num_responses=2, num_test=2, num_orders=2)
  config.order = ('cold_start', 'rl', 'meta')
  del config.phases.checks, config.evals.greedy
  sft.shrink(config)
  for name in config.models:
    config.models[name].update(max_new_tokens=112, lengths=(192,))
  teacher = rejective(0.0)['writer']
  config.phases.cold_start.writer = teacher
  config.phases.rl.num_critiques = 2
  config.phases.meta.update(num_responses=4, writer=teacher)
  for evaluation in config.evals.values():  # read again they may be longer
    evaluation.sampling.critic.max_new_tokens = 32
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  return config
