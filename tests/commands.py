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

ROOT = pathlib.Path(__file__).parents[1]
DEADLINE_S = 300


def collect_rarely():
  """Has the garbage collector leave alone what was imported, and come rarely.

  It took a tenth of the time: jax makes objects by the million to trace, and
  each 700 of them start a collection.
  """
  gc.freeze()
  gc.set_threshold(10_000, 20, 10)


@contextlib.contextmanager
def forked_python():
  """Yields `run(*words)`, which does as `python *words` in the checkout.

  It returns a `subprocess.CompletedProcess` with texts. The environment is the
  one of now, with the variables that are given as keywords.
  """
  with tempfile.TemporaryDirectory() as folder:
    outputs = [pathlib.Path(folder, name) for name in ('stdout', 'stderr')]
    with subprocess.Popen(
      [sys.executable, __file__, *outputs],
      cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip

      def run(*words, **variables):
        request = [str(word) for word in words], variables
        process.stdin.write(json.dumps(request) + '\n')
        process.stdin.flush()
        status = int(process.stdout.readline())
        texts = [path.read_text() for path in outputs]
        return subprocess.CompletedProcess(words, status, *texts)

      yield run
      process.stdin.close()


def serve(outputs):
  """Forks for each line of words; returns these in the child."""
  import critic_jax.train  # noqa: F401

  # `-m` runs a module that nothing has imported.
  del sys.modules['critic_jax.train']
  collect_rarely()  # or each child would look through all of it as it ends
  for line in sys.stdin:
    child = os.fork()
    if not child:
      signal.alarm(DEADLINE_S)
      files = [os.open(os.devnull, os.O_RDONLY)]
      flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
      files += [os.open(path, flags) for path in outputs]
      for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
      words, variables = json.loads(line)
      os.environ.update(variables)
      return words
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
  return []


def begin(words):
  """Runs a module after `-m`, or a file, as python does."""
  if words[0] == '-m':
    sys.argv = words[1:]
    runpy.run_module(words[1], run_name='__main__', alter_sys=True)
  else:
    sys.argv = words
    sys.path.insert(0, os.path.dirname(words[0]))
    runpy.run_path(words[0], run_name='__main__')


if __name__ == '__main__':
  sys.path[0] = str(ROOT)
  if command := serve(sys.argv[1:]):
    begin(command)
