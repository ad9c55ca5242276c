"""Products of rows with one of several matrices each, as experts need them.

Rows that share a matrix are in blocks, and a loop goes over the blocks that
have rows: b rows times a matrix that is read where it is. So the work is that
of the rows, not of all rows with all matrices, on every platform; and no
matrix is copied for its rows. `jax.lax.ragged_dot` computes that many products
outside of TPUs, and a mask for each.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

_MIN_BLOCK, _MAX_BLOCK = 8, 256


class Blocks(NamedTuple):
  """A place for each of M rows in N blocks of b; a block is of one group.

  Attributes:
    places: int32[M], in N * b; N * b for rows of no group.
    sources: int32[N * b], the row at each place; M where there is none.
    groups: int32[N], the group of each block.
    num_used: int32[], the blocks that have rows; they are the first ones.
  """

  places: jax.Array
  sources: jax.Array
  groups: jax.Array
  num_used: jax.Array


def make_blocks(group: jax.Array, num_groups: int, block: int) -> Blocks:
  """Finds a place for rows.

  Args:
    group: int32[M], of each row; `num_groups` for rows of no group.
    num_groups: E.
    block: b.
  """
  num_rows = len(group)
  num_blocks = -(-num_rows // block) + num_groups  # each may have one not full
  order = jnp.argsort(group)  # stable
  sizes = jnp.bincount(group, length=num_groups + 1)[:num_groups]
  blocks = -(-sizes // block)
  ends = jnp.cumsum(blocks)
  first_row = jnp.cumsum(sizes) - sizes
  shift = (ends - blocks) * block - first_row  # from the order to the place
  place = jnp.arange(num_rows) + jnp.append(shift, 0)[group[order]]
  place = jnp.where(group[order] < num_groups, place, num_blocks * block)
  places = jnp.zeros(num_rows, jnp.int32).at[order].set(place.astype(jnp.int32))
  sources = jnp.full(num_blocks * block, num_rows, jnp.int32)
  sources = sources.at[places].set(jnp.arange(num_rows), mode='drop')
  number = jnp.arange(num_blocks)[:, None]
  groups = jnp.minimum(jnp.sum(number >= ends, axis=1), num_groups - 1)
  return Blocks(places, sources, groups.astype(jnp.int32), ends[-1])


def block_size(num_rows: int, num_groups: int) -> int:
  """Returns the rows of a block for M rows in E groups: a power of two."""
  power = 1 << max(0, num_rows // num_groups - 1).bit_length()
  return min(max(power, _MIN_BLOCK), _MAX_BLOCK)


@jax.custom_vjp
def product(rows, matrices, groups, num_used):
  """Multiplies blocks of rows with the matrices of their groups.

  Args:
    rows: [N, b, D].
    matrices: [E, D, F].
    groups: int32[N].
    num_used: int32[], the blocks that are computed; others become 0.

  Returns:
    [N, b, F], in the dtype of `rows`.
  """

  def compute(i, result):
    return result.at[i].set(jnp.dot(rows[i], matrices[groups[i]]))

  shape = *rows.shape[:2], matrices.shape[-1]
  return jax.lax.fori_loop(0, num_used, compute, jnp.zeros(shape, rows.dtype))


def _forward(rows, matrices, groups, num_used):
  return product(rows, matrices, groups, num_used), (
    rows, matrices, groups, num_used,
  )  # fmt: skip


def _backward(residuals, dy):
  rows, matrices, groups, num_used = residuals

  def compute(i, sums):
    drows, dmatrices = sums
    drows = drows.at[i].set(jnp.dot(dy[i], matrices[groups[i]].T))
    dmatrix = jnp.dot(rows[i].T, dy[i], preferred_element_type=jnp.float32)
    return drows, dmatrices.at[groups[i]].add(dmatrix)

  zeros = jnp.zeros_like(rows), jnp.zeros(matrices.shape, jnp.float32)
  drows, dmatrices = jax.lax.fori_loop(0, num_used, compute, zeros)
  return drows, dmatrices.astype(matrices.dtype), None, None


product.defvjp(_forward, _backward)
