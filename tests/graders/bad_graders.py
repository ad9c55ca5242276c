"""Graders of `pool.Pool` that go wrong, each in the way its answer names."""

import os
import sys
import time

from critic_jax.answers.final_answers import Grade

IN_SANDBOX = False
CANARIES = (('fine', '', 'right'), ('no', '', 'wrong'))
MARK = 'critic-jax-stray'
_kept = []


def extract(text: str) -> str:
  return text


def exact(answer: str, reference: str) -> None:
  """None: all that is asked takes a child."""


def decide(answer: str, reference: str) -> Grade:
  """Does what the answer says; 'right', if that can be done."""
  if answer == 'fine' and _kept:
    try:
      bytearray(2**26)  # a canary, too, needs memory
    except MemoryError:
      return 'wrong'
  if answer == 'no' or 'poison' in _kept:
    return 'wrong'
  if answer.startswith('die'):
    os._exit(int(answer.split()[1]))
  if answer == 'hang':
    while True:
      time.sleep(1)
  if answer == 'allocate':
    bytearray(100 * 2**30)
  if answer == 'allocate slowly':
    blocks = []
    while True:
      blocks.append(bytearray(2**24))
  if answer.startswith('keep'):
    _kept.append(b'x' * 2**24)
  if answer == 'swallow':
    return _swallow()
  if answer.startswith('poison') and (not reference or _make(reference)):
    _kept.append('poison')
  if answer == 'fork':
    return _fork()
  if answer == 'write':
    open(reference, 'w').write('x' * 10**6)
  if answer == 'flood':
    sys.stdout.write('x' * 10**7)
    os.write(3, b'\xff' * 10**6)  # length prefixes of 4 GB
    time.sleep(60)
  if answer == 'babble':
    return 'excellent'
  return 'right'


def _fork() -> Grade:
  """'right' if a child that would outlive all this was started."""
  try:
    if os.fork() == 0:
      os.setsid()
      sleep = 'import time; time.sleep(60)'
      os.execv(sys.executable, [sys.executable, '-c', sleep, MARK])
  except OSError:
    return 'wrong'
  time.sleep(0.3)  # until it can be found by its mark
  return 'right'


def _swallow() -> Grade:
  """'wrong' for lack of memory, as libraries say it that hide the error."""
  blocks = []
  try:
    while True:
      blocks.append(b'x' * 2**24)
  except MemoryError:
    return 'wrong'


def _make(path: str) -> bool:
  """Whether there was no such file; a child may make empty ones."""
  try:
    open(path, 'x').close()
    return True
  except FileExistsError:
    return False
