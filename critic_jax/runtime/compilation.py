"""Compilations: counted, made ahead, and kept from one start to the next.

XLA compiles a function once for each shape it meets. A run meets those of its
tables of shapes and no others, so a compilation after its first steps is a
defect; `compile/count` shows it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

_COMPILED = '/jax/core/compile/backend_compile_duration'
_FROM_CACHE = '/jax/compilation_cache/cache_hits'
# Without this pass the values that `remat` computes again stay behind a
# barrier. With it XLA takes them for the earlier ones and keeps those: nothing
# is saved.
_OPTIONS = {'cpu': {'xla_disable_hlo_passes': 'cse_barrier_expander'}}


class Counter:
  """Counts programs compiled while the `with` block runs, in any thread.

  A program that is read from the persistent cache counts as compiled too: it
  had to be waited for.
  """

  def __init__(self):
    self._lock = threading.Lock()
    self._sums = self._zeros()

  def __enter__(self) -> Counter:
    jax.monitoring.register_event_duration_secs_listener(self._compiled)
    jax.monitoring.register_event_listener(self._event)
    return self

  def __exit__(self, *exception: object) -> None:
    jax.monitoring.unregister_event_duration_listener(self._compiled)
    jax.monitoring.unregister_event_listener(self._event)

  def read(self) -> dict[str, float]:
    """Returns the counts since the last call.

    Returns:
      'compile/count', programs; 'compile/from_cache', how many of them were in
      the persistent cache; 'time/compile_s', XLA's seconds, summed over threads
      (without jax's own for tracing).
    """
    with self._lock:
      sums, self._sums = self._sums, self._zeros()
    return sums

  def _zeros(self):
    return {
      'compile/count': 0.0,
      'compile/from_cache': 0.0,
      'time/compile_s': 0.0,
    }

  def _compiled(self, event: str, seconds: float, **_) -> None:
    if event == _COMPILED:
      with self._lock:
        self._sums['compile/count'] += 1
        self._sums['time/compile_s'] += seconds

  def _event(self, event: str, **_) -> None:
    if event == _FROM_CACHE:
      with self._lock:
        self._sums['compile/from_cache'] += 1


class Jit:
  """`jax.jit` of a function with a gradient, with options of the platform.

  The platform is that of the devices of the arguments: they may be those of a
  topology, which another than the default backend compiles for. Where no
  argument names a device, it is the default one, which is looked up at the
  call, since the look-up starts it.
  """

  def __init__(self, function: Callable[..., Any], **settings: Any):
    functools.update_wrapper(self, function)
    self._settings = settings
    self._jitted: dict[str, Any] = {}

  def __call__(self, *args: Any, **kwargs: Any) -> Any:
    """Calls the function, compiled for the shapes of these arguments."""
    return self._for(args, kwargs)(*args, **kwargs)

  def lower(self, *args: Any, **kwargs: Any) -> jax.stages.Lowered:
    """Lowers the function as `jax.jit(...).lower` does."""
    return self._for(args, kwargs).lower(*args, **kwargs)

  def _for(self, *arguments):
    """Returns the jitted function of the platform of the arguments."""
    platform = _platform(arguments)
    if platform not in self._jitted:
      options = _OPTIONS.get(platform)
      jitted = jax.jit(
        self.__wrapped__, compiler_options=options, **self._settings
      )
      self._jitted.setdefault(platform, jitted)  # another thread may be first
    return self._jitted[platform]


def platform(mesh: jax.sharding.Mesh) -> str:
  """Returns the platform of a mesh's devices.

  Returns:
    'tpu', 'gpu' for those of NVIDIA that have cuDNN's attention, from Ampere
    on, 'other_gpu' for all others, and 'cpu' for CPUs and what jax has plugins
    for beside these, such as 'METAL': the plain programs.
  """
  device = mesh.devices.flat[0]
  if device.platform not in ('gpu', 'cuda', 'rocm'):
    return 'tpu' if device.platform == 'tpu' else 'cpu'
  # jax calls every GPU that is there 'gpu'; its client says whose it is.
  client = getattr(device, 'client', None)
  if 'rocm' in getattr(client, 'platform_version', device.platform):
    return 'other_gpu'
  capability = float(getattr(device, 'compute_capability', 8.0))
  return 'gpu' if capability >= 8 else 'other_gpu'


def _platform(arguments) -> str:
  """Returns the platform of the first array, or shape, that is on a device."""
  for x in jax.tree.leaves(arguments):
    layout = getattr(x, 'sharding', None)
    mesh = getattr(layout, 'mesh', None)
    if layout and not isinstance(mesh, jax.sharding.AbstractMesh):
      return next(iter(layout.device_set)).platform
  return jax.default_backend()


def ahead(compile_one: Callable[[Any], Any], shapes: Sequence[Any]) -> None:
  """Compiles for each of several shapes, in as many threads as there are cores.

  Args:
    compile_one: a shape -> `f.lower(...).compile()` of a jitted f with arrays,
      or `jax.ShapeDtypeStruct` with shardings, of that shape. Calls of f like
      it compile nothing any more.
    shapes: one argument of `compile_one` for each program.
  """
  workers = max(1, min(len(shapes), os.cpu_count() or 1))
  with concurrent.futures.ThreadPoolExecutor(workers, 'compile') as threads:
    futures = [
      threads.submit(contextvars.copy_context().run, compile_one, shape)
      for shape in shapes
    ]
  for future in futures:
    future.result()


def use_cache(folder: str) -> None:
  """Keeps every compiled program in a folder, and reads it from there.

  Args:
    folder: the folder, made if it is missing; '' leaves jax as configured.
  """
  if folder and folder != jax.config.jax_compilation_cache_dir:
    jax.config.update('jax_compilation_cache_dir', folder)
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.0)
    jax.config.update('jax_persistent_cache_min_entry_size_bytes', -1)
    compilation_cache.reset_cache()  # it was open in another folder


@contextlib.contextmanager
def without_cache() -> Iterator[None]:
  """Compiles anew what is compiled while the `with` block runs.

  A program for devices that are not there can be put into the cache, and can
  not be read from it, since that asks for a client of such devices.
  """
  is_enabled = jax.config.jax_enable_compilation_cache
  try:
    jax.config.update('jax_enable_compilation_cache', False)
    compilation_cache.reset_cache()  # it remembers that it was enabled
    yield
  finally:
    jax.config.update('jax_enable_compilation_cache', is_enabled)
    compilation_cache.reset_cache()
