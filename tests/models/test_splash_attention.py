"""The kernel of TPUs: interpreted here, and compiled where libtpu is.

Interpreting compiles for seconds, and the kernel's smallest block has 128
queries and keys; so the cases are few.
"""

import functools
import itertools
import os
import pathlib
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import (
  FAMILIES,
  VOCAB_SIZE,
  assert_trees_close,
  tiny_config,
  tiny_model,
)

from critic_jax.models import (
  attention,
  forward,
  kernel_shards,
  splash_attention,
  transformer,
)
from critic_jax.models.config import MAX_SPLASH_COLUMNS
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.models.visibility import Causal
from critic_jax.plan import topology
from critic_jax.runtime import sharding
from critic_jax.sampling import decode
from critic_jax.sampling.lanes import SharedPrefixes, empty_lanes

LENGTH = 140  # two blocks, the second of them padded
TOLERANCE = 2e-5  # of the largest value, in float32
DTYPES = 'float32', 'bfloat16'
KINDS = 'plain', 'packed', 'prefix'
MESHES = {
  'mixed': dict(fsdp=2, tensor=2, sequence=2),
  'tensor': dict(data=2, tensor=4),
}
interpreted = functools.partial(splash_attention.attend, interpret=True)


def packed(rows, length=LENGTH):
  """Labels rows: a prompt with three responses, one without, and padding."""
  ends = np.sort(
    np.random.default_rng(0).integers(1, length, (rows, 5)), axis=1
  )
  segments = np.sum(np.arange(length) >= ends[..., None], axis=1) + 1
  segments[segments == 6] = 0  # padding
  prefixes = np.where(np.isin(segments, (2, 3, 4)), 1, segments)
  return Causal(*(x.astype(np.int32) for x in (segments, prefixes)))


