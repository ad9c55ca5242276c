"""Memory that is freed is kept for the next block of its size."""

import subprocess
import sys

import pytest

from critic_jax.runtime import allocation

# Minor faults of ten large blocks, one after the other, in a fresh process: its
# heap is as the tests' own is not.
PROGRAM = """
import resource, sys
from critic_jax.runtime import allocation

is_kept = sys.argv[1] == 'kept' and allocation.keep_freed_memory()

def faults():
  return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

bytearray(2**26)
before = faults()
for _ in range(10):
  bytearray(2**26)
print(is_kept, faults() - before)
"""


def run(argument):
  result = subprocess.run(
    [sys.executable, '-c', PROGRAM, argument],
    capture_output=True,
    text=True,
    check=True,
  )
  is_kept, faults = result.stdout.split()
  return is_kept == 'True', int(faults)


def test_a_large_block_is_mapped_once():
  is_kept, faults = run('kept')
  if not is_kept:
    pytest.skip('an accelerator is here, or no glibc')
  _, faults_without = run('given back')
  assert faults < 100
  assert faults_without > 10 * faults


def test_nothing_is_changed_beside_an_accelerator(monkeypatch):
  monkeypatch.setattr(allocation, '_ACCELERATORS', ('/dev/null',))
  assert not allocation.keep_freed_memory()


def test_nothing_is_changed_without_glibc(monkeypatch):
  monkeypatch.setattr(allocation.ctypes, 'CDLL', lambda name: object())
  assert not allocation.keep_freed_memory()
