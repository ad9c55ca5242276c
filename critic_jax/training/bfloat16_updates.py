"""Updates of parameters in bfloat16, as transforms around an optimiser.

A number in bfloat16 has 8 bits, so half a unit in its last place is 1/512 to
1/256 of it. A smaller change is lost when it is added: at a learning rate of
1e-6 AdamW moved 0.14 % of a model's parameters. Each transform here gives the
optimiser parameters and gradients in float32, so that its moments are in
float32, too, and keeps small changes in a way of its own:

    with_masters                 exactly, in float32 copies in the state; 14
                                 bytes a parameter, with Adam's moments
    with_stochastic_rounding     on average, by rounding at random; 10 bytes,
                                 of which float32 parameters would take 12

Parameters in float32 are updated as without the transform, and need no copy.
A state is made of the parameters as they are when a phase begins: what masters
held beyond bfloat16 ends with their phase.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class MastersState(NamedTuple):
  """The state of `with_masters`.

  Attributes:
    inner: the optimiser's.
    masters: the parameters in float32; `optax.MaskedNode` for each parameter
      that is not in bfloat16.
  """

  inner: Any
  masters: Any


class RoundingState(NamedTuple):
  """The state of `with_stochastic_rounding`.

  Attributes:
    inner: the optimiser's.
    count: int32[], the updates done, of which the random bits are a function.
  """

  inner: Any
  count: jax.Array


def with_masters(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Has `inner` update float32 copies, which bfloat16 parameters are cast from.

  Mixed precision training, https://arxiv.org/abs/1710.03740, section 3.1.

  >>> tx = with_masters(optax.sgd(1e-3))
  >>> params = {'w': jnp.ones(1, jnp.bfloat16)}
  >>> state = tx.init(params)
  >>> for _ in range(5):
  ...   changes, state = tx.update({'w': jnp.ones(1)}, state, params)
  ...   params = optax.apply_updates(params, changes)
  >>> round(float(state.masters['w'][0]), 4), float(params['w'][0])
  (0.995, 0.99609375)
  """

  def init(params):
    masters = jax.tree.map(
      lambda x: _float32(x) if _is_bfloat16(x) else optax.MaskedNode(), params
    )
    return MastersState(
      inner.init(optax.tree.cast(params, jnp.float32)), masters
    )

  def update(grads, state, params):
    exact = jax.tree.map(
      lambda x, master: master if _is_bfloat16(x) else x, params, state.masters
    )
    changes, inner_state = inner.update(
      optax.tree.cast(grads, jnp.float32), state.inner, exact
    )
    masters = jax.tree.map(
      lambda x, master, change: master + change if _is_bfloat16(x) else master,
      params, state.masters, changes,
    )  # fmt: skip
    changes = jax.tree.map(
      lambda x, master, change: _difference(x, master.astype(x.dtype))
      if _is_bfloat16(x) else change,
      params, masters, changes,
    )  # fmt: skip
    return changes, MastersState(inner_state, masters)

  return optax.GradientTransformation(init, update)


def with_stochastic_rounding(
  inner: optax.GradientTransformation,
) -> optax.GradientTransformation:
  """Rounds new bfloat16 parameters up or down at random, without bias.

  A number is rounded to either neighbour with a probability that falls linearly
  with its distance, so that the mean of the result is the number,
  https://arxiv.org/abs/1502.02551, section 3. The bits are those of threefry,
  the same on any mesh. Each array has a key, so that stacked layers
  (`layer_stack.py`) have other bits than unrolled ones, as good as those.
  """

  def init(params):
    exact = optax.tree.cast(params, jnp.float32)
    return RoundingState(inner.init(exact), jnp.zeros((), jnp.int32))

  def update(grads, state, params):
    exact = optax.tree.cast(params, jnp.float32)
    changes, inner_state = inner.update(
      optax.tree.cast(grads, jnp.float32), state.inner, exact
    )
    key = jax.random.fold_in(
      jax.random.key(0, impl='threefry2x32'), state.count
    )
    leaves, structure = jax.tree.flatten(params)
    keys = jax.tree.unflatten(structure, jax.random.split(key, len(leaves)))
    changes = jax.tree.map(
      lambda x, change, key: _difference(
        x, round_stochastically(_float32(x) + change, key)
      )
      if _is_bfloat16(x) else change,
      params, changes, keys,
    )  # fmt: skip
    return changes, RoundingState(inner_state, state.count + 1)

  return optax.GradientTransformation(init, update)


def round_stochastically(x: jax.Array, key: jax.Array) -> jax.Array:
  """Rounds float32 to bfloat16, up or down at random; its mean is `x`.

  Args:
    x: float32 of any shape; what is not finite stays as it is.
    key: consumed.

  Returns:
    bfloat16 of the shape of `x`.
  """
  noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
  # The upper half of a float32 is the bfloat16 nearer to zero; the lower half
  # is its distance to the other, which a carry of the sum leads to.
  bits = jax.lax.bitcast_convert_type(x, jnp.uint32) + noise
  bits &= jnp.uint32(0xFFFF0000)
  rounded = jax.lax.bitcast_convert_type(bits, jnp.float32)
  return jnp.where(jnp.isfinite(x), rounded, x).astype(jnp.bfloat16)


def _is_bfloat16(x) -> bool:
  return x.dtype == jnp.bfloat16


def _float32(x):
  return x.astype(jnp.float32)


def _difference(x, new):
  """Returns the float32 change that `optax.apply_updates` makes `new` with."""
  return _float32(new) - _float32(x)
