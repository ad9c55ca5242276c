"""The law that tokens are sampled from: temperature, top-k and top-p.

Sampler and trainer both call `log_probs`, so that the log-probability written
while sampling is the one that the trainer computes. Temperature 0 is greedy:
a point mass on the largest logit (the first of equals), whose log-probability
is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Law(NamedTuple):
  """How logits become a distribution; traced, so no value recompiles.

  Attributes:
    temperature: logits are divided by it; 0 is greedy.
    top_k: only the k likeliest tokens; 0 is all.
    top_p: only the smallest set of likeliest tokens whose probability reaches
      p (1904.09751, section 3.1); 1 is all.
  """

  temperature: float = 1.0
  top_k: int = 0
  top_p: float = 1.0

  def check(self) -> Law:
    """Returns itself.

    Raises:
      ValueError: a field is out of its range.
    """
    if not self.temperature >= 0:
      raise ValueError(f'temperature: got {self.temperature}; expected >= 0')
    if self.top_k < 0:
      raise ValueError(f'top_k: got {self.top_k}; expected >= 0 (0 is off)')
    if not 0 < self.top_p <= 1:
      raise ValueError(f'top_p: got {self.top_p}; expected in (0, 1]')
    return self


def log_probs(logits, law: Law, observed=None) -> jax.Array:
  """Log-probabilities under the law.

  Args:
    logits: float32[..., V].
    law: see `Law`.
    observed: int32[...], tokens that were in fact sampled. They stay in the
      support: after an update the current parameters may leave them out of
      their top-k or top-p, and a ratio of 0/p would lose their gradient.

  Returns:
    float32[..., V], -inf outside of the law's support.
  """
  temperature = jnp.asarray(law.temperature, jnp.float32)
  greedy = temperature == 0
  tempered = logits / jnp.where(greedy, 1.0, temperature)
  top_k = jnp.where(greedy, 1, law.top_k)
  kept = jax.lax.cond(
    (top_k > 0) | (law.top_p < 1),
    lambda x: _truncate(x, top_k, law.top_p, greedy, observed),
    lambda x: x,
    tempered,
  )
  return jax.nn.log_softmax(kept, axis=-1)


def _truncate(logits, top_k, top_p, greedy, observed):
  """Sets logits outside of the top-k and the top-p to -inf."""
  vocab_size = logits.shape[-1]
  descending = jnp.flip(
    jnp.sort(jax.lax.stop_gradient(logits), axis=-1), axis=-1
  )
  rank = jnp.arange(vocab_size)
  in_top_k = rank < jnp.where(top_k > 0, top_k, vocab_size)
  # top-p is taken of what top-k has left, as the common samplers do.
  probs = jax.nn.softmax(jnp.where(in_top_k, descending, -jnp.inf), axis=-1)
  before = jnp.cumsum(probs, axis=-1) - probs
  # Rounding takes `before` to 1 early where the law is peaked: 1 is all.
  kept = in_top_k & ((before < top_p) | (top_p >= 1) | (rank == 0))
  threshold = jnp.min(
    jnp.where(kept, descending, jnp.inf), axis=-1, keepdims=True
  )
  keep = jax.lax.stop_gradient(logits) >= threshold  # equals stay together,
  first = rank == jnp.argmax(logits, axis=-1, keepdims=True)
  keep &= ~greedy | first  # but greedy is one token
  if observed is not None:
    keep |= observed[..., None] == rank
  return jnp.where(keep, logits, -jnp.inf)
