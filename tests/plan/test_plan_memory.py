"""Bytes of a device, against hand counts, real arrays and XLA's own."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from helpers import slow
from jax.sharding import AbstractMesh

from configs import refcritic
from critic_jax.models import cost
from critic_jax.models.config import Lora
from critic_jax.plan import abstract, compiled, forward_memory, memory, workload
from critic_jax.runtime import sharding
from critic_jax.training import adapters, roles, updates


def on(**sizes):
  """Makes a mesh without devices."""
  shape = tuple(sizes.get(axis, 1) for axis in sharding.AXES)
  return AbstractMesh(shape, sharding.AXES)


@functools.cache
def tiny(name='rl', **changes):
  """Makes a phase of the embedded world's tiny config, in parts."""
  config = refcritic.get_config('tiny')
  lms = abstract.make_lms(config)
  if changes:
    lms = {r: abstract.changed(lm, **changes) for r, lm in lms.items()}
  phase = abstract.phase(config, lms, name)
  return (
    phase,
    config,
    lms,
    workload.learned(phase.config.row_shapes, phase.recipe, lms),
  )


def num_bytes(tree):
  return sum(x.nbytes for x in jax.tree.leaves(tree))


@pytest.mark.parametrize(
  ('dtype', 'how', 'item'),
  [
    # Adam's two moments of float32, and masters.
    ('float32', 'masters', 8),
    ('bfloat16', 'masters', 12),
    ('bfloat16', 'stochastic', 8),
  ],
)
def test_what_is_held_is_what_a_run_allocates(dtype, how, item):
  config = refcritic.get_config('tiny')
  config.models.critic.param_dtype = dtype
  config.phases.rl.optimizer.bfloat16 = how
  lms = abstract.make_lms(config)
  phase = abstract.phase(config, lms, 'rl')
  learned = workload.learned(phase.config.row_shapes, phase.recipe, lms)
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  num_bytes_by_part = memory.persistent_bytes(phase, lms, mesh)
  key = jax.random.key(0, impl='rbg')
  real = roles.init_params(roles.make_lms(config.models), {}, mesh, key)
  for role, params in real.items():
    assert num_bytes_by_part[f'parameters of {role}'] == num_bytes(params)
  state = updates.init_state(phase.tx, {'critic': real['critic']}, mesh)
  assert num_bytes_by_part['optimiser'] == num_bytes(state.opt_state)
  num_params = sum(x.size for x in jax.tree.leaves(real['critic']))
  counts = 4 * (3 if how == 'stochastic' else 2)
  assert num_bytes_by_part['optimiser'] == item * num_params + counts
  update = memory.update(phase, lms, mesh, learned)
  assert update['gradients'] == num_bytes(real['critic'])


def test_more_devices_hold_less():
  """Shards of fsdp hold half as much, but for norms, which all have."""
  phase, _, lms, _ = tiny(num_layers=2)
  norms = 4 * (2 * (2 * 32 + 2 * 16) + 32)  # nano: D=32, Dh=16, two layers
  before, after = (
    memory.persistent_bytes(phase, lms, on(fsdp=n))['parameters of critic']
    - norms
    for n in (2, 4)
  )
  assert before == 2 * after > 0


def test_micro_batches_need_a_sum_of_gradients_beside_one():
  phase, config, lms, learned = tiny()
  section = config.phases.rl.copy_and_resolve_references()
  section.microbatches = 2
  update = memory.update(phase, lms, on(), learned)
  halves = phase._replace(config=section)
  update_of_halves = memory.update(halves, lms, on(), learned)
  assert update_of_halves['gradients'] == 2 * update['gradients']


def test_matrices_of_a_loop_are_cast_before_it():
  """Of 4 bytes an entry each has 2 more; vectors stay as they are."""

  def cast_bytes(**changes):
    phase, _, lms, learned = tiny(**changes)
    return memory.update(phase, lms, on(), learned)['cast matrices']

  _, _, lms, _ = tiny(num_layers=2)
  entries = cost.layer_weights(vars(lms['critic'].model.config))
  loop = dict(num_layers=2, layers='scanned')
  assert cast_bytes(**loop, dtype='bfloat16') == 2 * entries
  assert cast_bytes(**loop) == 0
  assert cast_bytes(num_layers=2, dtype='bfloat16') == 0


