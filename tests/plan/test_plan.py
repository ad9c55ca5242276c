"""The whole plan, and the command: 14 billion parameters on 64 devices."""

import functools
import json

import pytest
from helpers import slow
from jax.sharding import AbstractMesh

from configs import refcritic
from critic_jax.plan import __main__ as command
from critic_jax.plan import forecast, forecast_table
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares
from critic_jax.runtime import sharding


def plan(name, chip, mesh=None, sample_mesh=None, processes=1, max_rows=None):
  """Plans a config, once for all tests that ask for the same."""
  meshes = [tuple(sizes.items()) for sizes in (mesh or {}, sample_mesh or {})]
  return plan_once(name, chip, *meshes, processes, max_rows)


@functools.cache
def plan_once(name, chip, mesh, sample_mesh, processes, max_rows):
  config = refcritic.get_config(name)
  for role in config.models.values():
    role.max_rows = max_rows or role.max_rows
  config.sample_mesh.update(dict(sample_mesh))
  sizes = dict(config.mesh) | dict(mesh)
  shape = tuple(max(1, sizes.get(axis, 1)) for axis in sharding.AXES)
  mesh = AbstractMesh(shape, sharding.AXES)
  return forecast.make(config, mesh, CHIPS[chip], Shares(), processes)


def on(**sizes):
  """Makes a mesh without devices."""
  shape = tuple(sizes.get(axis, 1) for axis in sharding.AXES)
  return AbstractMesh(shape, sharding.AXES)


def test_the_paper_on_64_devices(python, tmp_path):
  """Matrices have 64 shards, biases 4 along tensor, norms one."""
  path = tmp_path / 'plan.json'
  process = python(
    '-m', 'critic_jax.plan', '--config=configs/refcritic.py:qwen2.5-14b-v5p',
    '--chip=v5p', f'--json={path}', COLUMNS='100',
  )  # fmt: skip
  assert process.returncode == 0, process.stderr[-2000:]
  printed_plan = json.loads(path.read_text())
  count = 14_770_033_664
  assert printed_plan['parameters'] == {'critic': count, 'solver': count}
  assert (
    printed_plan['mesh'] | {'data': 1, 'fsdp': 16, 'tensor': 4}
    == printed_plan['mesh']
  )
  biases, norms = 48 * (40 + 8 + 8) * 128, (48 * 2 + 1) * 5120
  matrices = count - biases - norms
  [phase] = printed_plan['phases']
  entries = matrices / 64 + biases / 4 + norms
  assert phase['held']['parameters of critic'] == 4 * entries
  assert phase['held']['parameters of solver'] == 2 * entries
  scalars = 8  # two counters of AdamW and its schedule
  assert phase['held']['optimiser'] == 8 * entries + scalars
  assert phase['update']['gradients'] == 2 * 4 * entries
  assert phase['fits']
  move, *stages = [time['stage'] for time in phase['times']]
  assert move == 'lay out'
  assert (
    stages[1::2] == ['solve', 'critique', 'refine'] and stages[6] == 'update'
  )
  for text in ('14,770,033,664 parameters', 'slots', 'fits', 's a step'):
    assert text in process.stdout


@pytest.mark.parametrize(
  ('size', 'chip'),
  [
    ('r1-distill-qwen-14b', 'h200'),
    *slow(
      *(('qwen2.5-14b', chip) for chip in ('v5p', 'v6e', 'h100', 'h200')),
      *(('r1-distill-qwen-14b', chip) for chip in ('v5p', 'v6e', 'h100')),
    ),
  ],
)
@pytest.mark.parametrize('has_hosts', (False, True))
def test_the_paper_fits_on_its_meshes(size, chip, has_hosts):
  """In one process, and in one for each host: 4 TPUs, or 8 GPUs."""
  layout = refcritic.LAYOUTS[size][chip]
  per_host = 4 if CHIPS[chip].platform == 'tpu' else 8
  num_hosts = layout['fsdp'] * layout['tensor'] // per_host
  num_hosts = num_hosts if has_hosts else 1
  [phase] = plan(f'{size}-{chip}', chip, processes=num_hosts).phases
  assert phase.fits
  assert phase.rows <= phase.most_rows and phase.slots <= phase.most_slots
  assert phase.slots <= layout['max_rows'] // num_hosts