def operands(kind, heads, kv_heads, dtype='float32', rows=2, size=16):
  """Draws q, k, v, the gradient of the output, and what precedes the row."""
  random = np.random.default_rng(1)

  def draw(*shape):
    return jnp.asarray(random.normal(size=shape), dtype)

  kv_shape = rows, kv_heads, LENGTH, size
  arrays = draw(rows, LENGTH, heads, size), draw(*kv_shape), draw(*kv_shape)
  if kind == 'prefix':  # which two rows share
    arrays += tuple(draw(rows // 2, kv_heads, 9, size) for _ in range(2))
  toward = draw(rows, LENGTH, heads, size).astype(jnp.float32)
  is_valid = random.random((rows // 2, 1, 9)) < 0.5
  causal = packed(rows) if kind == 'packed' else Causal()
  return arrays, toward, is_valid, causal


@functools.partial(jax.jit, static_argnums=0)
def results(attend, arrays, toward, is_valid, mask):
  """Returns the output and the gradient of each array."""

  def total(q, k, v, *prefix):
    parts = [(*prefix, is_valid)] if prefix else []
    output = attend(q, (k, v, mask), *parts)
    return jnp.sum(output * toward), output

  gradient = jax.grad(total, tuple(range(len(arrays))), has_aux=True)
  return jax.tree.leaves(gradient(*arrays))


def difference(x, exact):
  """Returns what arrays differ by, in units of the largest exact value."""
  exact = np.asarray(exact)
  return (np.asarray(x, np.float32) - exact) / np.max(np.abs(exact))


def before_rounding(x, exact):
  """Returns the least errors that numbers had before they were rounded.

  A result in bfloat16 is up to half a unit in its last place away from the
  number that it is of, which is up to 4e-3 of that: no kernel does without.
  """
  half = np.spacing(np.abs(np.asarray(x, np.float32))) * 2**15
  half /= np.max(np.abs(exact))
  return np.maximum(0, np.abs(difference(x, exact)) - half)


def rms(x):
  return np.sqrt(np.mean(np.square(x)))


def assert_close(ours, exact, blocks=None):
  """Compares values and gradients with those of one product in float32.

  Args:
    ours: those of the kernel.
    exact: those of one product, of the very numbers that the kernel is given.
    blocks: in bfloat16, those of our blocks.

  In bfloat16 the kernel's values are exact until they are rounded. Gradients
  have products of weights that were rounded, in our blocks as in any kernel: of
  the blocks the worst element is off by 1e-2, and by 2e-3 or less on average.
  So the kernel's are that near, too, and no less near than those of the blocks.
  """
  if blocks is None:
    for x, y in zip(ours, exact, strict=True):
      assert np.max(np.abs(difference(x, y))) <= TOLERANCE
    return
  # `results` puts the gradients first.
  *gradients, value = zip(ours, exact, blocks, strict=True)
  assert np.max(before_rounding(*value[:2])) <= TOLERANCE
  for x, y, z in gradients:
    assert x.dtype == 'bfloat16'
    assert np.max(before_rounding(x, y)) <= 5e-3
    assert rms(difference(x, y)) <= min(2e-3, 1.1 * rms(difference(z, y)))


def one_product(arrays, toward, is_valid, causal):
  """Returns results in float32 of the very numbers that the kernel is given."""
  exact = jax.tree.map(lambda x: x.astype(jnp.float32), arrays)
  mask = causal.mask(arrays[0].shape[1])
  return results(attention.attend, exact, toward, is_valid, mask)


def in_blocks(arrays, *rest):
  """Returns the results of our blocks, if they are to be compared with."""
  if arrays[0].dtype == 'float32':
    return None
  return results(attention.attend, arrays, *rest)


QUICK = [
  ('plain', 4, 1, 'float32'),
  ('packed', 7, 1, 'float32'),
  ('prefix', 4, 2, 'float32'),
  ('packed', 4, 2, 'bfloat16'),
]
LAYOUTS = [
  (kind, *heads, dtype)
  for kind in KINDS
  for heads in ((4, 1), (4, 2), (4, 4), (7, 1))
  for dtype in DTYPES
]


@pytest.mark.parametrize(
  'kind, heads, kv_heads, dtype',
  [
    pytest.param(*x, marks=() if x in QUICK else pytest.mark.slow)
    for x in LAYOUTS
  ],
)
def test_the_kernel_gives_values_and_gradients_of_one_product(
  monkeypatch, kind, heads, kv_heads, dtype
):
  monkeypatch.setattr(splash_attention, 'BLOCK', 128)
  given = operands(kind, heads, kv_heads, dtype)
  ours = results(interpreted, *given)
  assert_close(ours, one_product(*given), in_blocks(*given))


def test_queries_are_rounded_once(monkeypatch):
  """A head of 8 is scaled by no power of two; queries come in float32."""
  monkeypatch.setattr(splash_attention, 'BLOCK', 128)
  (q, *kv), *rest = operands('plain', 2, 1, rows=1, size=8)
  kv = [x.astype(jnp.bfloat16) for x in kv]
  exact = one_product((q, *kv), *rest)
  rounded = (q.astype(jnp.bfloat16), *kv)
  errors = [
    rms(difference(values[-1], exact[-1]))
    for values in (
      results(interpreted, (q, *kv), *rest),
      results(interpreted, rounded, *rest),
      results(attention.attend, rounded, *rest),
    )
  ]
  once, twice, blocks = errors
  assert once < 0.95 * min(twice, blocks)


def test_packed_rows_that_are_too_long_to_be_numbered():
  longest = MAX_SPLASH_COLUMNS

  def label(length):
    labels = jax.ShapeDtypeStruct((1, length), jnp.int32)
    causal = Causal(labels, labels)
    return jax.eval_shape(
      functools.partial(splash_attention._labels, length), causal
    )

  assert label(longest)[0].first.shape == (1, longest)
  message = f'packed rows of {longest + 1} columns; expected {longest} at most'
  with pytest.raises(ValueError, match=message):
    label(longest + 1)


def test_heads_of_keys_are_those_that_a_device_s_queries_read():
  """For all numbers of heads and devices, also where these are more."""
  for kv_heads, group, devices in itertools.product(
    (1, 2, 3, 4), (1, 2, 3, 5, 6), (1, 2, 3, 4, 6, 8)
  ):
    heads = np.arange(kv_heads * group)
    if len(heads) % devices:
      continue
    x = np.arange(kv_heads)[None, :, None, None] * np.ones((1, 1, 2, 1))
    repeated = np.repeat(x, group, axis=1)
    for own in np.split(heads, devices):
      kept = kernel_shards.heads_read(x, own, group)
      shared = len(own) // kept.shape[1]
      np.testing.assert_array_equal(
        np.repeat(kept, shared, axis=1), repeated[:, own]
      )


# ------------------------------------------------------------- whole models


def rows(columns):
  random = np.random.default_rng(0)
  return random.integers(0, VOCAB_SIZE, (2, columns)).astype(np.int32)


def loss(params, model, tokens, layout=None):
  hidden = forward.hidden_states(model, params, tokens, layout)
  return jnp.sum(jnp.sin(hidden)), hidden


@pytest.mark.parametrize(
  'family, is_packed',
  [
    ('llama', True),
    *(
      pytest.param(family, is_packed, marks=pytest.mark.slow)
      for family in FAMILIES
      for is_packed in (False, True)
    ),
  ],
)
def test_models_with_the_kernel_are_models(monkeypatch, family, is_packed):
  monkeypatch.setattr(attention, 'SHORT', 16)
  monkeypatch.setitem(transformer.KERNELS, 'splash', interpreted)
  layout = None
  if is_packed:
    places = np.tile(np.arange(40), (2, 1)).astype(np.int32)
    layout = forward.Layout(*packed(2, 40)[:2], places)
  gradients = {}
  for program in ('splash', 'xla'):
    model, params = tiny_model(family, num_layers=1, attention=program)
    compute = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    gradients[program] = compute(params, model, rows(40), layout)
  assert_trees_close(*gradients.values(), rtol=1e-4, atol=2e-5)


def test_short_rows_and_single_tokens_need_no_kernel():
  model, params = tiny_model(num_layers=1, attention='splash')
  program = jax.make_jaxpr(loss, static_argnums=1)(
    params, model, rows(attention.SHORT)
  )
  assert 'pallas_call[' not in str(program)


# ------------------------------------------------------------------- meshes


def main(path, kind, dtype):
  """Computes rows on meshes of fake devices."""
  splash_attention.BLOCK = 128
  for name, sizes in MESHES.items():
    with jax.set_mesh(sharding.make_mesh(sizes)):
      ours = results(interpreted, *operands(kind, 4, 2, dtype))
    # numpy writes no bfloat16.
    np.savez(pathlib.Path(path) / name, *(np.float32(x) for x in ours))


@pytest.mark.parametrize(
  'kind, dtype',
  [
    ('packed', 'float32'),
    *(
      pytest.param(kind, dtype, marks=pytest.mark.slow)
      for kind in KINDS
      for dtype in DTYPES
      if (kind, dtype) != ('packed', 'float32')
    ),
  ],
)
def test_meshes_compute_what_one_device_computes(python, tmp_path, kind, dtype):
  """Two heads of keys: two devices split them, four have them whole."""
  flags = '--xla_force_host_platform_device_count=8 ' + os.environ['XLA_FLAGS']
  result = python(__file__, tmp_path, kind, dtype, XLA_FLAGS=flags)
  assert result.returncode == 0, result.stderr[-3000:]
  given = operands(kind, 4, 2, dtype)
  expected, blocks = one_product(*given), in_blocks(*given)
  for name in MESHES:
    with np.load(tmp_path / f'{name}.npz') as ours:
      arrays = [jnp.asarray(x, dtype) for x in ours.values()]
    assert_close(arrays, expected, blocks)


# ----------------------------------------------------------------- compiled


def compiled(
  mesh, kind, heads, kv_heads, head_dim, length,
  dtype='bfloat16', attend=splash_attention.attend,
):  # fmt: skip
  """Compiles attention with its gradients for devices that are not there."""

  def shape(*sizes, dtype=dtype):
    layout = sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=layout)

  q, labels = shape(2, length, heads, head_dim), shape(2, length, dtype='int32')
  arrays = q, *[shape(2, kv_heads, length, head_dim)] * 2
  if kind == 'prefix':
    arrays += tuple(shape(2, kv_heads, 100, head_dim) for _ in range(2))
  causal = Causal(labels, labels) if kind == 'packed' else Causal()
  is_valid = shape(2, 1, 100, dtype='bool')
  with jax.set_mesh(mesh):
    return results.lower(attend, arrays, q, is_valid, causal).compile()


def num_custom_calls(program):
  return program.as_text().count('custom_call_target="tpu_custom_call"')


@pytest.mark.libtpu
@pytest.mark.parametrize(
  'chip, mesh, kind, kv_heads, head_dim, dtype',
  [
    ('v5e', 'mixed', 'packed', 2, 128, 'bfloat16'),
    *(
      pytest.param(chip, mesh, *case, marks=pytest.mark.slow)
      for chip in ('v5e', 'v5p', 'v6e')
      for mesh in MESHES
      for case in (
        ('plain', 1, 80, 'bfloat16'),
        ('packed', 8, 64, 'bfloat16'),
        ('prefix', 2, 128, 'float32'),
      )
    ),
  ],
)
def test_the_kernel_compiles(chip, mesh, kind, kv_heads, head_dim, dtype):
  mesh = topology.make_mesh(chip, MESHES[mesh])
  program = compiled(mesh, kind, 8, kv_heads, head_dim, 600, dtype)
  assert num_custom_calls(program) == 3


@pytest.mark.slow
@pytest.mark.libtpu
@pytest.mark.parametrize('mesh', MESHES)
@pytest.mark.parametrize(
  'layers, num_kernels', [('scanned', 3), ('unrolled', 9)]
)
def test_layers_of_packed_rows_keep_the_kernel_s_output(
  mesh, layers, num_kernels
):
  mesh = topology.make_mesh('v5e', MESHES[mesh])
  model = Transformer(
    tiny_config(num_layers=3, attention='splash', layers=layers)
  )
  params = nn.meta.unbox(transformer.abstract_params(model))
  tokens = jax.ShapeDtypeStruct((2, 300), jnp.int32)
  layout = sharding.replicated(mesh)
  arguments = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=layout),
    (params, tokens, forward.Layout(tokens, tokens, tokens)),
  )
  gradient = jax.grad(
    lambda params, *rows: loss(params, model, *rows), has_aux=True
  )
  with jax.set_mesh(mesh):
    program = jax.jit(gradient).lower(*arguments).compile()
  assert num_custom_calls(program) == num_kernels


@pytest.mark.slow
@pytest.mark.libtpu
@pytest.mark.parametrize('mesh', MESHES)
@pytest.mark.parametrize('is_shared', [False, True])
def test_prompts_are_computed_by_the_kernel(mesh, is_shared):
  """One, in one layer: of a shared prefix only keys and values are needed."""
  mesh = topology.make_mesh('v5e', MESHES[mesh])
  model = Transformer(tiny_config(num_layers=1, attention='splash'))

  def shape(*sizes, dtype='int32'):
    layout = sharding.replicated(mesh)
    return jax.ShapeDtypeStruct(sizes, dtype, sharding=layout)

  def on_mesh(tree):
    return jax.tree.map(lambda x: shape(*x.shape, dtype=x.dtype), tree)

  params = nn.meta.unbox(transformer.abstract_params(model))
  lanes = jax.eval_shape(lambda: empty_lanes(model, 4, 2, 2, 600, 8))
  keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
  shared = None
  if is_shared:
    shared = SharedPrefixes(shape(2, 300), shape(2), shape(4))
  with jax.set_mesh(mesh):
    program = decode.insert.lower(
      model, on_mesh(params), on_mesh(lanes), shape(4), shape(4, 300),
      shape(4), on_mesh(keys), eos=np.array([1], np.int32),
      sampling_params=SamplingParams(), shared_prefixes=shared,
    ).compile()  # fmt: skip
  assert num_custom_calls(program) == 1


@pytest.mark.libtpu
@pytest.mark.parametrize(
  'remat, num_kernels',
  [
    ('dots_and_attention', 3),
    pytest.param('full', 4, marks=pytest.mark.slow),
  ],
)
def test_a_kept_output_is_not_computed_again(remat, num_kernels):
  """Forward, gradients of queries, gradients of keys; and forward again."""
  kept = jax.checkpoint(
    splash_attention.attend, policy=transformer.REMAT_POLICIES[remat]
  )
  mesh = topology.make_mesh('v5e', dict(data=1))
  program = compiled(mesh, 'packed', 2, 1, 64, 300, attend=kept)
  assert num_custom_calls(program) == num_kernels


@pytest.mark.libtpu
def test_temporaries_of_a_long_row_are_no_scores():
  """At most a tenth of two arrays of scores; one product takes 2.5 times those.

  The kernel takes 50 MiB here, one product 10,496.
  """
  length, heads = 16384, 2
  mesh = topology.make_mesh('v5e', dict(data=1))
  program = compiled(mesh, 'packed', heads, 1, 8, length)
  scores = 4 * length**2 * heads
  assert program.memory_analysis().temp_size_in_bytes < 2 * scores / 10


if __name__ == '__main__':
  main(*sys.argv[1:])
