"""A grader process of `pool.Pool`: pairs in, grades out.

Messages are length-prefixed JSON. The process receives `[answer, reference]`
and 'check'; it sends 'ready', a grade for each pair, the grades of the canaries
for 'check', 'memory' if there was too little of it for an answer, and
`{'error': ...}` if a sandbox did not start.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import json
import os
import pathlib
import resource
import signal
import sys
from collections.abc import Mapping
from typing import Any

from critic_jax.execution import code, code_host, sandbox, syscalls

STARTUP_S = 60.0  # for a sandbox to start on a busy machine, beyond a deadline


def canaries(grader: Any) -> list[tuple[str, str, str]]:
  """Returns the canaries that take a child."""
  return [
    (text, reference, grade)
    for text, reference, grade in grader.CANARIES
    if (answer := grader.extract(text)) is not None
    and grader.exact(answer, reference) is None
  ]


def main(settings: Mapping[str, Any]) -> None:
  """Reads pairs from stdin and writes grades until stdin ends.

  The process limits itself: should its parent die while it grades, the kernel
  ends it by an alarm soon after the deadline, within C code too.
  """
  memory_bytes, deadline_s = settings['memory_bytes'], settings['deadline_s']
  resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  signal.signal(signal.SIGALRM, signal.SIG_DFL)
  # Parsers print; only messages may enter the pipe.
  output = os.fdopen(os.dup(1), 'wb')
  os.dup2(2, 1)
  grader = importlib.import_module(settings['grader'])
  checks = canaries(grader)
  seconds = 2 * deadline_s + 5
  if grader.IN_SANDBOX:
    seconds *= code.SLOWDOWN
    walls = sandbox.Walls(*settings['walls'])
    decide = functools.partial(
      grader.decide, deadline_s=deadline_s, walls=walls
    )
    seconds += STARTUP_S
    code_host.adopt_orphans()
  else:
    decide = grader.decide
    decide(*_pair(grader, checks[0]))  # imports and warms up
    with contextlib.suppress(OSError):  # a kernel without seccomp
      code_host.confine({'NPROC': 0, 'FSIZE': 0}, syscalls.make_filter())
  code_host.write(output, 'ready')
  while (message := code_host.read(sys.stdin.buffer)) is not None:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
      if message == 'check':
        answer = [decide(*_pair(grader, canary)) for canary in checks]
      else:
        answer = decide(*message)
    except ChildProcessError as error:  # a sandbox that did not start
      answer = {'error': str(error)}
    except MemoryError:
      answer = 'memory'
    _end_children()
    signal.setitimer(signal.ITIMER_REAL, 0)
    code_host.write(output, answer)


def _end_children() -> None:
  """Kills all that a grader started, and waits until it is gone."""
  while True:
    with contextlib.suppress(OSError):  # a kernel without this file
      path = f'/proc/self/task/{os.getpid()}/children'
      for pid in pathlib.Path(path).read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    try:
      os.waitpid(-1, 0)
    except ChildProcessError:
      return


def _pair(grader: Any, canary: tuple[str, str, str]) -> tuple[str, str]:
  text, reference, _ = canary
  return grader.extract(text), reference


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
