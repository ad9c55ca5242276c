r"""Plans a config on a chip and a mesh: memory, rows, slots, seconds.

    python -m critic_jax.plan --config configs/refcritic.py:smollm2 \
        --chip h100
    python -m critic_jax.plan --config configs/refcritic.py:qwen2.5-14b-v5p \
        --chip v5p --mesh data=1,fsdp=16,tensor=4 --processes 16

`--config` and `--config.x=y` are those of `critic_jax.train`. Nothing of the
run is allocated, and no weights are needed. The mesh is the config's unless one
is given; a size that it leaves to the number of devices (-1) is 1. Several
processes sample shares, each on its own devices with `sample_mesh`. The
estimates are explained in memory.py and speed.py beside this file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags

from critic_jax.plan import forecast, forecast_table
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares
from critic_jax.runtime import cli, sharding
from critic_jax.terminal import Console
from critic_jax.training import checks

_CHIP = flags.DEFINE_enum(
  'chip', None, sorted(CHIPS), 'The chip of each device.'
)
_MESH = flags.DEFINE_string(
  'mesh', None, "A mesh in the place of the config's."
)
_PROCESSES = flags.DEFINE_integer(
  'processes', 1, 'Number of processes.', lower_bound=1
)
_JSON = flags.DEFINE_string('json', None, 'A file for the plan as JSON.')
_COMPILE = flags.DEFINE_bool(
  'compile', False, 'Also compile the updates, for fake CPU devices.'
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
    ValueError: the text has another form.
  """
  try:
    pairs = [part.split('=') for part in text.split(',')]
    return {axis.strip(): int(size) for axis, size in pairs}
  except ValueError:
    raise ValueError(
      f"mesh: got {text!r}; expected sizes by axis: 'data=1,fsdp=16,tensor=4'"
    ) from None


def run(
  config,
  chip: str,
  mesh: str | None,
  shares: Shares,
  compiles: bool,
  processes: int = 1,
):
  """Plans a config on fake devices.

  It sets the number of CPU devices, so jax must not have been used before.

  Args:
    config: the config of a run.
    chip: a name of `CHIPS`.
    mesh: sizes by axis, as --mesh has them; None: the config's.
    shares: the shares of the chip's figures that are reached.
    compiles: whether to compile the updates.
    processes: number of processes.

  Raises:
    ValueError: a setting is wrong.
  """
  checks.check_names(config, also=('checkpoint',))

  # Make fake devices for the mesh.
  sizes = mesh_sizes(mesh) if mesh else dict(config.mesh)
  sizes = {axis: 1 if n == -1 else n for axis, n in sizes.items()}
  num_devices = max(1, math.prod(sizes.values()))
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', num_devices)
  devices = jax.devices()[:num_devices]
  return forecast.make(
    config,
    sharding.make_mesh(sizes, devices),
    CHIPS[chip],
    shares,
    compiles,
    processes,
  )


def main(argv: Sequence[str]) -> None:
  """Runs the command line."""
  if len(argv) > 1:
    raise app.UsageError(f'got {argv[1:]}; expected --config and --chip')
  shares = Shares(**{name: flag.value for name, flag in _SHARES.items()})
  with cli.errors_in_one_line():
    plan = run(
      flags.FLAGS.config,
      _CHIP.value,
      _MESH.value,
      shares,
      _COMPILE.value,
      _PROCESSES.value,
    )
  forecast_table.show(plan, _CHIP.value, Console())
  if _JSON.value:
    Path(_JSON.value).write_text(
      json.dumps(forecast_table.plain(plan), indent=2) + '\n'
    )


if __name__ == '__main__':
  cli.app_run(main, required=('config', 'chip'))
