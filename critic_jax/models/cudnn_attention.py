"""cuDNN's attention: the kernel of NVIDIA's GPUs, for training and for prompts.

It is jax's door to it, `jax.nn.dot_product_attention`. A plain row is causal by
a flag, and half of its scores are left out. Packed rows, windows, rows behind
keys and values of earlier tokens, and columns that a mesh splits need a mask,
which is as large as T times S for each row, but not for each head; no scores
are.

cuDNN computes in bfloat16 or float16 only, and can neither be traced nor
interpreted where it is not installed.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from critic_jax.models import kernel_shards
from critic_jax.models.attention import MIXED
from critic_jax.models.visibility import Labels, is_visible, prepend
from critic_jax.runtime import sharding


def is_kept(primitive, *_, **__) -> bool:
  """Whether a `jax.checkpoint` policy keeps all that cuDNN computes.

  Its normaliser has no name by which to keep it.
  """
  return primitive.name == 'dot_product_attention_fwd_wrapper'


def attend(q, causal_part, prefix=None):
  """Does `attention.attend` where the first part is `Causal`."""
  k, v, causal = causal_part
  length, group = q.shape[1], q.shape[2] // k.shape[1]
  queries = keys = Labels(jnp.arange(length)[None], *causal)
  is_plain = (
    causal.segments is None
    and causal.earliest is None
    and prefix is None
    and sharding.num_parts('columns', length) == 1
  )
  if prefix is not None:
    k, v, keys = prepend(*prefix, k, v, keys)

  def attend_locally(q, heads, k, v, queries, keys):
    k, v = (
      jnp.swapaxes(kernel_shards.heads_read(x, heads, group), 1, 2)
      for x in (k, v)
    )
    columns = q.shape[1]
    # No query looks at the key that is added: it is behind all, or masked.
    q, k, v = (_pad_to_even(x, 1) for x in (q, k, v))
    if is_plain:
      output = _attend(q, k, v, is_causal=True)
    else:
      mask = is_visible(queries, keys)[:, None]  # [B or 1, 1, T, S]
      mask = _pad_to_even(_pad_to_even(mask, 2), 3)
      output = _attend(q, k, v, mask=mask)
    return output[:, :columns]

  kv_names = 'rows', 'kv_heads'
  return kernel_shards.map_shards(
    attend_locally,
    (q, ('rows', 'columns', 'heads')),
    (jnp.arange(q.shape[2]), ('heads',)),
    (k, kv_names), (v, kv_names),
    (queries, ('rows', 'columns')),
    (keys, ('rows',)),
  )  # fmt: skip


def _attend(q, k, v, **mask):
  output = jax.nn.dot_product_attention(q, k, v, implementation='cudnn', **mask)
  return checkpoint_name(output, MIXED)


def _pad_to_even(x, axis):
  """Pads lengths, which must be even for gradients."""
  padding = [(0, 0)] * x.ndim
  padding[axis] = 0, x.shape[axis] % 2
  return jnp.pad(x, padding)
