"""The imitation loss: minus the log-probability of given responses.

loss = -sum(weights * log p(token | what is before it))
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from critic_jax.models import forward
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles

METRICS = ('loss/nll',)


def make_imitation_loss(lm: LM, role: str) -> Callable:
  """Makes the loss by which `role` learns to write the responses of a batch.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`; the sum 'loss/nll' is
    the loss, in nats, and nothing is told of each row.
  """

  def loss(trained: Roles, batch: Batch):
    logprobs = forward.token_logprobs(
      lm.model,
      trained[role],
      batch['tokens'],
      layout=forward.layout(batch),
    )
    total = -jnp.sum(batch['weights'] * logprobs)
    return total, ({'loss/nll': total}, {})

  return loss
