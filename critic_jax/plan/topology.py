"""Devices of a chip that are compiled for and need not be there.

The compilers of TPUs (libtpu) and GPUs (jax's CUDA plugin) run on any machine.
A topology is the shape of a slice or of the hosts, and its devices can be put
in a mesh; programs are compiled for them and never run. Everything that may be
wrong with them is said before a program is compiled.

TPUs: a slice has 2 or 3 sides (docs.cloud.google.com/tpu/docs/{v5e,v6e,v5p});
those of v5p beyond one block of 4x4x4 are multiples of 4. GPUs: hosts of 8; the
compiler reads a description of the device, which is made here of NVIDIA's data
sheets, with H100's as XLA prints it. 'cpu': fake devices of this process.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import jax
from jax.experimental import topologies

from critic_jax import lookup
from critic_jax.plan.chips import CHIPS
from critic_jax.runtime import compilation, sharding

# Without a TPU, libtpu asks the cloud's metadata server where it is, for
# minutes, and lets one process at a time in. It reads these when it is loaded.
TPU_ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-8',
  'TPU_WORKER_HOSTNAMES': 'localhost',
}


class Gpu(NamedTuple):
  """The figures of a GPU that its compiler asks for, beside `Chip`'s.

  Attributes:
    name: as the driver gives it.
    capability: the major version of its compute capability.
    cores: streaming multiprocessors.
    lanes: float32 units of each.
    shared: bytes of shared memory of each; a block may have 1 KiB less.
    cache: bytes of the L2 cache.
    clock: GHz.
  """

  name: str
  capability: int
  cores: int
  lanes: int
  shared: int
  cache: int
  clock: float


_GPUS = {
  'a100': Gpu('NVIDIA A100-SXM4-80GB', 8, 108, 64, 164 << 10, 40 << 20, 1.41),
  'h100': Gpu('NVIDIA H100 80GB HBM3', 9, 132, 128, 228 << 10, 50 << 20, 1.98),
  'h200': Gpu('NVIDIA H200', 9, 132, 128, 228 << 10, 50 << 20, 1.98),
}

# Slices with 8 chips or fewer, and of v5e and v6e all, by number of chips.
_SMALL_SLICES = {1: '1x1', 4: '2x2', 8: '2x4'}
_FLAT_SLICES = _SMALL_SLICES | {
  16: '4x4', 32: '4x8', 64: '8x8', 128: '8x16', 256: '16x16'
}  # fmt: skip
_CUBES = {1: '1x1x1', 4: '2x2x1', 8: '2x2x2', 16: '2x2x4', 32: '2x4x4'}
_MAX_CUBE = 16, 16, 24


def make_mesh(
  chip: str, sizes: Mapping[str, int], topology: str = ''
) -> jax.sharding.Mesh:
  """Makes a mesh of devices to compile for.

  Args:
    chip: a name of `chips.CHIPS`.
    sizes: sizes by axis; one may be -1, the rest of a named topology.
    topology: the sides of a TPU's slice such as '4x4x4', or hosts x 8 of GPUs;
      '': the one for as many devices as the sizes make, of v5p that which is
      next to a cube.

  Raises:
    ValueError: the chip's compiler is not installed, there is no such
      topology, or the mesh does not fit it.
  """
  check_compiler(chip)
  sides = find(chip, sizes, topology)
  return sharding.make_mesh(sizes, _devices(chip, sides))


def find(chip: str, sizes: Mapping[str, int], topology: str = '') -> str:
  """Returns the sides of a topology: the named one, or that of the sizes.

  Args:
    chip: a name of `chips.CHIPS`.
    sizes: sizes by axis; one may be -1, the rest of a named topology.
    topology: see `make_mesh`.

  Raises:
    ValueError: there is no such topology, or the mesh does not fit it.
  """
  names = topologies_of(chip)
  if not topology:
    num_devices = math.prod(sizes.values())
    if num_devices not in names:
      raise ValueError(
        f'mesh: got {num_devices} devices of {chip}; expected a number that '
        f'forms a topology: {_listed(names)}'
      )
    return names[num_devices]
  by_name = _all_topologies(chip)
  sides = _name_of(topology.lower().removeprefix(f'{chip}:'), chip, by_name)
  if sides not in by_name:
    raise ValueError(
      f'topology: got {topology!r} of {chip}; expected one of '
      f'{_listed(by_name)}'
    )
  sharding.mesh_shape(sizes, by_name[sides])
  return sides


def _all_topologies(chip: str) -> dict[str, int]:
  """Returns the numbers of devices of all topologies of a chip by name."""
  if chip == 'v5p':
    small = {name: number for number, name in _CUBES.items()}
    return small | {_sides(box): math.prod(box) for box in _boxes()}
  return {name: number for number, name in topologies_of(chip).items()}


def _name_of(sides: str, chip: str, names) -> str:
  """Returns the name of a TPU's slice whose sides come in another order."""
  if CHIPS[chip].platform != 'tpu':
    return sides
  by_sides = {_sorted_sides(name): name for name in names}
  return by_sides.get(_sorted_sides(sides), sides)


def _sorted_sides(sides: str) -> tuple[str, ...]:
  return tuple(sorted(sides.split('x')))


def _listed(names) -> str:
  """Lists topologies, or numbers of their devices, the first and the last."""
  first = [str(x) for x in itertools.islice(names, 12)]
  last = str(list(names)[-1])
  return ', '.join(first if last in first else [*first, '...', last])