def test_masters_are_split_as_their_parameters():
  phase, _, lms, _ = tiny(param_dtype='bfloat16')
  shapes = memory.state(phase, lms, on(fsdp=2, tensor=2))
  pairs = [*zip(
    *map(jax.tree.leaves, (shapes.params, shapes.opt_state.masters)),
    strict=True,
  )]  # fmt: skip
  for param, master in pairs:
    assert (param.dtype, master.dtype) == ('bfloat16', 'float32')
    assert param.sharding == master.sharding
  assert any(not param.sharding.is_fully_replicated for param, _ in pairs)


def test_gradients_in_bfloat16_are_summed_in_float32():
  phase, config, lms, learned = tiny(param_dtype='bfloat16')
  section = config.phases.rl.copy_and_resolve_references()
  section.microbatches = 2
  halves = phase._replace(config=section)
  update = memory.update(phase, lms, on(), learned)
  update_of_halves = memory.update(halves, lms, on(), learned)
  assert update_of_halves['gradients'] == 3 * update['gradients']


def test_a_stale_phase_holds_the_old_parameters_too():
  phase, _, lms, _ = tiny()
  section = phase.config.copy_and_resolve_references()
  section.staleness = 1
  num_bytes_by_part = memory.persistent_bytes(
    phase._replace(config=section), lms, on()
  )
  assert (
    num_bytes_by_part['old parameters']
    == num_bytes_by_part['parameters of critic']
  )


def test_activations_of_a_layer_that_is_computed_again():
  """Its input is kept, [T, D] in float32, and one layer's inner values."""
  _, config, lms, learned = tiny()
  activations = {}
  for layers in (2, 3):
    for remat in ('none', 'full'):
      small_lms = {
        r: abstract.changed(lm, num_layers=layers, remat=remat)
        for r, lm in lms.items()
      }
      activations[layers, remat] = memory.activations(
        'rl', config, small_lms, on(), learned
      )
  kept = {key: each.kept for key, each in activations.items()}
  each_input = kept[3, 'full'] - kept[2, 'full']
  assert each_input == learned.columns * 32 * 4
  layer = kept[3, 'none'] - kept[2, 'none']
  assert activations[3, 'full'].layer == layer - each_input > 0
  assert activations[3, 'none'].layer == 0
  assert kept[2, 'full'] + layer - each_input < kept[2, 'none']


def test_layers_below_the_adapters_keep_nothing():
  """As many bytes as autodiff keeps of all four layers, two of them adapted."""
  everywhere = Lora(rank=2, alpha=4.0, targets='.*', dropout=0.0)
  last = dataclasses.replace(everywhere, last_layers=2)
  kept = {}
  for number, lora in (4, last), (4, everywhere), (2, everywhere):
    phase, config, lms, learned = tiny(
      num_layers=number, lora=lora, remat='none', layers='unrolled'
    )
    row_bytes = memory.activations('rl', config, lms, on(), learned)
    models = {role: lms[role].model for role in phase.config.train}
    direct = memory._row_bytes(phase.recipe, models, learned)
    assert row_bytes.kept == pytest.approx(direct, rel=0.02)
    kept[number, lora.last_layers] = row_bytes.kept
  assert kept[4, 2] == kept[2, 0] < 0.7 * kept[4, 0]


def test_a_layer_or_the_head_is_worked_on_whichever_needs_more():
  """A layer needs more than a chunk of logits where rows are many."""
  phase, config, lms, learned = tiny(remat='full')
  row_bytes = memory.activations('rl', config, lms, on(), learned)
  one, some, many = (
    memory.micro_batch(phase, lms, on(), row_bytes, rows, learned.columns)
    for rows in (1, 1024, 2048)
  )
  assert many['activations'] == 2048 * one['activations']
  further = many['working set'] - some['working set']
  assert further == 1024 * row_bytes.layer
  assert one['working set'] > row_bytes.layer


