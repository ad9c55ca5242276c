"""The kernel of GPUs is compiled only: no CPU can interpret it.

Its arguments, masks and padding are tested with XLA in the kernel's place.
"""

import functools

import jax
import jax.numpy as jnp
import pytest
from test_splash_attention import LENGTH, assert_close, one_product, operands
from test_splash_attention import results as in_float32

from critic_jax.models import attention, cudnn_attention, transformer
from critic_jax.models.visibility import Causal
from critic_jax.plan import topology
from critic_jax.runtime import sharding


def on_gpus(test):
  """Marks a test as one of the GPUs' compiler."""
  return pytest.mark.slow(pytest.mark.cuda(test))


@pytest.mark.parametrize(
  ('kind', 'columns'),
  [('plain', LENGTH), ('packed', LENGTH - 1), ('prefix', LENGTH - 1)],
)
def test_what_the_kernel_is_given(monkeypatch, kind, columns):
  """Odd lengths are padded; seven heads of queries share one of keys."""

  def attend_by_xla(q, k, v, **mask):
    return jax.nn.dot_product_attention(q, k, v, implementation='xla', **mask)

  monkeypatch.setattr(cudnn_attention, '_attend', attend_by_xla)
  heads = (7, 1) if kind == 'packed' else (4, 2)
  (q, k, v, *prefix), toward, is_valid, causal = operands(kind, *heads)
  arrays = q[:, :columns], k[:, :, :columns], v[:, :, :columns], *prefix
  causal = jax.tree.map(lambda x: x[:, :columns], causal)
  given = arrays, toward[:, :columns], is_valid, causal
  ours = in_float32(cudnn_attention.attend, *given)
  assert_close(ours, one_product(*given))


@functools.partial(jax.jit, static_argnums=(0, 1))
def results(attend, remat, arrays, causal, is_valid):
  """Returns the output and the gradient of each array."""

  @functools.partial(jax.checkpoint, policy=transformer.REMAT_POLICIES[remat])
  def total(q, k, v, *prefix):
    parts = [(*prefix, is_valid)] if prefix else []
    output = attend(q, (k, v, causal), *parts)
    return jnp.sum(jnp.sin(output.astype(jnp.float32)))

  return jax.value_and_grad(total, tuple(range(len(arrays))))(*arrays)


def compiled(attend, sizes, kind, heads, kv_heads, length, remat='full'):
  """Compiles attention with its gradients for GPUs that are not there."""
  mesh = topology.make_mesh('h100', sizes)

  def shape(*sizes, dtype='bfloat16'):
    layout = sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=layout)

  arrays = shape(2, length, heads, 64), *[shape(2, kv_heads, length, 64)] * 2
  if kind == 'prefix':
    arrays += tuple(shape(2, kv_heads, 301, 64) for _ in range(2))
  labels = shape(2, length, dtype='int32')
  causal = Causal(labels, labels) if kind == 'packed' else Causal()
  is_valid = shape(2, 1, 301, dtype='bool')
  with jax.set_mesh(mesh):
    return results.lower(attend, remat, arrays, causal, is_valid).compile()


def num_kernels(program):
  return program.as_text().count('custom_call_target="__cudnn$fmha')


@on_gpus
@pytest.mark.parametrize('kind', ['plain', 'packed', 'prefix'])
@pytest.mark.parametrize(
  'sizes', [dict(fsdp=2, tensor=2, sequence=2), dict(data=2, tensor=4)]
)
@pytest.mark.parametrize('length', [512, 511])
def test_the_kernel_compiles(sizes, kind, length):
  program = compiled(
    cudnn_attention.attend, sizes, kind, 8, 2, length, 'dots_and_attention'
  )
  # The forward pass is not computed again.
  assert num_kernels(program) == 2
  program = compiled(cudnn_attention.attend, sizes, kind, 8, 2, length, 'full')
  assert num_kernels(program) == 3


@on_gpus
def test_temporaries_are_no_scores():
  length, heads = 4096, 8
  program = compiled(
    cudnn_attention.attend, dict(data=1), 'plain', heads, 1, length
  )
  reference = compiled(
    lambda q, part: attention.attend(q, (*part[:2], part[2].mask(length))),
    dict(data=1), 'plain', heads, 1, length,
  )  # fmt: skip
  ours, one_product = (
    p.memory_analysis().temp_size_in_bytes for p in (program, reference)
  )
  assert ours < one_product / 10
