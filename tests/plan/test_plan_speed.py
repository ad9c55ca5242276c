"""Seconds by stage, against arithmetic by hand."""

import importlib
import pathlib
import re

import pytest
from jax.sharding import AbstractMesh
from ml_collections import ConfigDict

from configs import ppo, refcritic
from configs import preference as preference_config
from critic_jax.models import cost
from critic_jax.plan import abstract, forecast, speed, step_times, workload
from critic_jax.plan.chips import CHIPS, Chip
from critic_jax.plan.speed import Shares, Time
from critic_jax.plan.workload import Learned, Sampled
from critic_jax.runtime import sharding

CHIP = Chip(1e9, 1e6, 5e5, 1e5, 1e4, 1e3, domain=4, platform='cpu')
FULL = Shares(1.0, 1.0, 1.0)


def on(**sizes):
  shape = tuple(sizes.get(axis, 1) for axis in sharding.AXES)
  return AbstractMesh(shape, sharding.AXES)


@pytest.fixture(scope='module')
def lms():
  return abstract.make_lms(refcritic.get_config('tiny'))


def model(lm, mesh, shares=FULL):
  return speed.make_model(lm, mesh, CHIP, shares)


def test_the_longest_time_bounds():
  time = Time('solve', 'solver', 1, 1, 1.0, 3.0, 2.0)
  assert (time.seconds, time.bound) == (3.0, 'memory')


def test_decoding(lms):
  lm = lms['solver']  # limit 48 tokens, prompts of 128 columns
  fields = vars(lm.model.config)
  stage = Sampled('solve', 'solver', prompts=4, samples=2, prompt=30, new=48)
  prefill, decode = speed.sample(model(lm, on()), on(), stage, lm)
  assert (prefill.rows, prefill.tokens) == (4, 120)
  assert (decode.rows, decode.tokens) == (8, 384)
  once = 4 * cost.forward_flops(fields, 30, 0, 1)
  assert prefill.matmul_s == pytest.approx(once / 5e5)  # float32
  # Four lanes are filled one at a time.
  read = 4 * 4 * cost.read_params(fields)
  assert prefill.memory_s == pytest.approx(read / 1e5)
  # 47 steps: each reads the matrices and 4 * 128 + 8 * 48 keys and values.
  read = 4 * cost.read_params(fields) + 896 * cost.kv_bytes(fields, 4)
  assert decode.memory_s == pytest.approx(47 * read / 1e5)
  assert decode.link_s == 0.0


def test_more_rows_than_slots_are_decoded_in_turns(lms):
  lm = lms['solver']
  few = Sampled('solve', 'solver', 128, 2, 30, 48)  # 256 rows: all slots
  more = few._replace(prompts=512)
  times = [
    speed.sample(model(lm, on()), on(), stage, lm)[1] for stage in (few, more)
  ]
  assert times[1].memory_s == pytest.approx(4 * times[0].memory_s)


def test_devices_share_rows_and_heads(lms):
  fields = dict(num_heads=4, num_kv_heads=4, num_layers=2)
  lm = abstract.changed(lms['solver'], **fields)
  stage = Sampled('solve', 'solver', 16, 2, 30, 48)
  single = speed.sample(model(lm, on()), on(), stage, lm)[1]
  mesh = on(fsdp=2, tensor=2)
  sharded = speed.sample(model(lm, mesh), mesh, stage, lm)[1]
  assert sharded.matmul_s == pytest.approx(single.matmul_s / 4)
  # Each step gathers half of a half of the matrices, and sums the 16 rows of 8
  # lanes, of width 32, twice in each of 2 layers; of each sum a ring of two
  # sends a half, twice.
  config = vars(lm.model.config)
  gathered = cost.read_params(config) * 4 / 2 / 2
  summed = 2 * 2 * 16 * 32 * 4
  assert sharded.link_s == pytest.approx(47 * (gathered + summed) / 1e4)


def test_devices_that_are_not_beside_each_other(lms):
  """Four chips are: tensor's two, and with fsdp's two all of them."""
  lm = abstract.changed(lms['solver'], num_heads=4, num_kv_heads=4)
  beside, beyond = (model(lm, on(fsdp=n, tensor=2)) for n in (2, 4))
  assert (beside.gather, beside.reduce) == (1e4, 1e4)
  assert (beyond.gather, beyond.reduce) == (1e3, 1e4)


def test_update(lms):
  config, mesh = lms['critic'].model.config, on()
  learned, section = Learned(4, 16, False), dict(epochs=1, microbatches=2)
  time = speed.update(
    model(lms['critic'], mesh), mesh, 'critic', learned, ConfigDict(section)
  )
  flops = 3 * 4 * cost.forward_flops(vars(config), 16, 0, 16)
  assert time.matmul_s == pytest.approx(flops / 5e5)
  # Two micro-batches read the matrices twice; AdamW has seven arrays of them.
  read = 4 * (4 * cost.read_params(vars(config)))
  traffic = read + 7 * 4 * cost.num_params(vars(config))
  assert time.memory_s == pytest.approx(traffic / 1e5)
  section['epochs'] = 2
  double_time = speed.update(
    model(lms['critic'], mesh), mesh, 'critic', learned, ConfigDict(section)
  )
  assert double_time.seconds == pytest.approx(2 * time.seconds)
  remat_lm = abstract.changed(lms['critic'], remat='full')
  more = speed.update(
    model(remat_lm, mesh), mesh, 'critic', learned, ConfigDict(section)
  )
  assert more.matmul_s == pytest.approx(4 / 3 * double_time.matmul_s)


