"""Eight fake devices against one.

The number of devices is fixed when jax starts: `main` runs in a process of its
own, computes all cases and writes arrays, which the tests here compare; so do
`slow_cases_on_meshes` and others.
"""

import dataclasses
import functools
import io
import os
import pathlib
import re
import shutil
import sys
import types
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from helpers import (
  FAMILIES,
  OTHER_FAMILIES,
  random_params,
  slow,
  tiny_config,
)
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from configs import refcritic
from critic_jax import train
from critic_jax.loss_fns import pairwise
from critic_jax.models import (
  attention,
  forward,
  linear_cross_entropy,
  sizes,
  transformer,
)
from critic_jax.models.config import PLATFORMS, Lora
from critic_jax.models.sampling_distribution import SamplingParams
from critic_jax.models.transformer import Transformer
from critic_jax.rewards import refinement
from critic_jax.runtime import compilation, sharding
from critic_jax.sampling import decode, scheduler
from critic_jax.sampling.lanes import empty_lanes
from critic_jax.training import roles
from critic_jax.workdir import checkpoint, run_dir

MESHES = {
  'one': dict(),
  'data': dict(data=8),
  'fsdp': dict(fsdp=-1),
  'tensor': dict(data=2, tensor=4),
  'mixed': dict(fsdp=2, tensor=2, sequence=2),
}


def sized(family, **changes):
  """Makes a model of a family in sizes that four divides."""
  sizes = dict(num_heads=8, num_kv_heads=4, head_dim=4, num_layers=1)
  return Transformer(tiny_config(family, **sizes, **changes))


# Every kind of parameter in one, and the families as they are.
MODEL = sized(
  'qwen2', qk_norm=True, post_norms=True, tie_embeddings=False, sliding_window=6
)
FAMILY_MODELS = {name: sized(name) for name in [*FAMILIES, *OTHER_FAMILIES]}
FAMILY_MODELS['adapters'] = sized(
  'qwen2', lora=Lora(rank=4, alpha=8.0, targets='.*', dropout=0.0)
)
# The families' parameters are those of MODEL, but for experts.
CASES = [
  *(('all', mesh) for mesh in ('one', 'tensor', 'mixed')),
  *(('qwen3_moe', mesh) for mesh in ('one', 'mixed')),
]
SLOW_CASES = [
  ('all', 'data'),
  ('all', 'fsdp'),
  *(
    (name, mesh)
    for name in [*FAMILIES, 'mistral', 'gemma3', 'adapters']
    for mesh in ('one', 'mixed')
  ),
]


@functools.partial(jax.jit, static_argnums=(0, 1))
def loss_and_gradient(model, block, params, batch):
  """Computes both, with attention in blocks of so many tokens."""

  def loss(params):
    logprobs = forward.token_logprobs(model, params, batch['tokens'], chunk=32)
    return jnp.sum(batch['weights'] * logprobs)

  with (
    mock.patch.object(attention, 'BLOCK', block),
    mock.patch.object(attention, 'SHORT', block),
  ):
    return jax.value_and_grad(loss)(params)


@functools.partial(jax.jit, static_argnums=0)
def loss_of_pairs(model, params, batch):
  """Computes the loss of pairs whose rows are far apart, and its gradient."""
  loss = pairwise.make_pair_loss(
    dict.fromkeys(('critic', 'ref'), mock.Mock(model=model)),
    'critic',
    objective=dict(name='dpo'),
    num_groups=8,
    rows_per_group=2,
    microbatches=1,
  ).loss
  random = np.random.default_rng(1)
  mask = np.arange(10) >= random.integers(1, 10, (16, 1))
  responses = mask * random.permutation(np.arange(1, 17))[:, None]
  pairs = {
    'mask': mask,
    'responses': responses,
    'pairs': np.where(responses % 2, 2, 0),  # over the second of its group
    'rewards': 0 * mask / 160,
    'weights': mask / 160,
    'mean_weights': mask / 160,
    'ref_logprobs': -random.exponential(size=mask.shape),
  }
  pairs = {name: jnp.asarray(x) for name, x in pairs.items()}
  return jax.value_and_grad(
    lambda x: 100 * loss({'critic': x}, batch | pairs)[0]
  )(params)


