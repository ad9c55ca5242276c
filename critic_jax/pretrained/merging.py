"""Merges the weights of two models that began as one.

Each matrix and each vector of each layer is merged by itself, in float64, with
`weight` in [0, 1] of the second model: 0 is the first, 1 the second. Parents
that share no initialisation have their features in other places, and what is
between them is neither (https://arxiv.org/abs/2409.03444 merges a model that
was trained further with one of the same base).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from critic_jax.models import layer_stack
from critic_jax.models.config import TransformerConfig

# Fields of a config that say how a model is computed, and not what it is.
_COMPUTATION = (
  'dtype', 'param_dtype', 'remat', 'attention', 'layers', 'lora',
)  # fmt: skip
_PARALLEL = 0.9995  # the cosine of mergekit's, above which sines are small


def linear(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
  """Returns `(1 - weight) first + weight second`."""
  return (1 - weight) * first + weight * second


def slerp(first: np.ndarray, second: np.ndarray, weight: float) -> np.ndarray:
  """Interpolates along the arc between two arrays, taken as vectors.

  `(sin((1 - t) w) a + sin(t w) b) / sin(w)` with w the angle between a and b
  (Shoemake, 1985), of the arrays as they are: of equal lengths the result has
  that length at every t. It is `linear` where they are parallel, or nearly,
  in either direction, or one is 0.

  >>> slerp(np.array([2.0, 0.0]), np.array([0.0, 2.0]), 0.5).round(3).tolist()
  [1.414, 1.414]
  """
  norms = np.linalg.norm(first) * np.linalg.norm(second)
  cosine = np.vdot(first, second) / norms if norms else 1.0
  if abs(cosine) > _PARALLEL:
    return linear(first, second, weight)
  angle = np.arccos(cosine)
  parts = np.sin((1 - weight) * angle), np.sin(weight * angle)
  return (parts[0] * first + parts[1] * second) / np.sin(angle)


RULES: dict[str, Callable] = dict(slerp=slerp, linear=linear)


def check(first: TransformerConfig, second: TransformerConfig) -> None:
  """Checks that two models are of one family and size.

  Raises:
    ValueError: they are not; it names what differs.
  """
  second = dataclasses.replace(
    second, **{name: getattr(first, name) for name in _COMPUTATION}
  )
  ours, theirs = map(dataclasses.asdict, (first, second))
  names = [name for name in ours if ours[name] != theirs[name]]
  if names:
    got = ' and '.join(
      ', '.join(f'{name}={fields[name]}' for name in names)
      for fields in (ours, theirs)
    )
    raise ValueError(
      f'merge: got models with {got}; expected models of one family and size; '
      'give two that were trained from the same weights'
    )


def merge(
  first: Mapping[str, Any],
  second: Mapping[str, Any],
  *,
  weight: float,
  rule: str = 'slerp',
) -> dict[str, Any]:
  """Merges the parameters of two models.

  Args:
    first: nested dicts of numpy arrays; layers may be stacked.
    second: those of a model of the same config (`check`).
    weight: the second's share, in [0, 1].
    rule: a name in `RULES`.

  Returns:
    The same with unrolled layers, in the dtypes of the first.

  Raises:
    ValueError: the trees differ in a name or in a shape.
  """
  first, second = map(layer_stack.unstack, (first, second))
  ours, theirs = _shapes(first), _shapes(second)
  for name in sorted({*ours, *theirs}):
    if ours.get(name) != theirs.get(name):
      raise ValueError(
        f'merge: got {name} of the shapes {ours.get(name)} and '
        f'{theirs.get(name)}; expected equal ones; give two models of one size'
      )
  return _merged(first, second, weight, RULES[rule])


def _shapes(tree, path='') -> dict[str, tuple[int, ...]]:
  """Returns the shapes of arrays by the names that lead to them."""
  if not isinstance(tree, Mapping):
    return {path: np.shape(tree)}
  return {
    name: shape
    for key, part in tree.items()
    for name, shape in _shapes(part, f'{path}/{key}' if path else key).items()
  }


def _merged(first, second, weight, rule):
  if isinstance(first, Mapping):
    return {
      name: _merged(part, second[name], weight, rule)
      for name, part in first.items()
    }
  a, b = (np.asarray(x).astype(np.float64) for x in (first, second))
  return rule(a, b, weight).astype(np.asarray(first).dtype)
