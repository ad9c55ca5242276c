"""Eight fake devices against one.

The number of devices is fixed when jax starts: `main` runs in a process of its
own, computes all cases and writes arrays, which the tests here compare.
"""

import os
import pathlib
import re
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import random_params, tiny_config
from jax.sharding import AbstractMesh, PartitionSpec

from critic_jax import roles, sampling, sharding
from critic_jax.models import forward, transformer
from critic_jax.models.law import Law
from critic_jax.models.transformer import Transformer

MESHES = {
  'one': dict(),
  'data': dict(data=8),
  'fsdp': dict(fsdp=-1),
  'tensor': dict(data=2, tensor=4),
}
# Every kind of parameter, all of sizes that four divides.
MODEL = Transformer(
  tiny_config(
    'qwen2', num_heads=8, num_kv_heads=4, head_dim=4, num_layers=1,
    qk_norm=True, tie_embeddings=False,
  )
)  # fmt: skip


def loss(params, batch):
  logprobs = forward.token_logprobs(MODEL, params, batch['tokens'], chunk=32)
  return jnp.sum(batch['weights'] * logprobs)


def on_mesh(name, path):
  """Computes everything on a mesh and writes it."""
  random = np.random.default_rng(0)
  devices = jax.devices()[:1] if name == 'one' else jax.devices()
  mesh = sharding.make_mesh(MESHES[name], devices)
  shardings = sharding.param_shardings(transformer.abstract_params(MODEL), mesh)
  params = jax.device_put(random_params(MODEL), shardings)
  batch = sharding.put_batch(
    {
      'tokens': random.integers(0, 64, (16, 9)).astype(np.int32),
      'weights': random.normal(size=(16, 9)).astype(np.float32),
    },
    mesh,
  )
  value, gradient = jax.jit(jax.value_and_grad(loss))(params, batch)
  samples = sampling.sample(
    MODEL, params, batch['tokens'][:8, :4], jnp.array([1, 2, 3, 4] * 2),
    jax.random.split(jax.random.key(0), 8), eos=jnp.array([1, 2, 3]),
    law=Law(0.9, 50, 0.95), max_new_tokens=8,
  )  # fmt: skip
  copied = roles.copy(params, params)
  up = ('layers_0', 'mlp', 'up', 'kernel')
  facts = dict(
    mesh=[mesh.shape[axis] for axis in sharding.AXES],
    rows=batch['tokens'].sharding.shard_shape((16, 9)),
    odd_rows=sharding.put_batch(np.zeros((3, 9)), mesh).sharding.shard_shape(
      (3, 9)
    ),
    **{
      f'{tree}_shard': leaf(found, up).sharding.shard_shape((32, 64))
      for tree, found in (('up', params), ('copy', copied), ('grad', gradient))
    },
  )
  arrays = {f'fact/{k}': np.array(v) for k, v in facts.items()}
  arrays['loss'] = value
  for where, x in jax.tree_util.tree_leaves_with_path(gradient):
    arrays['grad' + jax.tree_util.keystr(where)] = x
  for field, x in samples._asdict().items():
    arrays[f'samples/{field}'] = x
  np.savez(path / f'{name}.npz', **arrays)


def leaf(tree, path):
  for name in path:
    tree = tree[name]
  return tree


@pytest.fixture(scope='module')
def found(tmp_path_factory):
  """The arrays of each mesh."""
  path = tmp_path_factory.mktemp('sharding')
  root = str(pathlib.Path(__file__).parents[1])
  environment = {
    **os.environ,
    'JAX_PLATFORMS': 'cpu',
    # Without optimising, the compiler takes half as long.
    'XLA_FLAGS': '--xla_force_host_platform_device_count=8 '
    '--xla_backend_optimization_level=0',
    'PYTHONPATH': os.pathsep.join(
      [root, *filter(None, [os.environ.get('PYTHONPATH')])]
    ),
  }
  result = subprocess.run(
    [sys.executable, __file__, str(path)],
    env=environment, capture_output=True, text=True, timeout=300,
  )  # fmt: skip
  assert result.returncode == 0, result.stderr[-3000:]
  return {name: dict(np.load(path / f'{name}.npz')) for name in MESHES}


SEVERAL = [name for name in MESHES if name != 'one']


@pytest.mark.parametrize('mesh', SEVERAL)
def test_loss_and_gradients_are_those_of_one_device(found, mesh):
  one, several = found['one'], found[mesh]
  names = [n for n in one if n == 'loss' or n.startswith('grad')]
  assert len(names) == 1 + len(jax.tree.leaves(random_params(MODEL)))
  for name in names:
    # 1e-5 of the largest entry: small entries are differences of large ones.
    scale = np.max(np.abs(one[name]))
    assert scale > 1e-3, f'{name} is not tested'
    np.testing.assert_allclose(
      several[name] / scale, one[name] / scale, atol=1e-5, err_msg=name
    )


