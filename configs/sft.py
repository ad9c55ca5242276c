r"""Imitation of worked solutions in the embedded world.

A few minutes on 2 CPU cores:

  python -m critic_jax.train --config configs/sft.py --workdir runs/sft

configs/grpo.py and configs/ppo.py begin with a phase like this, only shorter.
"""

from configs import common


def get_config(arg='arithmetic'):
  makers = dict(arithmetic=arithmetic, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def role(**settings) -> dict:
  """A model of the embedded world."""
  return common.model(
    'tiny',
    tokenizer=dict(module='arithmetic_tokenizer', name='tokenizer'),
    max_new_tokens=48,
    lengths=(32, 64, 80, 96),
    **settings,
  )


def solver_phase(steps) -> dict:
  """Imitation of the problems' own solutions."""
  return common.phase(
    recipe='sft',
    train=('solver',),
    steps=steps,
    learning_rate=3e-3,
    batch_size=32,
    schedule='linear',
    role='solver',
    row_shapes=((6, 224), (8, 224)),
    lessons=dict(module='lessons', name='reference'),
  )


def arithmetic():
  """A solver of the embedded world that imitates right solutions."""
  config = common.base()
  config.data = dict(
    name='arithmetic', seed=0, min_steps=2, max_steps=3, num_train=20_000
  )
  config.models = dict(solver=role())
  config.phases = dict(solver=solver_phase(400))
  config.order = ('solver',)
  return config


def tiny():
  """Two steps with the smallest model; for tests."""
  return shrink(arithmetic())


def shrink(config):
  """The config with the smallest models and two steps of each phase."""
  config.compile_ahead = False  # takes longer than the steps
  config.data.num_train = 64
  for role in config.models:
    config.models[role].size = 'nano'
    config.models[role].tokenizer.vocab_size = 640
    config.models[role].tokenizer.num_problems = 50
    config.models[role].lengths = (128,)
  for phase in config.phases.values():
    phase.steps, phase.batch_size = 2, 4
    # Rows of both kinds.
    phase.row_shapes = () if phase.recipe == 'sft' else ((4, 512),)
    phase.optimizer.warmup_steps = 0
    # Muon's update is a longer program.
    phase.optimizer.update(name='adamw', adam_fraction=1.0)
    rate = min(phase.optimizer.learning_rate, 3e-3)
    phase.optimizer.learning_rate = rate
  return config
