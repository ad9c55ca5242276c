r"""PPO (https://arxiv.org/abs/1707.06347) with a learned value function.

A solver of the embedded world imitates worked solutions for a while and then
learns from its own:

  python -m critic_jax.train --config configs/ppo.py --workdir runs/ppo

The value model begins as a copy of the imitator with a head of its own.

  ppo           the answer is paid, at the last token
  fine_grained  each line is paid, too, where it ends: for the operation that
                the story asks for, and for a true result, with weights of their
                own (https://arxiv.org/abs/2306.01693)
  tiny          two steps of each phase of `fine_grained`; for tests

The settings are not tuned: only `tiny` was run.
"""

from configs import common, sft


def get_config(arg='ppo'):
  makers = dict(ppo=ppo, fine_grained=fine_grained, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def ppo():
  """Imitation, then PPO."""
  config = sft.arithmetic()
  config.models.value = sft.role(head='value')
  config.phases.solver = sft.solver_phase(230)
  config.phases.rl = common.phase(
    recipe='ppo',
    train=('solver', 'value'),
    steps=100,
    learning_rate=3e-4,
    batch_size=64,
    epochs=2,
    records_every=10,
    copy=dict(value='solver'),
    row_shapes=((32, 224), (40, 224)),
    num_solutions=4,
    segment_rewards={},
    discount=1.0,
    lambda_=0.95,
    bootstrap_cut=False,  # True: a value follows solutions that were cut off
    objective=dict(name='ppo_clip', clip_low=0.2, clip_high=0.2),
    value_loss=dict(name='clipped', clip=0.2),
    value_coef=0.5,
    kl=dict(name='k3', coef=0.0),
  )
  config.order = ('solver', 'rl')
  return config


def fine_grained():
  """PPO with rewards of each line, of two kinds, beside the answer's."""
  config = ppo()
  config.phases.rl.segment_rewards = {
    kind: dict(module='arithmetic_labels', name=f'rewarded_{kind}', weight=w)
    for kind, w in (('operations', 0.3), ('results', 0.5))
  }
  return config


def tiny():
  """Two steps of each phase with the smallest models; for tests."""
  config = sft.shrink(fine_grained())
  config.phases.rl.num_solutions = 2
  return config
