"""The whole plan, and the command: 14 billion parameters on 64 fake devices."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from jax.sharding import AbstractMesh

from configs import refcritic
from critic_jax import sharding
from critic_jax.plan import __main__ as command
from critic_jax.plan import forecast
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares

ROOT = pathlib.Path(__file__).parents[2]


def plan(name, chip, mesh=None):
  config = refcritic.get_config(name)
  sizes = dict(config.mesh) | (mesh or {})
  shape = tuple(max(1, sizes.get(axis, 1)) for axis in sharding.AXES)
  mesh = AbstractMesh(shape, sharding.AXES)
  return forecast.make(config, mesh, CHIPS[chip], Shares(), compiles=False)


def run(*arguments):
  return subprocess.run(
    [sys.executable, '-m', 'critic_jax.plan', *arguments],
    cwd=ROOT, capture_output=True, text=True, timeout=300,
    env={**os.environ, 'PYTHONPATH': str(ROOT), 'COLUMNS': '100'},
  )  # fmt: skip


def test_the_paper_on_64_fake_devices(tmp_path):
  """Matrices are split 64 ways, biases 4 ways along tensor, norms not."""
  path = tmp_path / 'plan.json'
  done = run(
    '--config=configs/refcritic.py:qwen2.5-14b-v5p', '--chip=v5p',
    f'--json={path}',
  )  # fmt: skip
  assert done.returncode == 0, done.stderr[-2000:]
  found = json.loads(path.read_text())
  count = 14_770_033_664
  assert found['parameters'] == {'critic': count, 'solver': count}
  assert found['mesh'] | {'data': 1, 'fsdp': 16, 'tensor': 4} == found['mesh']
  biases, norms = 48 * (40 + 8 + 8) * 128, (48 * 2 + 1) * 5120
  matrices = count - biases - norms
  [phase] = found['phases']
  entries = matrices / 64 + biases / 4 + norms
  assert phase['held']['parameters of critic'] == 4 * entries
  assert phase['held']['parameters of solver'] == 2 * entries
  scalars = 8  # two counters of AdamW and its schedule
  assert phase['held']['optimiser'] == 8 * entries + scalars
  assert phase['update']['gradients'] == 2 * 4 * entries
  assert phase['fits']
  stages = [time['stage'] for time in phase['times']]
  assert (
    stages[1::2] == ['solve', 'critique', 'refine'] and stages[6] == 'update'
  )
  for text in ('14,770,033,664 parameters', 'slots', 'fits', 's a step'):
    assert text in done.stdout


@pytest.mark.parametrize('chip', refcritic.CHIPS)
@pytest.mark.parametrize('size', refcritic.PAPER)
def test_the_paper_fits_on_its_meshes(size, chip):
  [phase] = plan(f'{size}-{chip}', chip).phases
  assert phase.fits
  assert phase.rows <= phase.most_rows and phase.slots <= phase.most_slots


def test_one_device_holds_every_parameter():
  mesh = dict(fsdp=1, tensor=1)
  [phase] = plan('qwen2.5-14b-v5p', 'v5p', mesh).phases
  assert phase.held['parameters of critic'] == 4 * 14_770_033_664
  assert not phase.fits and phase.most_rows == phase.most_slots == 0


def test_the_most_rows_fit_and_more_do_not():
  found = plan('qwen2.5-14b-v6e', 'v6e')
  [phase], limit = found.phases, found.memory
  rest = sum(phase.held.values()) + sum(phase.update.values())
  each = phase.update['activations'] / phase.rows
  rest -= phase.update['activations']
  ways = 16
  assert rest + each * phase.most_rows <= limit
  assert rest + each * (phase.most_rows + ways) > limit


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
    [phase] = forecast.make(config, mesh, CHIPS['cpu'], Shares(), False).phases
    parts = [sum(p.values()) for p in (phase.update, phase.sampling)]
    together = sum(parts) if staleness else max(parts)
    assert phase.total == sum(phase.held.values()) + together
    totals.append(phase.total)
    seconds.append(phase.seconds)
  assert totals[0] < totals[1] and seconds[0] > seconds[1]


def test_a_matrix_that_can_not_be_split_so():
  with pytest.raises(
    ValueError, match="attention/o/.*'heads' of size 40 .*'tensor' of size 16"
  ):
    plan('qwen2.5-14b-v5p', 'v5p', dict(fsdp=4, tensor=16))


def test_wrong_commands():
  with pytest.raises(ValueError, match="mesh: got 'fsdp:4'; expected sizes"):
    command.mesh_sizes('fsdp:4')
  done = run(
    '--config=configs/refcritic.py:tiny', '--chip=v5p', '--mesh=fsdp=2,tensr=2'
  )
  assert done.returncode == 1
  assert (
    done.stderr.strip()
    .splitlines()[-1]
    .startswith("error: mesh: got the axes ['tensr']; expected")
  )
