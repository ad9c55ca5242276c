"""The imitation loss: minus the log-probability of given responses.

loss = -sum(weights * log p(token | what is before it))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax.numpy as jnp

from critic_jax.loss_fns import scoring
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles

METRICS = ('loss/nll',)


def make_imitation_loss(models: Mapping[str, LM], role: str) -> Callable:
  """Makes the loss by which `role` learns to write the responses of a batch.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`; the sum 'loss/nll' is
    the loss, in nats, and nothing is told of each row.
  """
  scoring.check_head(models, role, 'lm')

  def loss(trained: Roles, batch: Batch):
    logprobs = scoring.bind(models, trained, role).logprobs(batch)
    total = -jnp.sum(batch['weights'] * logprobs)
    return total, ({'loss/nll': total}, {})

  return loss
