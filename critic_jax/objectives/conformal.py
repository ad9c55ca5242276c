"""Conformal intervals: predictions are widened until they cover enough.

Data that were held out say by how much. For exchangeable data, of n held-out
ones, the interval of a new target covers it with a probability of at least
`1 - miss`, and of at most `1 - miss + 1 / (n + 1)` where residuals have no
ties, whatever the model is and however wrong: the probability is over both the
held-out data and the target, not for each input. All is computed in float32.

Split conformal prediction (Papadopoulos et al., 2002) widens a point, which is
both ends; its intervals have one width. Conformalized quantile regression
(https://arxiv.org/abs/1905.03222) widens the interval between two quantiles,
such as those of `quantile.pinball`, which is as wide as the input asks for.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

Array = Any


def residuals(low: Array, high: Array, targets: Array) -> Array:
  """Computes how far targets lie outside of intervals, negative inside.

  `max(low - y, y - high)`, the paper's eq. 6; of a point `low = high` it is the
  absolute error.

  >>> print(residuals(jnp.zeros(3), jnp.ones(3), jnp.array([-0.5, 0.75, 3.0])))
  [ 0.5  -0.25  2.  ]

  Args:
    low: float[N], the lower ends.
    high: float[N], the upper ends.
    targets: float[N].
  """
  low, high, targets = map(_float32, (low, high, targets))
  return jnp.maximum(low - targets, targets - high)


def radius(held_out: Array, *, miss: float) -> Array:
  """Returns what intervals are widened by.

  The `ceil((n + 1) (1 - miss))`-th smallest residual, the paper's eq. 8;
  infinity if there are too few for so small a `miss`.

  >>> print(radius(jnp.array([4.0, 1.0, 3.0, 2.0]), miss=0.4))  # the 3rd of 4
  3.0

  Args:
    held_out: float[N], residuals of data that the model has not learned from.
    miss: the share of targets that may lie outside.

  Returns:
    float32, a negative one where the intervals were too wide.

  Raises:
    ValueError: `miss` is not between 0 and 1.
  """
  if not 0 < miss < 1:
    raise ValueError(f'miss: got {miss}; expected a share between 0 and 1')
  # Rounded: 100 * (1 - 0.07) is more than 93 in floats.
  rank = math.ceil(round((len(held_out) + 1) * (1 - miss), 9))
  if rank > len(held_out):
    return jnp.float32(jnp.inf)
  return jnp.sort(_float32(held_out))[rank - 1]


def widen(low: Array, high: Array, by: Array) -> tuple[Array, Array]:
  """Returns the ends of wider intervals; of narrower ones for a negative `by`.

  One that is narrower than that becomes its middle, which no target is in but
  by chance.

  Args:
    low: float[N], the lower ends.
    high: float[N], the upper ends.
    by: `radius`.
  """
  low, high = _float32(low), _float32(high)
  by = jnp.maximum(by, (low - high) / 2)
  return low - by, high + by


def coverage(low: Array, high: Array, targets: Array) -> Array:
  """Returns the share of targets that lie in their interval, ends included."""
  return jnp.mean((residuals(low, high, targets) <= 0).astype(jnp.float32))


def _float32(x: Array) -> Array:
  return jnp.asarray(x).astype(jnp.float32)