@pytest.mark.parametrize('mesh', SEVERAL)
def test_samples_are_those_of_one_device(found, mesh):
  one, several = found['one'], found[mesh]
  for field in ('tokens', 'length', 'stopped'):
    np.testing.assert_array_equal(
      several[f'samples/{field}'], one[f'samples/{field}']
    )
  np.testing.assert_allclose(
    several['samples/logprobs'], one['samples/logprobs'], atol=1e-4
  )
  assert len(set(one['samples/length'])) > 1


@pytest.mark.parametrize(
  ('mesh', 'sizes', 'rows', 'up_shard'),
  [
    ('one', [1, 1, 1], 16, [32, 64]),
    ('data', [8, 1, 1], 2, [32, 64]),
    ('fsdp', [1, 8, 1], 2, [32 // 8, 64]),
    ('tensor', [2, 1, 4], 8, [32, 64 // 4]),
  ],
)
def test_what_each_device_holds(found, mesh, sizes, rows, up_shard):
  """Rows of 16, and of the kernel of `up`, [embed 32, mlp 64]."""
  facts = found[mesh]
  assert facts['fact/mesh'].tolist() == sizes
  assert facts['fact/rows'].tolist() == [rows, 9]
  assert facts['fact/odd_rows'].tolist() == [3, 9]  # whole: 3 do not divide
  for tree in ('up', 'copy', 'grad'):
    assert facts[f'fact/{tree}_shard'].tolist() == up_shard


def test_make_mesh_on_one_device():
  for sizes in ({}, {'data': 1}, {'data': -1, 'tensor': 1}, {'fsdp': -1}):
    mesh = sharding.make_mesh(sizes, jax.devices()[:1])
    assert dict(mesh.shape) == {'data': 1, 'fsdp': 1, 'tensor': 1}


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'model': 2}, "mesh: got the axes ['model']; expected ['data', 'fsdp'"),
    (
      {'data': 3},
      "mesh: got {'data': 3, 'fsdp': 1, 'tensor': 1} for 1 devices; expected "
      'sizes whose product is that; set one of them to -1',
    ),
    ({'data': -1, 'fsdp': -1}, "got {'data': -1, 'fsdp': -1, 'tensor': 1}"),
    ({'data': -1, 'tensor': 2}, "got {'data': -1, 'fsdp': 1, 'tensor': 2}"),
    ({'data': -1, 'tensor': 0}, "got {'data': -1, 'fsdp': 1, 'tensor': 0}"),
    ({'data': -1, 'tensor': -2}, "got {'data': -1, 'fsdp': 1, 'tensor': -2}"),
  ],
)
def test_wrong_meshes(sizes, message):
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.make_mesh(sizes, jax.devices()[:1])


def abstract_mesh(**sizes):
  return AbstractMesh(
    tuple(sizes.get(axis, 1) for axis in sharding.AXES), sharding.AXES
  )


def test_param_shardings_follow_the_rules():
  model = Transformer(tiny_config('qwen2', tie_embeddings=False))
  found = sharding.param_shardings(
    transformer.abstract_params(model), abstract_mesh(fsdp=2, tensor=2)
  )
  layer = found['layers_1']
  for x, expected in (
    (found['embed']['embedding'], ('tensor', 'fsdp')),
    (found['lm_head']['kernel'], ('fsdp', 'tensor')),
    (found['final_norm']['scale'], (None,)),
    (layer['attention']['q']['kernel'], ('fsdp', 'tensor', None)),
    (layer['attention']['k']['bias'], ('tensor', None)),
    (layer['attention']['o']['kernel'], ('tensor', None, 'fsdp')),
    (layer['mlp']['down']['kernel'], ('tensor', 'fsdp')),
  ):
    assert x.spec == PartitionSpec(*expected)
  # Unboxed: the tree is that of the parameters.
  params = nn.meta.unbox(transformer.abstract_params(model))
  assert jax.tree.structure(found) == jax.tree.structure(params)


def test_other_rules():
  found = sharding.param_shardings(
    transformer.abstract_params(MODEL),
    abstract_mesh(fsdp=8),
    {**dict.fromkeys(sharding.RULES), 'mlp': 'fsdp'},
  )
  assert found['layers_0']['mlp']['up']['kernel'].spec[1] == 'fsdp'
  assert set(found['embed']['embedding'].spec) == {None}


def test_tensor_must_divide_the_kv_heads():
  model = Transformer(tiny_config())  # 4 heads, 2 of keys and values
  message = (
    "layers_0/attention/k/kernel: got axis 'kv_heads' of size 2 on mesh axis "
    "'tensor' of size 4; expected a size that divides it"
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.param_shardings(
      transformer.abstract_params(model), abstract_mesh(tensor=4)
    )


def test_an_axis_without_a_rule():
  rules = {k: v for k, v in sharding.RULES.items() if k != 'mlp'}
  message = "got the axis 'mlp'; expected one with a rule: ['embed', 'head_"
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.param_shardings(
      transformer.abstract_params(MODEL), abstract_mesh(), rules
    )


if __name__ == '__main__':
  assert len(jax.devices()) == 8
  for mesh_name in MESHES:
    on_mesh(mesh_name, pathlib.Path(sys.argv[1]))
