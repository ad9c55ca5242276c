"""Statistics over the trained places of an array, and the weights of a loss.

Every function takes an array and a bool `mask` that broadcasts to it; places
where the mask is False are ignored, even if they are NaN. Inputs are numpy or
jax arrays and results are of the same kind, so that the host can call these
functions without touching a device. An empty mask gives zeros.

`loss_weights` is the one place where a loss is normalised: objectives return
unreduced arrays, and `loss = sum(per_token * weights)`. Weights are computed
once for a whole batch, before it is cut into micro-batches, so that partial
sums over micro-batches and devices add up to the loss of the batch.
"""

from __future__ import annotations

from typing import Any

Array = Any  # numpy or jax

# A spread below this fraction of the largest magnitude is float32 rounding.
_ROUNDING = 1e-6


def mean(x: Array, mask: Array, axis: int | None = None) -> Array:
  """Returns the mean of `x` where `mask` is True; 0 if it is True nowhere.

  >>> import numpy as np
  >>> float(mean(np.array([1.0, 3.0, np.nan]), np.array([True, True, False])))
  2.0

  Args:
    x: any shape.
    mask: bool, broadcastable with `x`.
    axis: the axis to reduce; None reduces all of them.

  Returns:
    `x` reduced over `axis`.
  """
  xp = x.__array_namespace__()
  total = xp.sum(xp.where(mask, x, 0), axis=axis)
  mask = xp.broadcast_to(mask, xp.broadcast_shapes(x.shape, mask.shape))
  count = xp.sum(mask, axis=axis).astype(xp.float32)
  return total / xp.maximum(count, 1)


def center(x: Array, mask: Array, axis: int | None = None) -> Array:
  """Subtracts the masked mean along `axis` from `x`; zero where masked.

  Where all trained values are equal (up to float32 rounding) the result is
  exactly zero, not the rounding error of their mean.

  Args:
    x: any shape.
    mask: bool, the shape of `x`.
    axis: the axis of the mean; None for the whole array.

  Returns:
    float32, the shape of `x`.
  """
  xp = x.__array_namespace__()
  x = xp.where(mask, x, 0).astype(xp.float32)
  count = xp.sum(mask, axis=axis, keepdims=True).astype(xp.float32)
  centered = x - xp.sum(x, axis=axis, keepdims=True) / xp.maximum(count, 1)
  highest = xp.max(xp.where(mask, x, -xp.inf), axis=axis, keepdims=True)
  lowest = xp.min(xp.where(mask, x, xp.inf), axis=axis, keepdims=True)
  magnitude = xp.maximum(xp.abs(highest), xp.abs(lowest))
  varies = highest - lowest > _ROUNDING * magnitude
  return xp.where(mask & varies, centered, 0)


def whiten(x: Array, mask: Array, axis: int | None = None) -> Array:
  """Scales `x` to masked mean 0 and standard deviation 1; zero where masked.

  The deviation is the population's (ddof = 0) and no epsilon is added: trained
  values that are all equal give exactly 0, as in `center`, and any others give
  a result that does not depend on their shift and scale.

  Args:
    x: any shape.
    mask: bool, the shape of `x`.
    axis: the axis of the statistics; None for the whole array.

  Returns:
    float32, the shape of `x`.
  """
  xp = x.__array_namespace__()
  centered = center(x, mask, axis)
  # Scaled first, so that the squares neither overflow nor vanish.
  largest = xp.max(xp.abs(centered), axis=axis, keepdims=True)
  scaled = centered / xp.where(largest > 0, largest, 1)
  count = xp.sum(mask, axis=axis, keepdims=True).astype(xp.float32)
  squares = xp.sum(scaled**2, axis=axis, keepdims=True)
  deviation = xp.sqrt(squares / xp.maximum(count, 1))
  return scaled / xp.where(deviation > 0, deviation, 1)


def loss_weights(mask: Array, how: str, *, max_len: int | None = None) -> Array:
  """Makes the weights of a loss: `loss = sum(per_token * weights)`.

  Below, `n_b` is the number of trained tokens of row b, and R the number of
  rows that have any: rows without one, such as padding, change nothing.

    'token':    1 / sum_b n_b      mean over the batch's trained tokens; DAPO,
                                   https://arxiv.org/abs/2503.14476, eq. 8
    'sequence': 1 / (n_b R)        mean over each row, then over rows; GRPO,
                                   https://arxiv.org/abs/2402.03300, eq. 3
    'constant': 1 / (max_len R)    no bias by length; Dr. GRPO,
                                   https://arxiv.org/abs/2503.20783, section 3

  Args:
    mask: bool[B, T], True at the trained tokens of the whole batch.
    how: 'token', 'sequence' or 'constant'.
    max_len: the constant of 'constant': a fixed number of tokens, usually the
      limit on responses. The others do not use it.

  Returns:
    float32[B, T], zero where masked.

  Raises:
    ValueError: unknown `how`, or 'constant' without a positive `max_len`.
  """
  xp = mask.__array_namespace__()
  length = xp.sum(mask, axis=1, keepdims=True)  # [B, 1]
  num_rows = xp.sum(length > 0)
  if how == 'token':
    total = xp.sum(length)
  elif how == 'sequence':
    total = length * num_rows
  elif how == 'constant':
    if max_len is None or max_len <= 0:
      raise ValueError(
        f"max_len: got {max_len!r} with how='constant'; expected a positive "
        'number of tokens; set it to the limit on responses'
      )
    total = num_rows * max_len
  else:
    raise ValueError(
      f"how: got {how!r}; expected 'token', 'sequence' or 'constant'"
    )
  return mask.astype(xp.float32) / xp.maximum(total, 1).astype(xp.float32)