def test_stages_of_refcritic(lms):
  config = refcritic.get_config('tiny')  # batches of 4 problems
  recipe = abstract.phase(config, lms, 'rl').recipe
  solve, critique, refine = workload.sampled(recipe, lms)
  assert solve == Sampled('solve', 'solver', 4, 1, 128, 48)
  assert critique == Sampled('critique', 'critic', 4, 8, 128, 48)
  assert refine == Sampled('refine', 'solver', 32, 2, 128, 48)
  half = workload.sampled(recipe, lms, 0.5)
  assert [stage.new for stage in half] == [24, 24, 24]
  config.phases.rl.refine_weight = 0.0
  recipe = abstract.phase(config, lms, 'rl').recipe
  assert len(workload.sampled(recipe, lms)) == 2


def test_every_pass_over_the_rows_is_counted():
  """KTO's policy reads a batch before the update, as the reference does."""
  config, times = preference_config.get_config('tiny'), {}
  lms = abstract.make_lms(config)
  for name in ('dpo', 'kto', 'simpo'):
    config.phases.preference.objective = dict(name=name)
    phase = abstract.phase(config, lms, 'preference')
    mesh = on()
    target = forecast.Target(mesh, mesh, 1, CHIP, FULL)
    learned = Learned(8, 64, False)
    times[name] = step_times.of_stages(phase, lms, target, [], learned)
  read = {
    name: [t.role for t in its_times if t.stage == 'score']
    for name, its_times in times.items()
  }
  assert read == dict(dpo=['ref'], kto=['ref', 'solver'], simpo=[])
  passes = [t for t in times['kto'] if t.stage == 'score']
  assert passes[0].tokens == passes[1].tokens == 8 * 64
  assert passes[0].seconds == passes[1].seconds > 0


def test_prompts_hold_what_is_above_them():
  config = refcritic.get_config('qwen2.5-14b-v5p')
  lms = abstract.make_lms(config)
  recipe = abstract.phase(config, lms, 'rl').recipe
  workloads = workload.sampled(recipe, lms)
  # A prompt to refine holds a solution and a critique: 512 + 2 * 2048.
  assert [stage.prompt for stage in workloads] == [512, 2560, 4608]
  assert workload.learned((), recipe, lms) == (256, 5120, False)


def test_prompts_that_may_be_refused_are_forecast():
  config = refcritic.get_config('qwen2.5-14b-v5p')
  for limit, expected in (
    (5120, {}),
    (3072, {'refine': (4096, 3072)}),  # two responses of 2048 tokens
    (2048, {'critique': (2048, 2048), 'refine': (4096, 2048)}),
  ):
    for role in config.models.values():
      role.lengths = (512, limit)
    lms = abstract.make_lms(config)
    recipe = abstract.phase(config, lms, 'rl').recipe
    assert workload.overlong(recipe, lms) == expected


def test_longest_prompts_of_every_config_fit():
  """A problem of the first length and all responses above, at their limits.

  Models of the embedded world are left out: its texts are far shorter than the
  limits, which spare the quickstart columns that would only be compiled.
  """
  checked = []
  for path in pathlib.Path(refcritic.__file__).parent.glob('*.py'):
    module = importlib.import_module(f'configs.{path.stem}')
    if not hasattr(module, 'get_config'):
      continue
    with pytest.raises(ValueError, match='config: got') as error:
      module.get_config('')
    variants = str(error.value).split('one of')[1]
    for variant in re.findall(r"'([^']+)'", variants):
      config = module.get_config(variant)
      name = config.data.get('name', '')
      world = name.startswith('arithmetic') or name in (
        'functions',
        'screens',
        'slates',
        'statements',
      )
      if world or not config.order:
        continue
      for role in config.models.values():
        if role.source.startswith('package:'):  # may not be installed
          role.source, role.size = 'Qwen2.5-14B-Instruct', 'qwen2.5-14b'
      lms = abstract.make_lms(config)
      for name in config.order:
        recipe = abstract.phase(config, lms, name).recipe
        problem = min(lm.lengths[0] for lm in lms.values())
        assert workload.overlong(recipe, lms, problem) == {}, variant
        checked.append(f'{path.stem}:{variant}')
  assert len(checked) >= 9, checked


def test_stages_of_the_other_recipes(lms):
  config = refcritic.get_config('tiny')
  phases = config.phases
  solver, cold_start = (
    abstract.phase(config, lms, name).recipe
    for name in ('solver', 'cold_start')
  )
  assert workload.sampled(solver, lms) == []
  [solve] = workload.sampled(cold_start, lms)  # a program critiques
  assert (solve.stage, solve.prompts, solve.samples) == ('solve', 4, 1)
  shapes = phases.solver.row_shapes
  assert workload.learned(shapes, solver, lms) == (4, 176, False)
  shapes = phases.cold_start.row_shapes
  assert workload.learned(shapes, cold_start, lms) == (4, 512, True)
  phases.cold_start.writer = dict(module='')
  cold_start = abstract.phase(config, lms, 'cold_start').recipe
  assert len(workload.sampled(cold_start, lms)) == 2


def test_the_models_that_only_score():
  config = ppo.get_config('tiny')
  config.models.ref = config.models.solver.copy_and_resolve_references()
  config.phases.rl.kl.coef = 0.1
  config.phases.rl.copy = dict(config.phases.rl.copy, ref='solver')
  lms = abstract.make_lms(config)
  assert abstract.phase(config, lms, 'rl').recipe.scored == ('ref', 'value')
  assert abstract.phase(config, lms, 'solver').recipe.scored == ()


def test_chips_are_plausible():
  for name, chip in CHIPS.items():
    assert chip.float32_flops <= chip.flops, name
    assert chip.network <= chip.link <= chip.bandwidth < chip.flops, name