def devices_of(name):
  return jax.devices()[:1] if name == 'one' else jax.devices()


def on_mesh(family, name, path):
  """Computes everything on a mesh and writes it."""
  random = np.random.default_rng(0)
  model = FAMILY_MODELS.get(family, MODEL)
  mesh = sharding.make_mesh(MESHES[name], devices_of(name))
  shardings = sharding.param_shardings(transformer.abstract_params(model), mesh)
  params = jax.device_put(random_params(model), shardings)
  batch = sharding.put_batch(
    {
      'tokens': random.integers(0, 64, (16, 10)).astype(np.int32),
      'weights': random.normal(size=(16, 10)).astype(np.float32),
    },
    mesh,
  )
  with sharding.on_mesh_of(params):
    losses = {'': loss_and_gradient(model, 10, params, batch)}
    if family == 'all':
      # Blocks of 4 do not divide 10 columns, nor the 5 of a device.
      losses[' in blocks'] = loss_and_gradient(model, 4, params, batch)
    if family == 'qwen3':
      losses[' of pairs'] = loss_of_pairs(model, params, batch)
  prompts = dict(enumerate(random.integers(4, 64, (11, 4)).tolist()))
  settings = dict(
    eos=np.array([1, 2, 3], np.int32), sampling_params=SamplingParams(0.9, 50,
    0.95), num_samples=2, max_new_tokens=8, num_lanes=8, num_rows=1,
  )  # fmt: skip
  keys = jax.random.split(jax.random.key(0), 11)
  scheduler.compile_one(model, params, keys, 4, **settings)
  with compilation.Counter() as compilations:
    sampled = scheduler.run(model, params, prompts, keys, columns=4, **settings)
    late = compilations.read()['compile/count']
  samples = jax.tree.map(lambda *x: np.concatenate(x), *sampled.values())
  copied = roles.copy(params, params)
  up = 'layers_0', 'mlp', 'up', 'kernel'
  if model.config.num_experts:
    up = 'layers_0', 'mlp', 'expert_up', 'kernel'
  up_shape = leaf(params, up).shape
  facts = dict(
    mesh=[mesh.shape[axis] for axis in sharding.AXES],
    rows=batch['tokens'].sharding.shard_shape((16, 10)),
    late=[late],
    odd_rows=sharding.put_batch(np.zeros((3, 9)), mesh).sharding.shard_shape(
      (3, 9)
    ),
    **{
      f'{tree}_shard': leaf(x, up).sharding.shard_shape(up_shape)
      for tree, x in (('up', params), ('copy', copied))
    },
  )
  arrays = {f'fact/{k}': np.array(v) for k, v in facts.items()}
  for kind, (value, gradient) in losses.items():
    arrays['loss' + kind] = value
    for where, x in jax.tree_util.tree_leaves_with_path(gradient):
      arrays['grad' + jax.tree_util.keystr(where) + kind] = x
  for field, x in samples._asdict().items():
    arrays[f'samples/{field}'] = x
  np.savez(path / f'{family}-{name}.npz', **arrays)


def inserts_on_mesh(path):
  """Counts a device's flops when two prompts are put into eight lanes."""
  mesh = sharding.make_mesh(MESHES['data'])
  shardings = sharding.param_shardings(transformer.abstract_params(MODEL), mesh)
  params = jax.device_put(random_params(MODEL), shardings)
  flops = []
  with sharding.on_mesh_of(params):
    empty = empty_lanes(MODEL, 8, 1, 1, 16, 8)
    for size in (scheduler.num_inserted(8), scheduler.num_inserted(8, 8)):
      tokens, length, _ = scheduler.lay_out([[1] * 16] * 2, size, 16, 8)
      program = decode.insert.lower(
        MODEL, params, empty, np.arange(size), tokens, length,
        jax.random.split(jax.random.key(0), size), eos=np.array([1]),
        sampling_params=SamplingParams(),
      ).compile()  # fmt: skip
      flops.append(program.cost_analysis()['flops'])
  np.savez(path / 'inserts.npz', flops=flops)