def test_a_loss_of_pairs_is_asked_for_whole_pairs(monkeypatch):
  """Each row keeps as much as where the same loss reads rows one by one."""
  _, config, lms, learned = tiny()
  plain = memory.activations('rl', config, lms, on(), learned)
  make_phase = abstract.phase

  def paired(*args, rows_per_group):
    phase = make_phase(*args)

    def loss(trained, batch):
      assert batch['weights'].shape[0] % 2 == 0, 'a part of a pair'
      return phase.recipe.loss(trained, batch)

    recipe = phase.recipe._replace(loss=loss, rows_per_group=rows_per_group)
    return phase._replace(recipe=recipe)

  def activations(**changes):
    monkeypatch.setattr(abstract, 'phase', functools.partial(paired, **changes))
    monkeypatch.setattr(memory, '_ROW_BYTES', {})
    return memory.activations('rl', config, lms, on(), learned)

  with pytest.raises(AssertionError, match='a part of a pair'):
    activations(rows_per_group=1)
  assert activations(rows_per_group=2) == plain and plain.kept > 0


# Policies, the share of temporaries that are activations, a bound of estimates.
POLICIES = ('none', 1, 1.3), ('dots_and_attention', 1, 1.5), ('full', 0.8, 1.4)


@pytest.mark.parametrize(
  'remat, activation_share, bound, is_whole',
  [
    (*POLICIES[0], True),
    *slow(
      *((*policy, whole) for policy in POLICIES[1:] for whole in (False, True))
    ),
  ],
)
def test_against_the_compiled_update(remat, activation_share, bound, is_whole):
  """XLA's temporaries, of four layers or extrapolated from two and three."""
  phase, config, lms, learned = tiny(
    'solver', num_layers=4, embed_dim=128, mlp_dim=384, num_heads=4,
    num_kv_heads=2, head_dim=32, remat=remat,
  )  # fmt: skip
  mesh = sharding.make_mesh({}, jax.devices()[:1])
  program = compiled._update(phase, config, lms, mesh, learned)
  direct = extrapolation = compiled.measure(program, lms).temporaries
  if is_whole:
    direct = compiled._measure(program, lms).temporaries
  assert extrapolation == pytest.approx(direct, rel=0.05)
  planned = program.planned
  estimate = sum(planned.values()) - planned['parameters and optimiser']
  assert direct < estimate < bound * direct
  row_bytes = memory.activations(phase.name, config, lms, mesh, learned)
  assert sum(row_bytes) * learned.rows == pytest.approx(
    activation_share * direct, rel=0.15
  )


def test_keys_and_values():
  # 2 layers, one head of 16 for keys.
  lm = tiny(num_layers=2)[2]['critic']
  settings = dict(lanes=8, rows=2, samples=2, columns=128)
  single, sharded = (
    forward_memory.sampler(lm, on(data=n), **settings) for n in (1, 4)
  )
  cached = 2 * 2 * 16 * 4 * (8 * 128 + 16 * lm.max_new_tokens)
  samples = 16 * (lm.max_new_tokens * (4 + 4) + 4 + 1)
  assert single['keys and values'] == cached + samples
  assert sharded['keys and values'] == single['keys and values'] // 4
  # Eight prompts are not split among 16, their 16 responses are.
  odd = forward_memory.sampler(lm, on(data=16), **settings)
  prompts = 2 * 2 * 16 * 4 * 8 * 128
  whole = single['keys and values'] - prompts
  assert odd['keys and values'] == prompts + whole // 16
  # Two of eight lanes are filled at once, and one by each of four devices,
  # which get a layer's keys and values of all four.
  prompts = (
    single['filling lanes'] - 16 * 4 * 4 * lm.model.config.vocab_size
  ) / 2
  rows_of_four = 4 * 4 * 4 * lm.model.config.vocab_size
  sent = 4 * 2 * 16 * 4 * 128
  assert sharded['filling lanes'] == prompts + rows_of_four + sent


def test_prompts_behind_prefixes_are_copies_with_the_rest_of_each():
  """A fourth as many prefixes; the rest of a prompt has a fourth of it."""
  lm = tiny(num_layers=2)[2]['critic']
  settings = dict(lanes=64, rows=1, samples=1, columns=2048)
  logits = 64 * 4 * 4 * lm.model.config.vocab_size
  plain, behind, decode = (
    forward_memory.sampler(lm, on(), **settings, program=program)
    for program in ('insert', 'insert behind prefixes', 'decode')
  )
  assert decode['a token'] == logits
  cache = 2 * 2 * 16 * 4 * 2048
  layer = (plain['filling lanes'] - logits) / 16 - cache
  rest = (behind['filling lanes'] - logits - 4 * cache) / 16 - 1.25 * cache
  assert layer == 4 * rest > 0


