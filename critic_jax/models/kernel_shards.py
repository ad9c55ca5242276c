"""Kernels on a mesh: each device computes with its parts of arrays.

The compiler splits products, and cannot split a kernel.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from critic_jax.runtime import sharding


def map_shards(function, first, *rest):
  """Calls a function on each device's parts of arrays, inside a jitted one.

  Args:
    function: gets a part of each array, or of each tree of arrays; its result
      is laid out as the first.
    first: an array and the logical names of its first axes, as of `constrain`.
    *rest: the same of the others, or of trees whose arrays share names.

  Returns:
    The whole result.
  """
  arrays, names = zip(first, *rest, strict=True)
  mesh = jax.sharding.get_abstract_mesh()
  if mesh.empty or mesh.size == 1:
    return function(*arrays)
  specs = tuple(
    jax.tree.map(lambda x, n=n: sharding.dividing(n, x.shape, mesh), a)
    for a, n in zip(arrays, names, strict=True)
  )
  mapped = jax.shard_map(
    function, in_specs=specs, out_specs=specs[0], check_vma=False
  )
  return mapped(*arrays)


def heads_read(x, heads, group):
  """Takes the heads of keys that some query heads read, where all are there.

  A mesh may split the heads of queries among more devices than there are heads
  of keys, which each device then has whole.

  Args:
    x: [B, Hkv, S, Dh], of all heads, or of those that `heads` read.
    heads: int32[H], the numbers of a device's query heads.
    group: the query heads that share a head of keys.

  Returns:
    [B, N, S, Dh]: H / N adjacent query heads share one.
  """
  if x.shape[1] * group == len(heads):
    return x
  shared = math.gcd(group, len(heads))
  return jnp.take(x, heads[::shared] // group, axis=1)