def heads_on_meshes(path):
  """Compiles a head's loss on meshes; writes chunks and temporaries."""
  shapes = (16, 512, 64), (4096, 64), (16, 512)  # hidden, kernel, targets
  names = ('rows', 'columns'), ('vocab', 'embed'), ('rows', 'columns')

  def loss(hidden, kernel, targets):
    logprobs, _ = linear_cross_entropy.token_logprobs_and_entropy(
      hidden, kernel, targets, SamplingParams()
    )
    return jnp.sum(logprobs)

  sizes_by_mesh = {}
  for name in ('one', 'data', 'tensor', 'mixed'):
    mesh = sharding.make_mesh(MESHES[name], devices_of(name))
    arguments = [
      jax.ShapeDtypeStruct(
        shape,
        jnp.int32 if i == 2 else jnp.float32,
        sharding=NamedSharding(
          mesh, PartitionSpec(*map(sharding.RULES.get, axes))
        ),
      )
      for i, (shape, axes) in enumerate(zip(shapes, names, strict=True))
    ]
    with (
      mock.patch.object(linear_cross_entropy, 'MAX_LOGITS', 2**18),
      mock.patch.object(
        linear_cross_entropy, '_statistics',
        wraps=linear_cross_entropy._statistics,
      ) as statistics,
      jax.set_mesh(mesh),
    ):  # fmt: skip
      program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arguments)
      memory = program.compile().memory_analysis()
    chunks = statistics.call_args.args[2].shape[0]
    sizes_by_mesh[name] = chunks, memory.temp_size_in_bytes
  np.savez(path / 'heads.npz', **sizes_by_mesh)


def refcritic_on_mesh(name, path, first_mesh=None, every=2, family=''):
  """Trains two steps of a tiny RefCritic on a mesh; writes the parameters.

  Where it was begun on another, the second of them, in a copy of that run's
  folder, from the checkpoint that was written there after the first.
  """
  config = refcritic.get_config('tiny')
  config.order, config.evals = ('rl',), {}
  config.phases.rl.copy = {}
  del config.models.cold
  config.compile_ahead = True
  config.phases.rl.steps = 2
  config.phases.rl.checkpoint_every = every
  # All stages with two responses, four lanes of two rows: one shape.
  config.phases.rl.update(num_solutions=2, num_critiques=2, num_refinements=2)
  for role in config.models:
    config.models[role].max_rows = 8
  config.mesh = MESHES[name]
  heads = dict(num_heads=8, num_kv_heads=4, head_dim=4, qkv_bias=True)
  heads |= OTHER_FAMILIES.get(family, {})
  nano = {'nano': sizes.SIZES['nano'] | heads}
  devices = devices_of(name)
  if first_mesh:
    source, name = path / first_mesh, f'{first_mesh}-{name}'
    shutil.copytree(source, path / name)
    shutil.rmtree(path / name / 'checkpoints/2')
  if family:
    name = f'{family}-{name}'
  with (
    mock.patch.dict(sizes.SIZES, nano),
    mock.patch.object(jax, 'devices', lambda: devices),
    # An untrained critic earns no refinement: every conclusion is refined.
    mock.patch.object(
      refinement, 'admits', lambda gate, c: bool(c.parsed.get('conclusion'))
    ),
  ):
    folder = train.run(config, str(path / name), Console(file=io.StringIO()))
  with checkpoint.make_manager(folder / 'checkpoints', keep=None) as manager:
    roles_only = ocp.args.Composite(roles=ocp.args.StandardRestore())
    restored_state = manager.restore(2, args=roles_only)
  arrays = jax.tree_util.tree_leaves_with_path(
    restored_state['roles']['critic']
  )
  np.savez(
    path / f'refcritic-{name}.npz',
    **{jax.tree_util.keystr(where): x for where, x in arrays},
  )


