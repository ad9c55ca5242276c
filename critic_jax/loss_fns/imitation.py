"""The imitation loss, of given responses.

loss = sum(weights * objective(log p(token | what is before it)))

The objective is a function of `objectives/demonstrations.py`; `likelihood` is
minus the log-probability. It reads `ref_logprobs` and `feedback` of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from critic_jax import lookup
from critic_jax.loss_fns import scoring
from critic_jax.objectives import demonstrations
from critic_jax.sampling.lm import LM
from critic_jax.types import Batch, Roles

METRICS = ('loss/nll',)


def bind_objective(settings: Mapping) -> Callable:
  """Binds an objective of imitation, by its name and keywords.

  Raises:
    ValueError: a setting is wrong.
  """
  objective = lookup.bind(demonstrations, settings, 'objective')
  with lookup.naming('objective'):  # its values are checked when it is called
    empty = np.zeros((1, 1), np.float32)
    jax.eval_shape(objective, empty, empty > 0, empty, empty)
  return objective


def make_imitation_loss(
  models: Mapping[str, LM],
  role: str,
  objective: Callable = demonstrations.likelihood,
) -> Callable:
  """Makes the loss by which `role` learns to write the responses of a batch.

  Args:
    models: LMs by role.
    role: the role that learns.
    objective: what `bind_objective` returns.

  Returns:
    `(trained roles, batch) -> (scalar, (sums, per_row))`; the sum 'loss/nll' is
    the loss of `likelihood`, in nats, whatever the objective is, and nothing is
    told of each row.
  """
  scoring.check_head(models, role, 'lm')

  def loss(trained: Roles, batch: Batch):
    logprobs = scoring.bind(models, trained, role).logprobs(batch)
    per_token = objective(
      logprobs,
      batch['mask'],
      batch.get('ref_logprobs', 0.0),
      batch.get('feedback', 0.0),
    )
    nll = demonstrations.likelihood(logprobs, batch['mask'])
    sums = {'loss/nll': jnp.sum(batch['weights'] * nll)}
    return jnp.sum(batch['weights'] * per_token), (sums, {})

  return loss


def make_add_ref_logprobs(
  models: Mapping[str, LM], *, microbatches: int
) -> Callable[[Batch, Roles], Batch]:
  """Makes the step that adds the log-probabilities of the role 'ref'."""
  scoring.check_head(models, 'ref', 'lm')

  def add_ref_logprobs(batch: Batch, roles: Roles) -> Batch:
    logprobs = scoring.logprobs_of(
      'ref', models, roles, batch, microbatches=microbatches
    )
    return {**batch, 'ref_logprobs': logprobs}

  return add_ref_logprobs
