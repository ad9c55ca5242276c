"""Roles that read a batch: each a model with its parameters, in one value.

`bind` takes both by the role's name, so that no parameters meet the model of
another role, whose family, dtypes or int8 may differ. Nothing else in losses
and recipes applies a model to a batch.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax

from critic_jax.models import forward
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.runtime import distributed, sharding
from critic_jax.sampling.lm import LM
from critic_jax.types import Array, Batch, Params, Roles


@functools.partial(
  jax.tree_util.register_dataclass,
  data_fields=('params', 'sampling_params'),
  meta_fields=('model',),
)
@dataclasses.dataclass(frozen=True)
class Scorer:
  """A role that reads batches; float32[B, T] of each, as in models/forward.py.

  Attributes:
    model: the role's model.
    params: its parameters.
    sampling_params: the distribution that log-probabilities are under.
  """

  model: Transformer
  params: Params
  sampling_params: SamplingParams

  def logprobs_and_entropies(self, batch: Batch) -> tuple[Array, Array]:
    """Computes log-probabilities, and entropies in nats, of trained tokens."""
    return forward.token_statistics(
      self.model,
      self.params,
      batch['tokens'],
      sampling_params=self.sampling_params,
      layout=forward.layout(batch),
      mask=batch.get('mask'),
    )

  def logprobs(self, batch: Batch) -> Array:
    """Computes log-probabilities of trained tokens given those before them."""
    return self.logprobs_and_entropies(batch)[0]

  def values(self, batch: Batch) -> Array:
    """Computes the value before each token."""
    return forward.token_values(
      self.model, self.params, batch['tokens'], layout=forward.layout(batch)
    )

  def values_and_final(self, batch: Batch) -> tuple[Array, Array]:
    """Computes `values`, and that after each response, [B]; plain rows."""
    return forward.token_and_final_values(
      self.model, self.params, batch['tokens'], batch['mask']
    )

  def scores(self, batch: Batch) -> Array:
    """Computes the score of each response, [B]; plain rows."""
    return forward.response_scores(
      self.model, self.params, batch['tokens'], batch['mask']
    )

  def token_scores(self, batch: Batch) -> Array:
    """Computes the score of the text up to each token."""
    return forward.token_scores(
      self.model, self.params, batch['tokens'], layout=forward.layout(batch)
    )


def bind(
  models: Mapping[str, LM],
  roles: Roles,
  role: str,
  sampling_params: SamplingParams | None = None,
) -> Scorer:
  """Binds a role's model to its parameters.

  Args:
    models: LMs by role.
    roles: parameters by role.
    role: the name of both.
    sampling_params: the distribution that log-probabilities are under; None is
      the plain softmax.
  """
  return Scorer(
    models[role].model, roles[role], sampling_params or SamplingParams()
  )


def check_head(models: Mapping[str, LM], role: str, head: str) -> None:
  """Raises ValueError if a role's model has another head than is read."""
  if models[role].model.config.head != head:
    raise ValueError(
      f'models.{role}: got head={models[role].model.config.head!r}; expected '
      f'{head!r}; set models.{role}.head'
    )


def vocab_size(models: Mapping[str, LM], role: str) -> int:
  """Returns the size of the vocabulary that a role's model draws from."""
  return models[role].model.config.vocab_size


# The arrays of a batch that a scorer reads.
_READ = ('tokens', 'mask', *forward.Layout._fields)


def score(
  statistic: Callable[[Scorer, Batch], Any],
  scorer: Scorer,
  batch: Batch,
  *,
  microbatches: int,
) -> Any:
  """Computes a statistic of a batch before the update, as the update would.

  It goes through the micro-batches of the update, one after another, so that
  it needs no more memory than the update does. Several processes read a share
  of the rows each, where the rows can be divided so.

  Args:
    statistic: a method of `Scorer`, such as `Scorer.logprobs`.
    scorer: the role.
    batch: leading axis B, a multiple of `microbatches`; numpy.
    microbatches: parts that the batch is cut into.

  Returns:
    numpy arrays, [B, ...] each.
  """
  num_rows, processes = len(batch['tokens']), jax.process_count()
  num_shares = processes if num_rows % processes == 0 else 1
  share = num_rows // num_shares
  first = share * (jax.process_index() % num_shares)
  arrays = {
    name: batch[name][first : first + share] for name in _READ if name in batch
  }
  parts = num_parts(share, num_rows // microbatches)
  with sharding.on_mesh_of(scorer.params):
    scores = jax.device_get(in_parts(statistic, scorer, arrays, parts))
  return scores if num_shares == 1 else distributed.joined('scores', scores)


def num_parts(num_rows: int, most_rows: int) -> int:
  """Returns the fewest equal parts of rows with at most `most_rows` each.

  >>> num_parts(12, 5)
  3
  """
  return next(
    n
    for n in range(1, num_rows + 1)
    if num_rows % n == 0 and num_rows // n <= most_rows
  )


@functools.partial(jax.jit, static_argnames=('statistic', 'microbatches'))
def in_parts(statistic, scorer: Scorer, batch: Batch, microbatches: int):
  """Computes `score` on the device."""
  if microbatches == 1:
    return statistic(scorer, batch)
  parts = jax.tree.map(
    functools.partial(sharding.cut_rows, microbatches), batch
  )
  results = jax.lax.map(lambda part: statistic(scorer, part), parts)
  return jax.tree.map(
    lambda x: sharding.constrain(x.reshape(-1, *x.shape[2:]), 'rows'), results
  )


def logprobs_of(
  role: str,
  models: Mapping[str, LM],
  roles: Roles,
  batch: Batch,
  *,
  microbatches: int,
  sampling_params: SamplingParams | None = None,
) -> Any:
  """Computes a role's log-probabilities of a batch's tokens, float32[B, T].

  Args:
    role: the name of the role.
    models: as of `bind`.
    roles: as of `bind`.
    batch: as of `score`.
    microbatches: as of `score`.
    sampling_params: as of `bind`.
  """
  scorer = bind(models, roles, role, sampling_params)
  return score(Scorer.logprobs, scorer, batch, microbatches=microbatches)