def moved_on_mesh(path):
  """Lays arrays out anew, for devices in one order and in another."""
  mesh = sharding.make_mesh(dict(fsdp=4, tensor=2))
  shuffled = np.array(jax.devices())[[1, 0, 3, 2, 4, 6, 5, 7]]
  arrays = {
    name: jax.device_put(np.arange(64.0).reshape(8, 8), NamedSharding(mesh, s))
    for name, s in (
      ('split', PartitionSpec('fsdp')),
      ('whole', PartitionSpec()),
    )
  }
  for name, other in (
    ('same', sharding.make_mesh(dict(data=4, tensor=2))),
    ('other', Mesh(shuffled.reshape(4, 1, 2, 1), sharding.AXES)),
  ):
    targets = {
      name: jax.ShapeDtypeStruct(
        (8, 8), jnp.float32, sharding=NamedSharding(other, spec)
      )
      for name, spec in (
        ('split', PartitionSpec(None, 'tensor')),
        ('whole', PartitionSpec()),
      )
    }
    with compilation.Counter() as compilations:
      moved_arrays = sharding.reshard(arrays, targets)
      first_count = compilations.read()['compile/count']
      sharding.reshard(arrays, targets)
      second_count = compilations.read()['compile/count']
    pointers = [
      tree['whole'].addressable_shards[0].data.unsafe_buffer_pointer()
      for tree in (arrays, moved_arrays)
    ]
    np.savez(
      path / f'moved-{name}.npz',
      **moved_arrays,
      is_laid_out=[
        moved_arrays[k].sharding == targets[k].sharding for k in targets
      ],
      compiled=[first_count, second_count],
      is_copied=pointers[0] != pointers[1],
    )


def main(path):
  for case in CASES:
    on_mesh(*case, path)
  heads_on_meshes(path)
  inserts_on_mesh(path)
  moved_on_mesh(path)
  for name in ('one', 'mixed'):
    refcritic_on_mesh(name, path)


def refcritic_on_other_meshes(path):
  for name in ('one', 'fsdp', 'tensor'):
    refcritic_on_mesh(name, path)


def slow_cases_on_meshes(path):
  for case in SLOW_CASES:
    on_mesh(*case, path)


def refcritic_of_families(path):
  for family in OTHER_FAMILIES:
    for name in ('one', 'mixed'):
      refcritic_on_mesh(name, path, family=family)


def continue_on_meshes(path):
  refcritic_on_mesh('fsdp', path, every=1)
  for name in ('tensor', 'one'):
    refcritic_on_mesh(name, path, first_mesh='fsdp', every=1)


def leaf(tree, path):
  for name in path:
    tree = tree[name]
  return tree


def run_here(python, path, main):
  """Runs a function of this file in a process with eight devices."""
  devices = '--xla_force_host_platform_device_count=8 '
  flags = devices + os.environ['XLA_FLAGS']
  result = python(__file__, main, path, XLA_FLAGS=flags)
  assert result.returncode == 0, result.stderr[-3000:]
  return path


@pytest.mark.parametrize(
  ('device', 'name'),
  [
    (dict(platform='cpu'), 'cpu'),
    (dict(platform='tpu'), 'tpu'),
    (dict(platform='METAL'), 'cpu'),
    (dict(platform='cuda'), 'gpu'),  # of a topology: it has no client
    (dict(platform='gpu', version='cuda 12080', compute_capability='9.0'),
     'gpu'),
    (dict(platform='gpu', version='cuda 12080', compute_capability='12.1'),
     'gpu'),
    (dict(platform='gpu', version='cuda 12080', compute_capability='7.5'),
     'other_gpu'),
    (dict(platform='gpu', version='PJRT C API\nrocm 60300',
          compute_capability='gfx942'), 'other_gpu'),
  ],
)  # fmt: skip
def test_the_platform_of_a_mesh(device, name):
  """AMD's GPUs are 'gpu' to jax, and have no cuDNN."""
  if 'version' in device:
    device['client'] = mock.Mock(platform_version=device.pop('version'))
  mesh = mock.Mock(devices=np.array([types.SimpleNamespace(**device)]))
  assert compilation.platform(mesh) == name
  assert name in PLATFORMS


@pytest.fixture(scope='module')
def folder(python, tmp_path_factory):
  """Runs a process with eight devices; returns its folder."""
  return run_here(python, tmp_path_factory.mktemp('sharding'), 'main')


@pytest.fixture(scope='module')
def continued(python, tmp_path_factory):
  """Runs trainings that continue on another mesh; returns their folder."""
  return run_here(
    python, tmp_path_factory.mktemp('continued'), 'continue_on_meshes'
  )


