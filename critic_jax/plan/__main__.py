r"""Plans a config on a chip and a mesh: memory, rows, slots, seconds.

    python -m critic_jax.plan --config refcritic:smollm2 \
        --chip h100
    python -m critic_jax.plan --config refcritic:qwen2.5-14b-v5p \
        --chip v5p --mesh data=1,fsdp=16,tensor=4 --processes 16

`--config` and `--config.x=y` are those of `critic_jax.train`. Nothing of the
run is allocated, and no weights are needed. The mesh is the config's unless one
is given; a size that it leaves to the number of devices (-1) is 1. Several
processes sample shares, each on its own devices with `sample_mesh`. The
estimates are explained in memory.py and speed.py beside this file.

`--compile` also compiles the run's programs for that chip, which needs no
device but its compiler (`'.[tpu]'`, `'.[gpu]'`), and prints what that says
beside the estimates; compiled.py explains it. `--programs decode` compiles a
part of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags, logging
from jax.sharding import AbstractMesh

from critic_jax.plan import (
  abstract,
  compiled,
  compiled_table,
  forecast,
  forecast_table,
  largest,
  topology,
)
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares
from critic_jax.runtime import cli, sharding
from critic_jax.terminal import Console
from critic_jax.training import checks

_MAX_DEVICES = 2**16  # more than a slice or a network of any chip has
_CHIP = flags.DEFINE_enum(
  'chip', None, sorted(CHIPS), 'The chip of each device.'
)
_MESH = flags.DEFINE_string(
  'mesh',
  None,
  "A mesh in the place of the config's, such as data=1,fsdp=16,tensor=4.",
)
_PROCESSES = flags.DEFINE_integer(
  'processes', 1, 'Number of processes.', lower_bound=1
)
_JSON = flags.DEFINE_string('json', None, 'A file for the plan as JSON.')
_COMPILE = flags.DEFINE_bool(
  'compile', False, "Also compile the run's programs for the chip."
)
_PROGRAMS = flags.DEFINE_multi_enum(
  'programs', [*compiled.PROGRAMS], compiled.PROGRAMS, 'What is compiled.'
)
_TOPOLOGY = flags.DEFINE_string(
  'topology', '', "A TPU's slice such as 4x4x4; GPUs: hosts x 8."
)
_SHARES = {
  name: flags.DEFINE_float(f'{name}_share', getattr(Shares(), name), text)
  for name, text in {
    'flops': "Share of the chip's peak that is reached.",
    'bandwidth': 'Share of the bandwidths of memory and links.',
    'memory': 'Share of memory that arrays may take.',
    'length': 'Mean length of responses over their limit.',
  }.items()
}


def mesh_sizes(text: str) -> dict[str, int]:
  """Returns the sizes of a mesh by axis, as --mesh has them.

  >>> mesh_sizes('fsdp=16,tensor=4')
  {'fsdp': 16, 'tensor': 4}

  Raises:
    ValueError: the text has another form, or an axis twice.
  """
  try:
    pairs = [part.split('=') for part in text.split(',')]
    sizes = {axis.strip(): int(size) for axis, size in pairs}
  except ValueError:
    sizes = {}
  if not sizes or len(sizes) < len(pairs):
    raise ValueError(
      f'mesh: got {text!r}; expected the size of each axis once: '
      "'data=1,fsdp=16,tensor=4'"
    )
  return sizes


def check_shares(shares: Shares) -> None:
  """Raises ValueError for a share that is not above 0 and at most 1."""
  for name, share in shares._asdict().items():
    if not 0 < share <= 1:
      raise ValueError(
        f'{name}_share: got {share}; expected more than 0 and at most 1'
      )


def make_mesh(config, chip: str, mesh: str | None, name: str, compiles: bool):
  """Makes the mesh that is planned for.

  It has devices, those of a topology, where programs will be compiled for it;
  jax must not have been used before.

  Args:
    config: the config of a run.
    chip: a name of `CHIPS`.
    mesh: sizes by axis, as --mesh has them; None: the config's.
    name: the sides of a slice; '': as many devices as the mesh has.
    compiles: whether programs will be compiled for it.

  Raises:
    ValueError: the sizes are wrong, or what is to be compiled for is not there.
  """
  jax.config.update('jax_platforms', 'cpu')
  sizes = dict(config.mesh) if mesh is None else mesh_sizes(mesh)
  if not name:
    sizes = {axis: 1 if n == -1 else n for axis, n in sizes.items()}
  if compiles:
    return topology.make_mesh(chip, sizes, name)
  num_devices = max(1, math.prod(sizes.values()))
  if name:
    sides = topology.find(chip, sizes, name)
    num_devices = math.prod(map(int, sides.split('x')))
  if num_devices > _MAX_DEVICES:
    raise ValueError(
      f'mesh: got {num_devices:,} devices; expected at most {_MAX_DEVICES:,}'
    )
  shape = sharding.mesh_shape(sizes, num_devices)
  return AbstractMesh(shape, sharding.AXES)


def compile_phase(
  config, chip: str, mesh, plan, phase, *, lms, shares: Shares, processes: int
):
  """Compiles the programs of a phase, and prints what comes of it.

  Args:
    config: the config of a run.
    chip: a name of `CHIPS`.
    mesh: the mesh of the training, with devices.
    plan: its plan.
    phase: that of the phase.
    lms: LMs by role.
    shares: the shares of the chip's figures that are reached.
    processes: number of processes.

  Returns:
    The programs, and the largest sizes that fit as `largest.confirmed` says.
  """
  console, wanted = Console(), _PROGRAMS.value

  def programs(config, lms, *kinds):
    return compiled.programs(
      phase.name, config, lms, mesh, sample_sizes=plan.sample_mesh, kinds=kinds,
      processes=processes, length_share=shares.length,
    )  # fmt: skip

  def measure(program, lms):
    console.print(f'compiling {phase.name}, {program.name}, {program.shape}')
    return compiled.measure(program, lms)

  results = [
    measure(program, lms) for program in programs(config, lms, *wanted)
  ]
  compiled_table.show(results, phase.name, CHIPS[chip].memory, console)
  scale = scale_of(results)
  if not any(scale):
    return results, {}
  estimate = forecast.largest(
    config, mesh, CHIPS[chip], shares, processes, phase.name, scale
  )
  search = largest.Search(
    config, lms, phase, results, plan.memory, programs, measure
  )
  numbers = largest.confirmed(search, **estimate)
  console.print(forecast_table.largest(phase, **numbers), soft_wrap=True)
  return results, numbers


def scale_of(programs: list[compiled.Compiled]) -> forecast.Scale:
  """Returns compiled over planned bytes of the programs that need most.

  Nothing is known of updates, or of sampling, where one of them has no room.
  """
  updates = [p for p in programs if p.kind == 'update']
  samplers = [p for p in programs if p.kind in ('insert', 'decode')]

  def scale(programs):
    has_room = programs and not any(p.refusal for p in programs)
    return programs[-1].scale if has_room else None

  by_total = sorted(samplers, key=lambda p: p.total)
  return forecast.Scale(update=scale(updates), sampling=scale(by_total))


def run() -> None:
  """Plans what the flags say, and prints it."""
  config, chip, num = flags.FLAGS.config, _CHIP.value, _PROCESSES.value
  shares = Shares(**{name: flag.value for name, flag in _SHARES.items()})
  check_shares(shares)
  if _JSON.value and not Path(_JSON.value).absolute().parent.is_dir():
    raise ValueError(
      f'json: got {_JSON.value}; expected a file in a folder that exists; make '
      'the folder'
    )
  if flags.FLAGS['programs'].present and not _COMPILE.value:
    raise ValueError(
      f'programs: got {_PROGRAMS.value} without --compile; expected both; add '
      '--compile'
    )
  checks.check_names(config, also=('checkpoint',))
  mesh = make_mesh(config, chip, _MESH.value, _TOPOLOGY.value, _COMPILE.value)
  plan = forecast.make(config, mesh, CHIPS[chip], shares, num)
  forecast_table.show(plan, chip, Console())
  data = forecast_table.plain(plan)
  if _COMPILE.value:
    lms = abstract.make_lms(config, CHIPS[chip].platform, num)
    for phase, data_of_phase in zip(plan.phases, data['phases'], strict=True):
      programs, numbers = compile_phase(
        config, chip, mesh, plan, phase, lms=lms, shares=shares, processes=num
      )
      data_of_phase['compiled'] = compiled_table.plain(programs)
      if numbers:
        data_of_phase['as_compiled'] = numbers
  if _JSON.value:
    Path(_JSON.value).write_text(json.dumps(data, indent=2) + '\n')


def main(argv: Sequence[str]) -> None:
  """Runs the command line."""
  if len(argv) > 1:
    raise app.UsageError(f'got {argv[1:]}; expected --config and --chip')
  logging.set_verbosity(logging.WARNING)  # jax tells of every cache
  with cli.errors_in_one_line():
    run()


def console_script() -> None:
  """Runs the command as a program."""
  cli.app_run(main, required=('config', 'chip'))


if __name__ == '__main__':
  console_script()
