"""The update of several systems, compiled for a TPU that need not be there.

Each system compiles its own trainer's step for the same model, rows, topology
and mesh, in a process and an environment of its own; nothing is run. All use
bfloat16 with float32 parameters and moments and AdamW, after a clip but for
Tunix's, and keep the residual stream of each layer (`remat`).
"""

from __future__ import annotations

import dataclasses
import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from critic_jax.bench import connection, rounds, traffic
from critic_jax.bench.connection import System
from critic_jax.bench.work import Model, Work
from critic_jax.plan import hlo, topology

CHIPS = ('v5e', 'v5p', 'v6e')
NUM_DEVICES = 8
PEERS = ('maxtext', 'tunix')  # those whose step compiles without a device
SIZE = 'qwen2.5-0.5b'  # Tunix's Llama computes in float32
_KERNEL = 'tpu_custom_call'  # others are the compiler's own
NOTE = """\
TFLOP: matrix products that the traced step asks for, loops and kernels
included, over the devices. HBM GiB: read and written in the compiled program,
loops included, kernels by their operands and results. temporaries, arguments:
the compiler's, MiB. kernels: calls of Mosaic's. s: of compiling.
All but the last two: of a device, for one update; in brackets over ours."""


def run(
  work: Work,
  model: Model,
  dtype: str,
  chip: str,
  systems: Sequence[System],
  *,
  deadline_s: float,
  say: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
  """Compiles an update in each system.

  Args:
    work: the update.
    model: the fields of TransformerConfig.
    dtype: the dtype of activations; parameters are in float32.
    chip: one of `CHIPS`.
    systems: the systems, ours first.
    deadline_s: seconds that each has.
    say: is called with a line about each system.

  Returns:
    'work', 'model', 'chip', 'mesh'; and 'systems', the figures of each or
    {'error': ...}.

  Raises:
    ValueError: the chip's compiler is not installed.
  """
  topology.check_compiler(chip)
  sides = topology.topologies_of(chip)[NUM_DEVICES]
  mesh = {'fsdp': NUM_DEVICES}
  # Flags of this process may be unknown to the compiler.
  variables = topology.TPU_ENVIRONMENT | {
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': '',
  }
  figures = {}
  for system in systems:
    say(f'{system.name}: compiles an update for {chip}:{sides}')
    with tempfile.TemporaryDirectory() as folder:
      path = Path(folder) / 'program.hlo'
      setup = rounds.setup(work, model, dtype) | {
        'topology': f'{chip}:{sides}',
        'mesh': mesh,
        'hlo': str(path),
      }
      try:
        with connection.worker(system, setup, deadline_s, variables) as worker:
          facts = worker.first_answer
        figures[system.name] = facts | _read(path.read_text())
      except ValueError as error:
        figures[system.name] = {'error': str(error)}
  return {
    'work': dataclasses.asdict(work) | {'tokens': work.tokens},
    'model': dict(model),
    'chip': f'{chip}:{sides}',
    'mesh': mesh,
    'dtype': dtype,
    'systems': figures,
  }


def _read(text: str) -> dict[str, Any]:
  """Returns what the text of a program says."""
  program = hlo.read(text)
  return {
    'moved': traffic.count(text),
    'kernels': sum(x.target == _KERNEL for x in program.kernels),
    'collectives': sum(
      x.num_bytes * math.prod(loop.trip_count or 1 for loop in x.loops)
      for x in program.collectives
    ),
  }


def table(result: Mapping[str, Any]) -> Table:
  """Returns a table with a row for each system that did not fail."""
  work, model = result['work'], result['model']
  shown = Table(
    'system', 'TFLOP', 'HBM GiB', 'temporaries', 'arguments', 'kernels', 's',
    title=(
      f'an update of {work["rows"]} x {work["prompt"]} tokens, '
      f'{model["num_layers"]} layers of {model["embed_dim"]}, '
      f'{result["dtype"]}, on {result["chip"]}'
    ),
    caption=NOTE,
    box=box.SIMPLE,
  )  # fmt: skip
  for column in shown.columns[1:]:
    column.justify = 'right'
  first = next(iter(result['systems'].values()))
  for name, facts in result['systems'].items():
    if 'error' in facts:
      shown.add_row(name, 'failed')
      continue
    cells = []
    for key, unit, digits in (
      ('all_flops', 1e12 * NUM_DEVICES, 3),
      ('moved', 2**30, 2),
      ('temporaries', 2**20, 0),
      ('arguments', 2**20, 0),
    ):
      cell = f'{facts[key] / unit:.{digits}f}'
      if facts is not first and first.get(key):
        cell += f' [{facts[key] / first[key]:.2f}]'
      cells.append(cell)
    versions = ' '.join(
      version for key, version in facts['versions'].items() if key != 'jax'
    )
    shown.add_row(
      f'{name} {versions}'.strip(),
      *cells,
      str(facts['kernels']),
      f'{facts["compile_seconds"]:.0f}',
    )
  return shown


def errors(result: Mapping[str, Any]) -> list[str]:
  """Returns a line for each system that failed."""
  return [x['error'] for x in result['systems'].values() if 'error' in x]


def write(path: Path, result: Mapping[str, Any]) -> None:
  """Writes a result as JSON."""
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(result, indent=2) + '\n')