def check_compiler(chip: str) -> None:
  """Raises ValueError for a chip whose compiler is not installed."""
  lookup.check_name('chip', chip, CHIPS)
  modules, extra, name = {
    'cpu': (['jax'], '', ''),
    'tpu': (['libtpu'], 'tpu', 'libtpu'),
    'gpu': (
      ['jax_cuda12_plugin', 'jax_cuda13_plugin'], 'gpu', "jax's CUDA plugin"
    ),
  }[CHIPS[chip].platform]  # fmt: skip
  if not any(map(importlib.util.find_spec, modules)):
    raise ValueError(
      f'chip: got {chip} to compile for without its compiler, {name}; '
      f"expected it to be installed; run pip install -e '.[{extra}]'"
    )


def topologies_of(chip: str) -> dict[int, str]:
  """Returns the topologies of a chip by their number of devices, ascending.

  >>> topologies_of('v5p')[64], topologies_of('v5e')[8]
  ('4x4x4', '2x4')
  >>> topologies_of('h100')[64], topologies_of('h100')[2]
  ('8x8', '1x2')
  """
  if CHIPS[chip].platform == 'gpu':
    hosts = {8 * number: f'{number}x8' for number in range(1, 1025)}
    return {number: f'1x{number}' for number in range(1, 8)} | hosts
  if chip == 'cpu':
    return {n: str(n) for n in range(1, 8193)}
  return _cubes() if chip == 'v5p' else dict(_FLAT_SLICES)


def _cubes() -> dict[int, str]:
  """Returns the slices of v5p, of each size the one that is next to a cube."""
  # The last of a size is kept: the one with the shortest longest side.
  return _CUBES | {math.prod(box): _sides(box) for box in _boxes()}


def _boxes() -> list[tuple[int, ...]]:
  """Returns the sides of v5p's slices of whole blocks, by size."""
  sides = [range(4, side + 1, 4) for side in _MAX_CUBE]
  boxes = [box for box in itertools.product(*sides) if list(box) == sorted(box)]
  return sorted(boxes, key=lambda box: (math.prod(box), -box[-1], -box[-2]))


def _sides(box) -> str:
  return 'x'.join(map(str, box))


def _devices(chip: str, sides: str) -> list[jax.Device]:
  """Returns the devices of a topology."""
  if chip == 'cpu':
    return cpus(int(sides))
  if chip in _GPUS:
    name = f'1x{sides}'  # one domain, its hosts, GPUs of a host
    return topologies.get_topology_desc(
      platform='cuda', topology_name=name, topology=name,
      target_config=_description(chip),
    ).devices  # fmt: skip
  _load_libtpu()
  return _tpus(chip, sides)


def _tpus(chip: str, sides: str) -> list[jax.Device]:
  """Returns the devices of a slice; libtpu must have been loaded."""
  # Hosts have 2x2 chips by default, which older libtpu does not cut for one.
  is_one = set(sides.split('x')) == {'1'}
  bounds = {'chips_per_host_bounds': (1, 1, 1)} if is_one else {}
  return topologies.get_topology_desc(
    platform='tpu', topology_name=f'{chip}:{sides}', **bounds
  ).devices


@functools.cache
def _load_libtpu() -> None:
  """Loads libtpu and compiles with it once, so that it has read what it reads.

  It reads the environment when it is loaded, and XLA_FLAGS when it first
  compiles: it aborts the process over a flag of CPUs or GPUs, which it does not
  know. Its own flags are in LIBTPU_INIT_ARGS.
  """
  jax.devices('cpu')  # jaxlib reads XLA_FLAGS first
  environment = _environment(TPU_ENVIRONMENT, hidden='XLA_FLAGS')
  with environment, compilation.without_cache():
    device, *_ = _tpus('v5e', '1x1')
    layout = jax.sharding.SingleDeviceSharding(device)
    scalar = jax.ShapeDtypeStruct((), 'float32', sharding=layout)
    jax.jit(lambda x: x).lower(scalar).compile()


def cpus(number: int) -> list[jax.Device]:
  """Makes fake CPU devices; jax must not have been used before."""
  if jax.config.jax_num_cpu_devices != number:
    jax.config.update('jax_num_cpu_devices', number)
  return jax.devices('cpu')[:number]


@contextlib.contextmanager
def _environment(variables: Mapping[str, str], hidden: str) -> Iterator[None]:
  """Adds variables that are not set and hides one, and undoes both."""
  before = dict(os.environ)
  os.environ.update({k: v for k, v in variables.items() if k not in before})
  os.environ.pop(hidden, None)
  try:
    yield
  finally:
    for name in (*variables, hidden):
      os.environ.pop(name, None)
      if name in before:
        os.environ[name] = before[name]


def _description(chip: str) -> str:
  """Returns the description of a GPU, as XLA's compiler reads it."""
  gpu, figures = _GPUS[chip], CHIPS[chip]
  return f"""
    gpu_device_info {{
      threads_per_block_limit: 1024
      threads_per_warp: 32
      threads_per_core_limit: 2048
      block_dim_limit_x: 2147483647
      block_dim_limit_y: 65535
      block_dim_limit_z: 65535
      registers_per_core_limit: 65536
      registers_per_block_limit: 65536
      shared_memory_per_block: 49152
      shared_memory_per_core: {gpu.shared}
      shared_memory_per_block_optin: {gpu.shared - 1024}
      core_count: {gpu.cores}
      fpus_per_core: {gpu.lanes}
      l2_cache_size: {gpu.cache}
      clock_rate_ghz: {gpu.clock}
      memory_bandwidth: {figures.bandwidth:.0f}
      device_memory_size: {figures.memory:.0f}
      cuda_compute_capability {{ major: {gpu.capability} }}
    }}
    platform_name: "CUDA"
    dnn_version_info {{ major: 9 minor: 8 }}
    device_description_str: "{gpu.name}"
  """
