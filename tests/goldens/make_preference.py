"""Writes `preference.npz` with TRL: losses and gradients of pairs.

Run in an environment of its own (the tests need neither torch nor this):

  pip install torch==2.13.0 trl==0.24.0 transformers==4.57.1 \
      datasets==4.0.0 accelerate==1.11.0
  python tests/goldens/make_preference.py

`logprobs`, `ref_logprobs` and `num_tokens`, [N, 2] each, chosen first; by case
`loss/CASE`, [N], and `grad/CASE`, [N, 2], of the summed loss. TRL's methods are
called as they are; what they read of their trainer is given.
"""

import pathlib
import types

import numpy as np
import torch
from trl import CPOTrainer, DPOTrainer, KTOTrainer, ORPOTrainer

HERE = pathlib.Path(__file__).parent
KL = 0.6  # the mean log-ratio of the responses that KTO estimates it from
ACCELERATOR = types.SimpleNamespace(
  device='cpu', gather_for_metrics=lambda x: x[None]
)


def trainer(**settings):
  """Returns what the losses read of a trainer."""
  return types.SimpleNamespace(accelerator=ACCELERATOR, **settings)


def dpo(kind, beta, label_smoothing=0.0):
  def loss(chosen, rejected, ref_chosen, ref_rejected):
    stub = trainer(
      beta=beta, label_smoothing=label_smoothing, reference_free=False,
      f_divergence_type='reverse_kl', f_divergence_params=None,
    )  # fmt: skip
    return DPOTrainer.dpo_loss(
      stub, chosen, rejected, ref_chosen, ref_rejected, kind
    )[0]

  return loss


def kto(beta, desirable_weight, undesirable_weight):
  def loss(chosen, rejected, ref_chosen, ref_rejected):
    stub = trainer(
      beta=beta, desirable_weight=desirable_weight, calculate_KL=True,
      undesirable_weight=undesirable_weight, loss_type='kto',
    )  # fmt: skip
    both = KTOTrainer.kto_loss(
      stub, chosen, rejected, torch.full((4,), KL - 3), ref_chosen,
      ref_rejected, torch.full((4,), -3.0),
    )[0]  # fmt: skip
    return both.reshape(2, -1).mean(dim=0)  # a pair's is the mean of its two

  return loss


def simpo(beta, gamma):
  def loss(chosen, rejected, *_):
    stub = trainer(
      beta=beta, simpo_gamma=gamma, label_smoothing=0.0, alpha=0.0,
      loss_type='simpo',
    )  # fmt: skip
    return CPOTrainer.cpo_loss(stub, chosen, rejected)[0]

  return loss


def orpo(beta):
  def loss(chosen, rejected, *_):
    ratio = ORPOTrainer.odds_ratio_loss(trainer(beta=beta), chosen, rejected)[0]
    return -chosen - ratio  # as `get_batch_loss_metrics` has it: NLL - losses

  return loss


# The case -> its loss, and whether it is given means over tokens.
CASES = {
  'dpo': (dpo('sigmoid', 0.1), False),
  'cdpo': (dpo('sigmoid', 0.3, label_smoothing=0.2), False),
  'slic': (dpo('hinge', 0.4), False),
  'ipo': (dpo('ipo', 0.25), False),
  'ipo_per_token': (dpo('ipo', 0.25), True),
  'kto': (kto(0.2, 1.3, 0.7), False),
  'simpo': (simpo(2.0, 0.5), True),
  'orpo': (orpo(0.2), True),
}


def main():
  random = np.random.default_rng(0)
  num_tokens = random.integers(1, 12, (9, 2)).astype(np.float32)
  logprobs, ref_logprobs = -num_tokens * random.exponential(size=(2, 9, 2))
  arrays = dict(
    num_tokens=num_tokens, logprobs=logprobs.astype(np.float32),
    ref_logprobs=ref_logprobs.astype(np.float32), kl=np.float32(KL),
  )  # fmt: skip
  for case, (loss_fn, is_mean) in CASES.items():
    x = torch.tensor(arrays['logprobs'], requires_grad=True)
    ref, lengths = map(
      torch.tensor, (arrays['ref_logprobs'], arrays['num_tokens'])
    )
    sums = (x, ref) if not is_mean else (x / lengths, ref / lengths)
    losses = loss_fn(*sums[0].T, *sums[1].T)
    losses.sum().backward()
    arrays[f'loss/{case}'] = losses.detach().numpy()
    arrays[f'grad/{case}'] = x.grad.numpy()
  np.savez(HERE / 'preference.npz', **arrays)


if __name__ == '__main__':
  main()
