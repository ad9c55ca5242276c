r"""What a config needs on a chip and a mesh: memory, rows, slots, seconds.

    python -m critic_jax.plan --config configs/refcritic.py:qwen2.5-14b-v5p \
        --chip v5p [--mesh data=1,fsdp=16,tensor=4] [--processes 16] \
        [--json FILE] [--compile]

`--config` and `--config.x=y` are those of `critic_jax.train`. Nothing of the
run is allocated, and weights need not be here. The mesh is the config's unless
one is given; where that leaves a size to the number of devices (-1), it is 1.
Several processes sample shares, each on its own devices with `sample_mesh`.
What is estimated, and how, is in memory.py and speed.py beside this file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import app, flags
from rich.console import Console

from critic_jax.plan import forecast, forecast_table
from critic_jax.plan.chips import CHIPS
from critic_jax.plan.speed import Shares
from critic_jax.runtime import cli, sharding

_CHIP = flags.DEFINE_enum('chip', None, sorted(CHIPS), 'What is planned for.')
_MESH = flags.DEFINE_string('mesh', None, "Instead of the config's mesh.")
_PROCESSES = flags.DEFINE_integer('processes', 1, 'Of the run.', lower_bound=1)
_JSON = flags.DEFINE_string('json', None, 'The plan is also written here.')
_COMPILE = flags.DEFINE_bool(
  'compile', False, 'Also compile the updates, for fake CPU devices.'
)
_SHARES = {
  name: flags.DEFINE_float(f'{name}_share', getattr(Shares(), name), text)
  for name, text in {
    'flops': "Of the chip's peak, what is reached.",
    'bandwidth': 'Of memory and links, what is reached.',
    'memory': 'Of memory, what arrays may take.',
    'length': 'Mean length of responses over their limit.',
  }.items()
}


def mesh_sizes(text: str) -> dict[str, int]:
  """The sizes of a mesh as the flag has them.

  >>> mesh_sizes('fsdp=16,tensor=4')
  {'fsdp': 16, 'tensor': 4}

  Raises:
    ValueError: something else is written there.
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
  """Plans a config on fake devices; the first use of jax in a process."""
  sizes = mesh_sizes(mesh) if mesh else dict(config.mesh)
  sizes = {axis: 1 if n == -1 else n for axis, n in sizes.items()}
  num_devices = max(1, math.prod(sizes.values()))
  jax.config.update('jax_platforms', 'cpu')
  jax.config.update('jax_num_cpu_devices', num_devices)
  made = sharding.make_mesh(sizes, jax.devices()[:num_devices])
  return forecast.make(config, made, CHIPS[chip], shares, compiles, processes)


def main(argv: Sequence[str]) -> None:
  """The command line."""
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