def test_one_device_holds_every_parameter():
  mesh = dict(fsdp=1, tensor=1)
  [phase] = plan('qwen2.5-14b-v5p', 'v5p', mesh).phases
  assert phase.held['parameters of critic'] == 4 * 14_770_033_664
  assert not phase.fits and phase.most_rows == phase.most_slots == 0


def test_the_most_rows_fit_and_more_do_not():
  """The layer that is computed again grows with the rows, as what is kept."""
  printed_plan = plan('qwen2.5-14b-v6e', 'v6e')
  [phase], limit = printed_plan.phases, printed_plan.memory
  twice = refcritic.get_config('qwen2.5-14b-v6e')
  twice.phases.rl.microbatches //= 2
  [larger] = forecast.make(
    twice, on(fsdp=16, tensor=4), CHIPS['v6e'], Shares()
  ).phases
  before, after = (sum(p.update.values()) for p in (phase, larger))
  each = (after - before) / phase.rows
  free = limit - sum(phase.held.values())
  num_shards = 16
  rows = phase.most_rows
  assert before + each * (rows - phase.rows) <= free
  assert before + each * (rows + num_shards - phase.rows) > free


def test_the_largest_by_what_is_compiled():
  """Twice the bytes beside what is held leave half of the slots, at most."""
  config = refcritic.get_config('qwen2.5-14b-v6e')
  mesh = on(fsdp=16, tensor=4)
  [phase] = plan('qwen2.5-14b-v6e', 'v6e').phases

  def largest(*scale):
    return forecast.largest(
      config, mesh, CHIPS['v6e'], Shares(), 1, 'rl', forecast.Scale(*scale)
    )

  both = largest(1.0, 1.0)
  assert both == dict(most_rows=phase.most_rows, most_slots=phase.most_slots)
  assert largest(2.0)['most_rows'] < phase.most_rows
  numbers = largest(None, 2.0)
  assert 0 < numbers['most_slots'] <= phase.most_slots // 2
  assert set(numbers) == {'most_slots'}
  assert forecast_table.largest(phase, **numbers) == (
    'rl: compiled, and the largest of a step that fit: '
    f'{numbers["most_slots"]:,} slots (planned: at most {phase.most_slots:,})'
  )


def test_phases_of_the_embedded_world():
  imitation, _, rl, judge_only = plan('tiny', 'cpu').phases
  assert imitation.fits and rl.fits
  assert imitation.sampling == {} and imitation.slots == 0
  assert [t.stage for t in imitation.times] == ['update']
  assert rl.seconds == pytest.approx(sum(time.seconds for time in rl.times))
  assert judge_only.seconds < rl.seconds  # nothing is refined


def test_a_stale_phase_samples_beside_the_update():
  config = refcritic.get_config('tiny')
  mesh = AbstractMesh((1,) * len(sharding.AXES), sharding.AXES)
  totals, seconds = [], []
  for staleness in (0, 1):
    config.phases.rl.staleness = staleness
    config.order = ('rl',)
    [phase] = forecast.make(config, mesh, CHIPS['cpu'], Shares()).phases
    parts = [sum(p.values()) for p in (phase.update, phase.sampling)]
    temporary = sum(parts) if staleness else max(parts)
    assert phase.total == sum(phase.held.values()) + temporary
    totals.append(phase.total)
    seconds.append(phase.seconds)
  assert totals[0] < totals[1] and seconds[0] > seconds[1]


def test_a_matrix_that_can_not_be_split_so():
  with pytest.raises(
    ValueError, match="attention/o/.*'heads' of size 40 .*'tensor' of size 16"
  ):
    plan('qwen2.5-14b-v5p', 'v5p', dict(fsdp=4, tensor=16))


@pytest.mark.parametrize('text', ['fsdp:4', '', 'fsdp=4,fsdp=8', 'fsdp=4,'])
def test_a_mesh_is_sizes_by_axis(text):
  with pytest.raises(
    ValueError, match=f'mesh: got {text!r}; expected the size'
  ):
    command.make_mesh(refcritic.get_config('tiny'), 'v5p', text, '', False)