@pytest.fixture(scope='module')
def other_meshes(python, tmp_path_factory):
  """Trains a tiny RefCritic on more meshes; returns their folder."""
  return run_here(
    python, tmp_path_factory.mktemp('meshes'), 'refcritic_on_other_meshes'
  )


@pytest.fixture(scope='module')
def refcritics(python, tmp_path_factory):
  """Trains a tiny RefCritic of each other family; returns their folder."""
  return run_here(
    python, tmp_path_factory.mktemp('refcritics'), 'refcritic_of_families'
  )


@pytest.fixture(scope='module')
def slow_folder(python, tmp_path_factory):
  """Runs the slow cases; returns their folder."""
  return run_here(
    python, tmp_path_factory.mktemp('slow'), 'slow_cases_on_meshes'
  )


@pytest.fixture(scope='module')
def arrays_of(request):
  """Returns a function: a case -> its arrays."""

  @functools.cache
  def read(family, mesh):
    name = 'slow_folder' if (family, mesh) in SLOW_CASES else 'folder'
    folder = request.getfixturevalue(name)
    return dict(np.load(folder / f'{family}-{mesh}.npz'))

  return read


PARAMS = [*CASES, *slow(*SLOW_CASES)]
SEVERAL = [
  case for case in PARAMS if 'one' not in getattr(case, 'values', case)
]


@pytest.mark.parametrize(('family', 'mesh'), SEVERAL)
def test_loss_and_gradients_are_those_of_one_device(arrays_of, family, mesh):
  single, sharded = arrays_of(family, 'one'), arrays_of(family, mesh)
  names = [n for n in single if n.startswith(('loss', 'grad'))]
  model = FAMILY_MODELS.get(family, MODEL)
  kinds = 2 if family in ('all', 'qwen3') else 1
  assert len(names) == kinds * (1 + len(jax.tree.leaves(random_params(model))))
  for name in names:
    # 1e-5 of the largest entry: small entries are differences of large ones.
    scale = np.max(np.abs(single[name]))
    # Softmax does not see a bias of all keys.
    assert scale > (1e-3 if "['k']['bias']" not in name else 0), name
    np.testing.assert_allclose(
      sharded[name] / max(scale, 1e-3), single[name] / max(scale, 1e-3),
      atol=1e-5, err_msg=name,
    )  # fmt: skip


@pytest.mark.parametrize(('family', 'mesh'), SEVERAL)
def test_samples_are_those_of_one_device(arrays_of, family, mesh):
  single, sharded = arrays_of(family, 'one'), arrays_of(family, mesh)
  for field in ('tokens', 'length', 'stopped'):
    np.testing.assert_array_equal(
      sharded[f'samples/{field}'], single[f'samples/{field}']
    )
  np.testing.assert_allclose(
    sharded['samples/logprobs'], single['samples/logprobs'], atol=1e-4
  )
  assert len(set(single['samples/length'])) > 1


@pytest.mark.parametrize(('family', 'mesh'), PARAMS)
def test_what_is_compiled_ahead_is_not_compiled_again(arrays_of, family, mesh):
  assert arrays_of(family, mesh)['fact/late'].tolist() == [0]


def refcritic_of(folder, name, step):
  """Returns texts of a step of a run, their scores, and the last parameters."""
  records = run_dir.read_records(
    folder / name / f'records/rl/{step:06d}.jsonl.gz'
  )
  return (
    [(r.id, r.text, r.finish, r.parsed) for r in records],
    [r.scores for r in records],
    dict(np.load(folder / f'refcritic-{name}.npz')),
  )


def assert_close(params, expected):
  for name, x in expected.items():
    # Adam's first steps are signs of gradients, which rounding may turn.
    assert np.mean(np.abs(params[name] - x) > 1e-5) < 0.02, name


