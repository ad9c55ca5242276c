r"""Label Critic (https://arxiv.org/abs/2411.02753): a judge of pairs.

SPCT's critic of slates (configs/spct.py), here of two solutions, one of which
is right: a judge. It learns to work lines out, then to mostly guess, as its
teacher does, and then by RL. It is shown each pair in both orders, and abstains
where its answers disagree:

  python -m critic_jax.train --config configs/label_critic.py \
      --workdir runs/label_critic

  label_critic  a judge of pairs; `swaps/...` of its evaluation
  tiny          two steps of the cold start; for tests

The paper's judge is a large vision-language model that is not trained, and
compares labels of organs; that pairs which nearly agree are skipped, and its
tournament of several labels, are not here. Steps, shares and learning rates are
SPCT's, and ours: only `tiny` was run.
"""

from configs import spct


def get_config(arg='label_critic'):
  makers = dict(label_critic=label_critic, tiny=tiny)
  if arg not in makers:
    raise ValueError(f'config: got {arg!r}; expected one of {sorted(makers)}')
  return makers[arg]()


def label_critic():
  """A judge of two solutions, after each phase."""
  config = spct.spct()
  del config.phases.meta, config.models.meta
  del config.evals.greedy, config.evals.filtered
  # An order is drawn for each of 16 showings: both are there.
  config.data.update(num_responses=2, num_orders=16)
  config.order = ('checks', 'cold_start', 'rl')
  config.evals.votes.after = config.order
  return config


def tiny():
  """Two steps of the cold start with the smallest model; for tests."""
  config = spct.tiny()
  del config.phases.rl, config.phases.meta, config.models.meta
  del config.models.ref, config.evals.filtered
  config.order = ('cold_start',)
  config.data.update(num_orders=4)
  config.evals.votes.after = config.order
  return config