def test_a_mesh_of_too_many_devices():
  config = refcritic.get_config('tiny')
  mesh = command.make_mesh(config, 'v5p', 'fsdp=20000', '', compiles=False)
  assert mesh.shape['fsdp'] == 20_000  # no device is made
  with pytest.raises(ValueError, match='got 100,000 devices; expected at most'):
    command.make_mesh(config, 'v5p', 'fsdp=100000', '', compiles=False)


def test_wrong_commands(python):
  process = python(
    '-m', 'critic_jax.plan', '--config=configs/refcritic.py:tiny', '--chip=v5p',
    '--mesh=fsdp=2,tensr=2',
  )  # fmt: skip
  assert process.returncode == 1
  assert (
    process.stderr.strip()
    .splitlines()[-1]
    .startswith("error: mesh: got the axes ['tensr']; expected")
  )
  process = python(
    '-m', 'critic_jax.plan', '--config=configs/refcritic.py:tiny', '--chip=v5p',
    '--programs=decode',
  )  # fmt: skip
  assert process.returncode == 1
  assert process.stderr.endswith(
    "error: programs: got ['decode'] without --compile; expected both; add "
    '--compile\n'
  )


@pytest.mark.parametrize('share', [0.0, -1.0, 1.5, float('nan')])
def test_shares_are_shares(share):
  with pytest.raises(ValueError, match=f'flops_share: got {share}; expected'):
    command.check_shares(Shares(flops=share))
  command.check_shares(Shares())


def test_a_layout_to_sample_with():
  """Matrices split by fsdp 16 x tensor 4 are held by tensor alone, too."""
  settings = 'qwen2.5-14b-v5p', 'v5p', None
  as_trained = plan(*settings, sample_mesh=dict(fsdp=16, tensor=4))
  assert as_trained.sample_mesh == as_trained.mesh
  [plain] = as_trained.phases
  own = plan(*settings)
  [phase] = own.phases
  assert own.sample_mesh == dict(data=16, fsdp=1, tensor=4, sequence=1)
  assert own == plan(*settings, sample_mesh=dict(data=16, tensor=4))
  norms = (48 * 2 + 1) * 5120  # whole in both, so not copied
  entries = (14_770_033_664 - norms) / 4
  # Frozen copies stay; trained ones go before the update. Both are bfloat16.
  copies = {'solver to sample with': 2 * entries}
  assert phase.held == plain.held | copies
  assert phase.sampling['critic to sample with'] == 2 * entries
  assert phase.update == plain.update
  assert phase.total > plain.total + 2 * entries and phase.most_slots > 0
  (move, *stages), before = phase.times, plain.times
  assert (move.stage, move.role) == ('lay out', 'critic')
  assert 0 < move.seconds < 1
  for time, other in zip(stages[1:6:2], before[1:6:2], strict=True):
    assert (time.stage, time.tokens) == (other.stage, other.tokens)
    # No matrix is gathered; a fourth of all is read.
    assert other.bound == 'link' and time.bound == 'memory'
    assert time.seconds < 0.6 * other.seconds
  assert stages[6] == before[6] and phase.seconds < 0.6 * plain.seconds


def test_a_faster_layout_is_named():
  """Gathering every matrix for each token is the slowest of all.

  Of the update, gathering them from other hosts is.
  """
  settings = 'qwen2.5-14b-h100', 'h100'
  as_trained = plan(*settings, sample_mesh=dict(fsdp=8, tensor=8))
  better = as_trained.better
  assert better.sizes == dict(data=8, fsdp=1, tensor=8, sequence=1)
  assert better.mesh['data'] > 1 and better.mesh['fsdp'] < 8
  best = plan(*settings, better.mesh, better.sizes)
  assert best.sample_mesh == better.sizes and best.better is None
  [slow], [fast] = as_trained.phases, best.phases
  [shipped] = plan(*settings).phases
  assert fast.fits and fast.seconds < 0.95 * shipped.seconds
  assert better.seconds == {'rl': fast.seconds} and better.total == fast.total
  assert slow.seconds > 20 * fast.seconds
  lines = forecast_table.advice(as_trained).splitlines()
  assert lines[0] == (
    f'faster: {forecast_table.flags(better.mesh, "mesh")} '
    '--config.sample_mesh.data=8 --config.sample_mesh.fsdp=1 '
    '--config.sample_mesh.tensor=8'
  )
  assert (
    f'{fast.seconds:,.1f} s a step instead of {slow.seconds:,.1f}' in (lines[1])
  )