@pytest.mark.parametrize(
  ('runs', 'mesh'),
  [
    ('folder', 'mixed'),
    *slow(('other_meshes', 'fsdp'), ('other_meshes', 'tensor')),
  ],
)
def test_a_step_of_refcritic_is_that_of_one_device(request, runs, mesh):
  folder, rewards = request.getfixturevalue(runs), []
  for step in range(2):
    texts, scores, params = refcritic_of(folder, mesh, step)
    one_texts, one_scores, one_params = refcritic_of(folder, 'one', step)
    stages = {id.split('/')[-1].partition('.')[0] for id, *_ in one_texts}
    assert stages >= {'solve', 'critique', 'refine'}
    assert texts == one_texts
    assert scores == one_scores
    # Some refinements do not fit, and their critiques have no reward.
    rewards += [s['reward'] for s in one_scores if 'reward' in s]
  assert_close(params, one_params)
  first, second = run_dir.read_metrics(folder / mesh / 'metrics.jsonl')
  assert len({*rewards}) > 1
  assert max(first['grad_norm'], second['grad_norm']) > 0  # it learns something
  assert first['compile/count'] > 0 and second['compile/count'] == 0


@pytest.mark.slow
@pytest.mark.parametrize('family', OTHER_FAMILIES)
def test_a_step_of_refcritic_of_other_families(refcritics, family):
  """With windows, and with experts, which the mesh divides.

  Sums on a mesh round otherwise, so that one in thousands of tokens is another:
  a draw lies near the border of two.
  """
  (texts, *_), (one_texts, *_) = (
    refcritic_of(refcritics, f'{family}-{mesh}', 0) for mesh in ('mixed', 'one')
  )
  pairs = list(zip(texts, one_texts, strict=True))
  assert np.mean([ours == other for ours, other in pairs]) > 0.9
  rows = [*run_dir.read_metrics(refcritics / f'{family}-mixed/metrics.jsonl')]
  # A step of an untrained model may have nothing to learn from.
  assert 0 < max(row['policy/max_ratio_error'] for row in rows) < 1e-4
  assert max(row['grad_norm'] for row in rows) > 0
  assert not any(row['update/skipped'] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize('mesh', ['tensor', 'one'])
def test_a_run_continues_on_another_mesh(continued, mesh):
  """The run starts on fsdp 8; the checkpoint has all of the state."""
  texts, scores, params = refcritic_of(continued, f'fsdp-{mesh}', 1)
  same_texts, same_scores, same_params = refcritic_of(continued, 'fsdp', 1)
  assert texts == same_texts
  assert scores == same_scores
  assert_close(params, same_params)
  *_, expected = run_dir.read_metrics(continued / 'fsdp/metrics.jsonl')
  _, row = run_dir.read_metrics(continued / f'fsdp-{mesh}' / 'metrics.jsonl')
  assert row['step'] == 1
  for name in ('loss/total', 'grad_norm', 'critique/reward'):
    assert row[name] == pytest.approx(expected[name], rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize(
  ('mesh', 'sizes', 'rows', 'kernel_shape'),
  [
    ('one', [1, 1, 1, 1], [16, 10], [32, 64]),
    ('tensor', [2, 1, 4, 1], [8, 10], [32, 64 // 4]),
    ('mixed', [1, 2, 2, 2], [8, 5], [32 // 2, 64 // 2]),
    *slow(
      ('data', [8, 1, 1, 1], [2, 10], [32, 64]),
      ('fsdp', [1, 8, 1, 1], [2, 10], [32 // 8, 64]),
    ),
  ],
)
def test_what_each_device_holds(arrays_of, mesh, sizes, rows, kernel_shape):
  """Rows of 16, 10 columns, and of the kernel of `up`, [embed 32, mlp 64]."""
  facts = arrays_of('all', mesh)
  assert facts['fact/mesh'].tolist() == sizes
  assert facts['fact/rows'].tolist() == rows
  assert facts['fact/odd_rows'].tolist() == [3, 9]  # whole: 3 do not divide
  for tree in ('up', 'copy'):
    assert facts[f'fact/{tree}_shard'].tolist() == kernel_shape


def test_prompts_that_do_not_divide_are_padded(folder):
  """Two prompts of eight lanes: on each of eight devices both, or one."""
  whole, padded = np.load(folder / 'inserts.npz')['flops']
  assert padded < 0.6 * whole


def test_each_device_has_its_chunk_of_logits(folder):
  """2**18 of them: 64 of 8192 tokens on one device, 512 on eight."""
  heads = {
    name: values.tolist()
    for name, values in np.load(folder / 'heads.npz').items()
  }
  assert {name: chunks for name, (chunks, _) in heads.items()} == {
    'one': 128, 'data': 16, 'tensor': 16, 'mixed': 16
  }  # fmt: skip
  for name, (_, temporary) in heads.items():
    assert temporary < 1.1 * heads['one'][1], name


@pytest.mark.parametrize('order', ['same', 'other'])
def test_parameters_are_laid_out_anew(folder, order):
  arrays = np.load(folder / f'moved-{order}.npz')
  for name in ('split', 'whole'):
    np.testing.assert_array_equal(arrays[name], np.arange(64.0).reshape(8, 8))
  assert arrays['is_laid_out'].all()
  if order == 'same':
    assert arrays['compiled'].tolist() == [1, 0]  # all of them by one program
    assert not arrays['is_copied']  # 'whole' was


def test_make_mesh_on_one_device():
  for axes in ({}, {'data': 1}, {'data': -1, 'tensor': 1}, {'fsdp': -1}):
    mesh = sharding.make_mesh(axes, jax.devices()[:1])
    assert set(mesh.shape.values()) == {1}


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'model': 2}, "mesh: got the axes ['model']; expected ['data', 'fsdp'"),
    (
      {'data': 3},
      "mesh: got {'data': 3, 'fsdp': 1, 'tensor': 1, 'sequence': 1} for 1 "
      'devices; expected '
      'sizes whose product is that; set one of them to -1',
    ),
    ({'data': -1, 'fsdp': -1}, "got {'data': -1, 'fsdp': -1, 'tensor': 1"),
    ({'data': -1, 'tensor': 2}, "got {'data': -1, 'fsdp': 1, 'tensor': 2"),
    ({'data': -1, 'tensor': 0}, "got {'data': -1, 'fsdp': 1, 'tensor': 0"),
    ({'data': -1, 'tensor': -2}, "got {'data': -1, 'fsdp': 1, 'tensor': -2"),
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
  shardings = sharding.param_shardings(
    transformer.abstract_params(model), abstract_mesh(fsdp=2, tensor=2)
  )
  layer = shardings['layers_1']
  for x, expected in (
    (shardings['embed']['embedding'], ('tensor', 'fsdp')),
    (shardings['lm_head']['kernel'], ('fsdp', 'tensor')),
    (shardings['final_norm']['scale'], ()),
    (layer['attention']['q']['kernel'], ('fsdp', 'tensor')),
    (layer['attention']['k']['bias'], ('tensor',)),
    (layer['attention']['o']['kernel'], ('tensor', None, 'fsdp')),
    (layer['mlp']['down']['kernel'], ('tensor', 'fsdp')),
  ):
    assert x.spec == PartitionSpec(*expected)
  # Unboxed: the tree is that of the parameters.
  params = nn.meta.unbox(transformer.abstract_params(model))
  assert jax.tree.structure(shardings) == jax.tree.structure(params)


def test_other_rules():
  shardings = sharding.param_shardings(
    transformer.abstract_params(MODEL),
    abstract_mesh(fsdp=8),
    {**dict.fromkeys(sharding.RULES), 'mlp': 'fsdp'},
  )
  assert shardings['layers_0']['mlp']['up']['kernel'].spec[1] == 'fsdp'
  assert shardings['embed']['embedding'].spec == PartitionSpec()


def test_tensor_must_divide_the_heads():
  model = Transformer(tiny_config(num_heads=6))
  message = (
    "layers_0/attention/o/kernel: got axis 'heads' of size 6 on mesh axis "
    "'tensor' of size 4; expected a size that divides it; set mesh.tensor to "
    'one of [1, 2, 3]'
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.param_shardings(
      transformer.abstract_params(model), abstract_mesh(tensor=4)
    )


def test_few_heads_of_keys_and_values_are_whole():
  model = Transformer(tiny_config('qwen2'))  # 4 heads, 2 of keys and values
  shardings = sharding.param_shardings(
    transformer.abstract_params(model), abstract_mesh(tensor=4)
  )
  attention = shardings['layers_0']['attention']
  assert attention['k']['bias'].spec == PartitionSpec()
  assert attention['q']['bias'].spec == PartitionSpec('tensor')


def test_a_mesh_axis_is_used_once():
  message = (
    "embed/embedding: got axes ('vocab', 'embed') of sizes (64, 32) on mesh "
    "axes ('fsdp', 'fsdp'); expected each mesh axis once; change a rule"
  )
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.param_shardings(
      transformer.abstract_params(MODEL),
      abstract_mesh(fsdp=2),
      {**sharding.RULES, 'vocab': 'fsdp'},
    )


def test_an_axis_without_a_rule():
  rules = {k: v for k, v in sharding.RULES.items() if k != 'mlp'}
  message = "got the axis 'mlp'; expected one with a rule: ['columns'"
  with pytest.raises(ValueError, match=re.escape(message)):
    sharding.param_shardings(
      transformer.abstract_params(MODEL), abstract_mesh(), rules
    )


@pytest.mark.parametrize(
  ('sizes', 'mesh', 'processes', 'expected'),
  [
    # All 0: the devices of `fsdp` split rows.
    (dict(), dict(data=2, fsdp=4, tensor=2), 1, dict(data=8, tensor=2)),
    (dict(data=0, fsdp=0), dict(fsdp=8), 1, dict(data=8)),
    (dict(), dict(fsdp=2, sequence=4), 1, dict(data=8)),
    # Without it one process samples as it trains.
    (dict(), dict(data=8), 1, None),
    (dict(), dict(data=2, tensor=2, sequence=2), 1, None),
    # Of several each has what its devices hold of `tensor`.
    (dict(), dict(fsdp=4, tensor=2), 2, dict(data=2, tensor=2)),
    (dict(), dict(data=4), 2, dict(data=2)),
    (dict(), dict(fsdp=2, tensor=8), 4, dict(tensor=4)),
    # Sizes that are given, of the devices of a process.
    (dict(data=-1, tensor=4), dict(fsdp=8), 1, dict(data=2, tensor=4)),
    (dict(data=-1), dict(fsdp=8), 4, dict(data=2)),
    (dict(fsdp=8), dict(fsdp=8), 1, None),
  ],
)
def test_the_mesh_to_sample_on(sizes, mesh, processes, expected):
  shape = sharding.sampling_shape(sizes, abstract_mesh(**mesh), processes)
  if expected is not None:
    expected = tuple(expected.get(axis, 1) for axis in sharding.AXES)
  assert shape == expected


def test_sizes_that_a_process_does_not_have():
  with pytest.raises(ValueError, match="'tensor': 4, .* for 2 devices; exp"):
    sharding.sampling_shape(dict(tensor=4), abstract_mesh(fsdp=8), 4)


@dataclasses.dataclass(frozen=True)
class Device:
  """A device of a pod, as far as meshes ask."""

  id: int
  process_index: int


def test_each_device_gets_its_own_shard(monkeypatch):
  """A mesh may have a pod's devices in any order, as neighbours are found.

  Processes lay parameters out together, and each names its own devices: the
  shard that a device gets has to be the one that its process takes it for.
  """
  order = [5, 4, 7, 6, 0, 1, 3, 2]
  devices = np.array([Device(i, i // 4) for i in order])
  mesh = Mesh(devices.reshape(1, 4, 2, 1), sharding.AXES)
  for process in (0, 1):
    monkeypatch.setattr(jax, 'process_index', lambda process=process: process)
    local = NamedSharding(
      sharding.sampling_mesh({}, mesh), PartitionSpec(None, 'tensor')
    )
    everywhere = sharding._on_each_process(local, mesh)
    own = local.mesh.devices
    assert {device.process_index for device in own.flat} == {process}
    [process_axis] = [
      i for i, part in enumerate(everywhere.mesh.devices)
      if part.flat[0].process_index == process
    ]  # fmt: skip
    # The spec names axes, so equal places have equal shards.
    assert everywhere.spec == local.spec
    assert everywhere.mesh.axis_names[1:] == local.mesh.axis_names
    np.testing.assert_array_equal(everywhere.mesh.devices[process_axis], own)
    # In the mesh's own order the new layout is a program of the devices.
    assert [*everywhere.mesh.devices.flat] == [*devices]


if __name__ == '__main__':
  assert len(jax.devices()) == 8
  globals()[sys.argv[1]](pathlib.Path(sys.argv[2]))
