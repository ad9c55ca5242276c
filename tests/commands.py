"""Commands in processes of their own, none of which pays for its imports.

They are forks of one process, which has imported what a training imports and
has done nothing else: jax starts its threads with its first device. Run as a
program, this is that process.
"""

import contextlib
import gc
import json
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[1]
DEADLINE_S = 600


def collect_rarely():
  """Has the garbage collector leave alone what was imported, and come rarely.

  It took a tenth of the time: jax makes objects by the million to trace, and
  each 700 of them start a collection.
  """
  gc.freeze()
  gc.set_threshold(10_000, 20, 10)


class Python:
  """Runs commands as `python *words` in the checkout does, by a process.

  The environment of each is the one of now, with other variables.
  """

  def __init__(self, process, folder):
    self._process, self._folder = process, folder

  def __call__(self, *words, **variables):
    """Runs one command; returns a `subprocess.CompletedProcess` with texts."""
    [(process, _)] = self.together(words, [variables])
    return process

  def together(self, words, all_variables):
    """Runs a command in as many processes at once as there are variables.

    Returns:
      For each its `CompletedProcess`, and when it ended: `time.monotonic()`.
    """
    request = [str(word) for word in words], all_variables
    self._process.stdin.write(json.dumps(request) + '\n')
    self._process.stdin.flush()
    ends = json.loads(self._process.stdout.readline())
    results = []
    for i, (status, end) in enumerate(ends):
      texts = [path.read_text() for path in outputs(self._folder, i)]
      process = subprocess.CompletedProcess(words, status, *texts)
      results.append((process, end))
    return results


def outputs(folder, i):
  """Returns the paths of a command's output and of its errors."""
  return [pathlib.Path(folder, f'{name}-{i}') for name in ('stdout', 'stderr')]


@contextlib.contextmanager
def forked_python():
  """Yields a `Python`."""
  with tempfile.TemporaryDirectory() as folder:
    with subprocess.Popen(
      [sys.executable, __file__, folder],
      cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
      yield Python(process, folder)
      process.stdin.close()


def serve(folder):
  """Forks for the words of each line; returns these in the children."""
  import critic_jax.train  # noqa: F401

  # `-m` runs a module that nothing has imported.
  del sys.modules['critic_jax.train']
  collect_rarely()  # or each child would look through all of it as it ends
  for line in sys.stdin:
    words, all_variables = json.loads(line)
    numbers = {}
    for i, variables in enumerate(all_variables):
      child = os.fork()
      if not child:
        signal.alarm(DEADLINE_S)
        redirect(outputs(folder, i))
        os.environ.update(variables)
        return words
      numbers[child] = i
    ends = [None] * len(numbers)
    while numbers:
      child, status = os.wait()
      status = os.waitstatus_to_exitcode(status)
      ends[numbers.pop(child)] = status, time.monotonic()
    print(json.dumps(ends), flush=True)
  return []


def redirect(paths):
  """Makes files of the process's output and errors; it reads nothing."""
  files = [os.open(os.devnull, os.O_RDONLY)]
  flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
  files += [os.open(path, flags) for path in paths]
  for target, file in enumerate(files):
    os.dup2(file, target)
    os.close(file)


def begin(words):
  """Runs a module after `-m`, or a file, as python does."""
  if words[0] == '-m':
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name='__main__', alter_sys=True)
  else:
    sys.argv = words
    sys.path[:0] = [os.path.dirname(words[0]), str(ROOT / 'tests')]
    runpy.run_path(words[0], run_name='__main__')


if __name__ == '__main__':
  sys.path[0] = str(ROOT)
  if command := serve(sys.argv[1]):
    begin(command)
