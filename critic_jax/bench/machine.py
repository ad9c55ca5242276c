"""The measured limits of this machine; utilisation is a fraction of them.

    python -m critic_jax.bench.machine

prints them as JSON: the rate of square matrix products of several sizes, and
that of reading an array far larger than any cache. Both are the best of several
ways to use the machine, so that they are its limits and not a library's.
"""

from __future__ import annotations

import concurrent.futures
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

SIZES = {'cpu': (512, 1024, 2048), 'other': (4096, 8192, 16384)}
READ_BYTES = {'cpu': 1 << 29, 'other': 1 << 32}


def limits() -> dict[str, Any]:
  """Measures the machine.

  Returns:
    'device', 'processor', 'cores'; 'matmul_flops', flops a second by dtype; and
    'bandwidth', bytes a second.
  """
  kind = 'cpu' if jax.default_backend() == 'cpu' else 'other'
  return {
    'device': f'{len(jax.devices())} x {jax.devices()[0].device_kind}',
    'processor': _processor(),
    'cores': _cores(),
    'matmul_flops': {
      dtype: matmul_flops(dtype, SIZES[kind])
      for dtype in ('float32', 'bfloat16')
    },
    'bandwidth': bandwidth(READ_BYTES[kind]),
  }


def measured() -> dict[str, Any]:
  """Returns `limits`, measured in a process of its own.

  Raises:
    ValueError: the process failed.
  """
  command = [sys.executable, '-P', __file__]
  env = {**os.environ, 'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}
  result = subprocess.run(command, capture_output=True, text=True, env=env)
  if result.returncode:
    raise ValueError(
      f'machine: got {result.stderr.strip()[-300:]!r}; expected its limits'
    )
  return json.loads(result.stdout.splitlines()[-1])


def best_seconds(call: Callable[[], object], repeats: int = 5) -> float:
  """Returns the seconds of the shortest of some calls after a first one."""
  jax.block_until_ready(call())
  seconds = []
  for _ in range(repeats):
    start = time.perf_counter()
    jax.block_until_ready(call())
    seconds.append(time.perf_counter() - start)
  return min(seconds)


def matmul_flops(dtype: str, sizes: Sequence[int]) -> float:
  """Returns the best rate of square matrix products, in flops a second."""
  product = jax.jit(jnp.matmul)

  def rate(size):
    key = jax.random.key(0)
    matrix = jax.random.normal(key, (size, size), dtype)
    return 2 * size**3 / best_seconds(lambda: product(matrix, matrix))

  return max(rate(size) for size in sizes)


def bandwidth(num_bytes: int) -> float:
  """Returns the best rate of reading an array, in bytes a second.

  Args:
    num_bytes: the array's size, several times the last cache.
  """
  width = 4096
  array = jnp.ones((num_bytes // 4 // width, width), jnp.float32)
  vector = jnp.ones((width, 1), jnp.float32)
  product, total = jax.jit(jnp.matmul), jax.jit(jnp.sum)
  # The fastest of these depends on the machine and on XLA.
  seconds = [
    best_seconds(lambda: total(array)),
    best_seconds(lambda: product(array, vector)),
    best_seconds(lambda: product(array, jnp.tile(vector, (1, 8)))),
  ]
  if jax.default_backend() == 'cpu':
    seconds.append(_threads_seconds(np.asarray(array)))
  return array.nbytes / min(seconds)


def _threads_seconds(array: np.ndarray) -> float:
  """Times each core reading a part; numpy releases Python's lock."""
  cores = _cores()
  parts = np.array_split(array.reshape(-1), cores)
  with concurrent.futures.ThreadPoolExecutor(cores) as pool:
    return best_seconds(lambda: list(pool.map(np.max, parts)))


def _cores() -> int:
  """Counts the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def _processor() -> str:
  """Returns the system's name of the processor."""
  path = Path('/proc/cpuinfo')
  for line in path.read_text().splitlines() if path.exists() else ():
    if line.startswith('model name'):
      return line.partition(':')[2].strip()
  return platform.processor() or platform.machine()


if __name__ == '__main__':
  print(json.dumps(limits()))