def test_a_mesh_to_train_on_that_fits_is_named():
  """All parameters, and the optimiser, do not fit on each device."""
  settings = 'qwen2.5-14b-v5p', 'v5p'
  whole = plan(*settings, dict(data=64, fsdp=1, tensor=1))
  assert not whole.phases[0].fits
  better = whole.better
  best = plan(*settings, better.mesh, better.sizes)
  assert best.phases[0].fits and best.better is None
  assert forecast_table.advice(whole).startswith(
    f'this fits: {forecast_table.flags(better.mesh, "mesh")} '
  )


def test_a_layout_that_fits_is_named():
  """Parameters whole on each device do not fit; split by tensor they do."""
  settings = 'qwen2.5-14b-v6e', 'v6e', None
  whole = plan(*settings, sample_mesh=dict(data=64))
  assert not whole.phases[0].fits
  sizes = whole.better.sizes
  fitting = plan(*settings, sample_mesh={k: sizes[k] for k in ('data', 'fsdp')}
                 | {'tensor': sizes['tensor']})  # fmt: skip
  assert fitting.phases[0].fits and fitting.better is None
  assert forecast_table.advice(whole).startswith('this fits: --config.sample')


def test_what_fits_in_no_layout_is_told_its_limits():
  """Of 16 hosts each decodes 64 responses on 4 chips of 32 GB."""
  settings = 'qwen2.5-14b-v6e', 'v6e', None
  pod = plan(*settings, processes=16, max_rows=1024)
  [phase] = pod.phases
  assert not phase.fits and pod.better is None
  assert phase.slots > phase.most_slots > 0
  assert forecast_table.misfit(phase, 16) == (
    f'rl does not fit: lower max_rows of the models that sample to '
    f'{16 * phase.most_slots}'
  )
  [alone] = plan(*settings[:2], dict(fsdp=1, tensor=1)).phases
  assert forecast_table.misfit(alone, 1).endswith('a larger fsdp or tensor')


def test_processes_sample_shares():
  """Sixteen of four devices each: `tensor` as in training."""
  settings = 'qwen2.5-14b-v5p', 'v5p', None
  single = plan(*settings)
  shared = plan(*settings, processes=16)
  assert shared.sample_mesh == dict(data=1, fsdp=1, tensor=4, sequence=1)
  [phase], [single_phase] = shared.phases, single.phases
  assert phase.held == single_phase.held
  assert [(t.stage, t.rows, t.tokens) for t in phase.times] == [
    (t.stage, t.rows, t.tokens) for t in single_phase.times
  ]
  # On request each device has all.
  [whole] = plan(*settings, sample_mesh=dict(data=4), processes=16).phases
  assert (
    whole.held['solver to sample with']
    > 3.9 * phase.held['solver to sample with']
  )
  with pytest.raises(ValueError, match='processes: got 3 for 64 devices'):
    plan(*settings, processes=3)
  with pytest.raises(ValueError, match="'tensor': 3, .* for 4 devices"):
    plan(*settings, sample_mesh=dict(tensor=3), processes=16)


def test_what_is_whole_everywhere_is_not_held_twice():
  """Two processes have no mesh to sample with, and data alone."""
  config = refcritic.get_config('tiny')
  sizes = tuple({'data': 4}.get(axis, 1) for axis in sharding.AXES)
  mesh = AbstractMesh(sizes, sharding.AXES)
  forecast_plan = forecast.make(config, mesh, CHIPS['v5e'], Shares(), 2)
  assert forecast_plan.sample_mesh['data'] == 2
  for phase in forecast_plan.phases:
    copies = {k: v for k, v in phase.held.items() if k.endswith('sample with')}
    assert set(copies.values()) <= {0}
