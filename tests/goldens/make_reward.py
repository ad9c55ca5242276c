"""Writes `reward.npz` with TRL: losses and gradients of pairs of scores.

Run in an environment of its own (the tests need neither torch nor this):

  pip install torch==2.13.0 trl==0.24.0 transformers==4.57.1 \
      datasets==4.0.0 accelerate==1.11.0
  python tests/goldens/make_reward.py

`scores`, [N, 2], the chosen one first, and `margins`, [N]; by case `loss/CASE`,
[N], and `grad/CASE`, [N, 2], of the summed loss. `RewardTrainer.compute_loss`
is called as it is, on a pair at a time, with a model that returns its scores;
what else it reads of its trainer is given.
"""

import collections
import pathlib
import types

import numpy as np
import torch
from trl import RewardTrainer

HERE = pathlib.Path(__file__).parent

# The case -> the coefficient of centred scores, and whether it has margins.
CASES = {
  'plain': (None, False),
  'margins': (None, True),
  'centred': (0.01, False),
  'both': (0.3, True),
}


def loss_fn(scores, margin, center_coef):
  """Returns TRL's loss of one pair: scores [2]."""
  stub = types.SimpleNamespace(
    model=types.SimpleNamespace(training=False),
    args=types.SimpleNamespace(center_rewards_coefficient=center_coef),
    accelerator=types.SimpleNamespace(
      gather=lambda x: x, gather_for_metrics=lambda x: x
    ),
    _total_train_tokens=0,
    _metrics=collections.defaultdict(lambda: collections.defaultdict(list)),
  )
  inputs = {} if margin is None else {'margin': margin}

  def model(**_):
    return types.SimpleNamespace(logits=scores[:, None])

  return RewardTrainer.compute_loss(stub, model, inputs)


def main():
  random = np.random.default_rng(0)
  arrays = dict(
    scores=random.normal(0, 2, (9, 2)).astype(np.float32),
    margins=random.normal(0, 1, 9).astype(np.float32),
  )
  for case, (center_coef, has_margin) in CASES.items():
    x = torch.tensor(arrays['scores'], requires_grad=True)
    margins = torch.tensor(arrays['margins'])
    losses = [
      loss_fn(pair, margin[None] if has_margin else None, center_coef)
      for pair, margin in zip(x, margins, strict=True)
    ]
    sum(losses).backward()
    arrays[f'loss/{case}'] = np.array([loss.item() for loss in losses])
    arrays[f'grad/{case}'] = x.grad.numpy()
  np.savez(HERE / 'reward.npz', **arrays)


if __name__ == '__main__':
  main()
