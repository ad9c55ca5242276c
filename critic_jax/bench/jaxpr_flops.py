"""Flops of the matrix products of a traced program, over all devices.

A compiler's own count takes a loop for one turn and sees no kernel; a jaxpr has
the lengths of its loops and the bodies of its kernels. Workers run this script
in a peer's Python, so it imports nothing of critic_jax.
"""

from __future__ import annotations

import math


def count(jaxpr, turns: float = 1) -> float:
  """Counts a multiplication and an addition as two.

  A branch counts as the dearest, and a kernel as its body times its grid.
  Recomputed products count again.

  Args:
    jaxpr: a jaxpr, closed or not.
    turns: those of a loop whose turns are not known. Inside a scan it is taken
      to turn as often as causal attention does from block to block: half as
      often as the scan.
  """
  jaxpr = getattr(jaxpr, 'jaxpr', jaxpr)
  total = 0
  for equation in jaxpr.eqns:
    name, settings = equation.primitive.name, equation.params
    if name == 'dot_general':
      total += _product(equation)
      continue
    inside = (1 + settings['length']) / 2 if name == 'scan' else turns
    counts = [count(inner, inside) for inner in _inner(settings)]
    if name == 'cond':
      total += max(counts)
    else:
      total += _turns(name, settings, turns) * sum(counts)
  return total


def _product(equation) -> int:
  (contracted, _), _ = equation.params['dimension_numbers']
  sizes = equation.invars[0].aval.shape
  depth = math.prod(sizes[axis] for axis in contracted)
  return 2 * depth * math.prod(equation.outvars[0].aval.shape)


def _turns(name, settings, unknown_turns) -> float:
  """Returns how often a primitive runs what it holds."""
  if name == 'scan':
    return settings['length']
  if name == 'while':
    return unknown_turns
  if name == 'pallas_call':
    return math.prod(settings['grid_mapping'].grid)
  if name == 'shard_map':  # its body is that of one device
    return math.prod(settings['mesh'].shape.values())
  return 1


def _inner(value):
  """Yields the jaxprs in the settings of a primitive."""
  if hasattr(value, 'eqns') or hasattr(value, 'jaxpr'):
    yield value
  elif isinstance(value, dict):
    for x in value.values():
      yield from _inner(x)
  elif isinstance(value, tuple | list):
    for x in value:
      yield from _inner(x)
