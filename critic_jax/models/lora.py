"""Adapters of low rank beside matrices that are not trained (2106.09685).

A matrix W of a layer that `config.Lora` targets has two more beside it in the
tree of parameters, `lora_a` and `lora_b`, and (eq. 3)

    y = x W + (alpha / r) (dropout(x) A) B

A is uniform in +-1/sqrt(fan-in), as in PEFT, and B is 0: a fresh adapter
changes nothing. Both are float32 whatever W is in, int8 included. In training
the product A B is never computed.

`split` divides a tree into what is trained and what is not, `join` is the way
back. A training step with dropout has a key beside each A (`with_keys`).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from critic_jax.models import layer_stack
from critic_jax.models.config import Lora, TransformerConfig

A, B, KEY = 'lora_a', 'lora_b', 'lora_key'
# Heads that are drawn, since no checkpoint of a language model has them.
_DRAWN_HEADS = ('scalar_head',)


def is_target(config: TransformerConfig, path: tuple[str, ...]) -> bool:
  """Whether the module at a path of a model has an adapter; heads have none."""
  if not config.lora or len(path) < 2 or path[0] in plain_layers(config):
    return False
  return config.lora.is_target('/'.join(path[-2:]))


def plain(config: TransformerConfig, params) -> dict[str, Any]:
  """Returns the layers of an unrolled tree that have none, without theirs."""
  return {x: _select(params[x], False) for x in plain_layers(config)}


def plain_layers(config: TransformerConfig) -> list[str]:
  """Lists the layers before the last ones, which alone have adapters."""
  if not config.lora or not config.lora.last_layers:
    return []
  number = config.num_layers - config.lora.last_layers
  return [layer_stack.name_of(i) for i in range(number)]


def has_adapters(params) -> bool:
  """Whether a tree of parameters has adapters."""
  return any(
    name == A or (isinstance(x, Mapping) and has_adapters(x))
    for name, x in params.items()
  )


def split(params) -> tuple[dict[str, Any], dict[str, Any]]:
  """Divides a role's parameters into those that are trained, and the others.

  Args:
    params: a tree of arrays, or of their shapes, shardings, ...

  Returns:
    Two trees: the adapters and a head that was drawn, and the base, which is
    not trained; without adapters all, and {}.
  """
  if not has_adapters(params):
    return params, {}
  return _select(params, True), _select(params, False)


def _select(node, is_trained, is_drawn=False):
  """Returns the part of a tree that is trained, or the other part."""
  result = {}
  for name, x in node.items():
    if isinstance(x, Mapping):
      part = _select(x, is_trained, is_drawn or name in _DRAWN_HEADS)
      if part:
        result[name] = part
    elif is_trained == (is_drawn or name in (A, B)):
      result[name] = x
  return result


def join(*trees) -> dict[str, Any]:
  """Returns the tree with the leaves of all; the inverse of `split`.

  Of leaves with one path it has the last tree's.
  """
  result: dict[str, Any] = {}
  for tree in trees:
    for name, x in tree.items():
      old = result.get(name)
      both = isinstance(old, Mapping) and isinstance(x, Mapping)
      result[name] = join(old, x) if both else x
  return result


def with_keys(params, key: jax.Array):
  """Adds a key beside each A, by which inputs of the adapter are dropped.

  Args:
    params: the adapters of a model.
    key: consumed.
  """

  numbers = itertools.count()

  def walk(node, is_stacked):
    result = dict(node)
    for name, x in sorted(node.items()):
      if isinstance(x, Mapping):
        result[name] = walk(x, is_stacked or name == layer_stack.LAYERS)
      elif name == A:
        own = jax.random.fold_in(key, next(numbers))
        # Stacked layers have a key each.
        result[KEY] = jax.random.split(own, len(x)) if is_stacked else own
    return result

  return walk(params, False)


def merged(params, lora: Lora):
  """Adds the adapters to their matrices, on the host, and leaves them out.

  Args:
    params: unrolled, of floats; numpy.
    lora: the adapters' settings.

  Returns:
    A tree of a model without adapters; changed matrices are float32.
  """
  result = {}
  for name, x in params.items():
    if isinstance(x, Mapping):
      result[name] = merged(x, lora)
    elif name == 'kernel' and A in params:
      change = product(params[A], params[B], lora.alpha / lora.rank)
      result[name] = np.asarray(x, np.float32) + change
    elif name not in (A, B):
      result[name] = x
  return result


def product(a, b, scale: float) -> np.ndarray:
  """Computes scale * A B on the host, [..., r] by [r, ...], in float32.

  It has the same bits on every machine, as a library's product has not: merged
  weights are known by their content.
  """
  a, b = (np.asarray(x, np.float32) for x in (a, b))
  total = np.zeros((*a.shape[:-1], *b.shape[1:]), np.float32)
  for i in range(len(b)):
    total += np.multiply.outer(a[..., i], b[i])
  return total * np.float32(scale)
