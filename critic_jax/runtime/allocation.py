"""How a process on CPUs gets its memory from the system.

XLA frees what a program has computed with when it ends, and asks for it anew at
the next step. glibc gives large blocks back to the system at once, which has to
map and clear each of their pages again: a fifth to a third of an update of a
small model (LOG.md, 2026-11-29).
"""

import ctypes
import glob

# The numbers of mallopt(3)'s parameters.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8
# Bytes that may lie free at the end of the heap; more goes back to the system.
_MAX_FREE = 2**31 - 1
# Files of GPUs and TPUs: their memory is not glibc's, and their hosts have many
# threads, which should not wait for one another.
_ACCELERATORS = (
  '/dev/nvidia[0-9]*',
  '/dev/kfd',
  '/dev/accel*',
  '/dev/vfio/[0-9]*',
)


def keep_freed_memory() -> bool:
  """Lets glibc keep large blocks that are freed, for the next that are asked.

  To be called before jax is asked for its devices: its threads would have heaps
  of their own, which cannot hold large blocks. The process then holds about
  twice the memory of a small model's step, at most 2 GiB more.

  Returns:
    Whether it did: False beside an accelerator, and without glibc.
  """
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
  if mallopt is None or any(map(glob.glob, _ACCELERATORS)):
    return False
  settings = {_ARENA_MAX: 1, _MMAP_MAX: 0, _TRIM_THRESHOLD: _MAX_FREE}
  return all([mallopt(name, value) for name, value in settings.items()])