def test_scoring_is_a_forward_pass_over_a_micro_batch():
  lm, learned = tiny()[2]['critic'], tiny()[3]
  single, sharded = (
    forward_memory.scorer(lm, on(data=n), learned, 1) for n in (1, 4)
  )
  name = 'a layer of a micro-batch'
  assert single[name] == 4 * sharded[name] > 0
  assert (
    single[name] == 4 * forward_memory.scorer(lm, on(data=1), learned, 4)[name]
  )


def test_one_device_sees_its_part_of_the_model():
  _, _, lms, _ = tiny(num_heads=8, num_kv_heads=4)
  config = abstract.on_one_device(lms['critic'], on(fsdp=2, tensor=4)).model
  config = config.config
  assert (config.num_heads, config.num_kv_heads, config.mlp_dim) == (2, 1, 16)
  assert config.embed_dim == 32  # gathered


def test_batches_have_the_keys_and_the_layout():
  plain, packed = (abstract.batch(4, 8, packed) for packed in (False, True))
  assert set(packed) - set(plain) == {'segments', 'prefixes', 'positions'}
  assert abstract.all_bytes(plain) == 4 * 8 * (13 * 4 + 2)


def test_rows_that_the_mesh_does_not_divide_are_everywhere():
  """The plan agrees with `sharding.put_batch`."""
  mesh = on(data=2, fsdp=4)
  num_shards = [abstract.num_shards_of(mesh, 'rows', n) for n in (8, 16, 12)]
  assert num_shards == [8, 8, 1]
  shape = abstract.batch(12, 4, False, mesh)['tokens']
  assert shape.sharding.shard_shape(shape.shape) == (12, 4)
  batch = {'tokens': np.zeros((1, 4), np.int32)}
  put = sharding.put_batch(batch, sharding.make_mesh({}, jax.devices()[:1]))
  assert put['tokens'].shape == (1, 4)


def test_a_source_that_is_not_here_is_planned_by_its_size():
  config = refcritic.get_config('qwen2.5-14b-v5p')
  sized = abstract.make_lms(config)['critic'].model.config
  assert (sized.num_layers, sized.remat) == (48, 'full')
  config.models.critic.size = ''
  with pytest.raises(ValueError, match=r"models.critic: path: got 'Qwen2.5"):
    abstract.make_lms(config)


def test_roles_of_one_source_are_one_base_and_the_adapters():
  """Of Qwen2.5-7B, by hand: 28 layers of width 3584, 28 and 4 heads of 128."""
  config = refcritic.get_config('qwen2.5-7b-lora-h100')
  lms = abstract.make_lms(config, 'gpu')
  phase = abstract.phase(config, lms, 'rl')
  lenders = adapters.lenders(config, lms)
  assert lenders == {'ref': 'critic', 'solver': 'critic'}
  held = memory.persistent_bytes(phase, lms, on(), lenders)
  fields = vars(lms['critic'].model.config)
  sizes = 2 * (3584 + 3584) + 2 * (3584 + 512) + 3 * (3584 + 18944)
  number = 16 * 28 * sizes
  assert cost.trained_params(fields) == number == 40_370_176
  assert held.pop('optimiser') == pytest.approx(2 * 4 * number, abs=100)
  assert held == {
    'parameters of critic': 2 * cost.num_params(fields) + 4 * number,
    'parameters of ref': 0,
    'parameters of solver': 0,
  }
  assert num_bytes_of_gradients(phase, lms) == 2 * 4 * number  # and their sum
  # In another layout the base is copied once, and the adapters apart.
  devices, sampling = on(fsdp=8), on(data=8)
  frozen = functools.partial(
    abstract.frozen_part, lms=lms, train=['critic'], lenders=lenders
  )
  copied = memory.copies(lms, lms, devices, sampling, frozen)
  [base] = memory.copies(['solver'], lms, devices, sampling).values()
  assert sum(copied.values()) == base > 1.9 * cost.num_params(fields)
  [trained] = memory.copies(['critic'], lms, devices, sampling).values()
  assert trained == 2 * number  # in bfloat16


def num_bytes_of_gradients(phase, lms):
  learned = workload.learned(phase.config.row_shapes, phase.recipe, lms)
  return memory.update(phase, lms, on(), learned)['gradients']
