"""TPU slices from queued resources: one trains one run at a time.

    python -m critic_jax.launch.tpu --name critic-0 --zone Z --version V \
        --type v5litepod-16 --bucket gs://B/runs --run RUN \
        --folder runs/evidence/RUN -- .venv/bin/python -m critic_jax.train ...

does what a run needs: it creates the slice if it is not there and waits for it,
sets it up, runs the command on all its workers, and copies the run's results
back, every minute while it trains. If the slice was preempted, it is deleted
and made anew, and the run continues from the checkpoints in the bucket, which
every slice has mounted as `runs`. All is done by the scripts in tpu_scripts/.

Written from Google's documentation and never run on a TPU by us.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SCRIPTS = Path(__file__).parents[2] / 'tpu_scripts'
_ON_THE_WAY = (
  'CREATING', 'ACCEPTED', 'PROVISIONING', 'WAITING_FOR_RESOURCES'
)  # fmt: skip
_POLL_S, _SYNC_S = 30, 60


class Slice(NamedTuple):
  """A queued resource and what it is made of; see tpu_scripts/create.sh."""

  name: str
  zone: str
  type: str
  version: str
  bucket: str
  options: Sequence[str] = ()  # more of gcloud's, such as --spot

  def create(self) -> list[str]:
    """The words that ask for it."""
    place = [self.name, self.zone, self.type, self.version]
    return script('create.sh', *place, *self.options)

  def delete(self) -> list[str]:
    """The words that delete it."""
    return script('delete.sh', self.name, self.zone)

  def set_up(self) -> list[str]:
    """The words that copy the checkout to all workers and install it."""
    return script('setup.sh', self.name, self.zone, self.bucket)

  def run(self, command: Sequence[str]) -> list[str]:
    """The words that run a command on all workers."""
    return script('run.sh', self.name, self.zone, *command)

  def describe(self) -> list[str]:
    """The words that tell its state."""
    words = ['gcloud', 'compute', 'tpus', 'queued-resources', 'describe']
    words += [self.name, f'--zone={self.zone}']
    return [*words, '--format=value(state.state)']


def script(name: str, *words: str) -> list[str]:
  """The words that run a script of tpu_scripts/."""
  return [str(SCRIPTS / name), *words]


def sync(bucket: str, folder: Path) -> list[str]:
  """The words that copy results back, but for checkpoints."""
  return script('sync.sh', bucket, str(folder))


def state(slice_: Slice) -> str:
  """As Google names it, e.g. 'ACTIVE' or 'SUSPENDED'; '' if there is none.

  Raises:
    ValueError: it can not be asked.
  """
  done = subprocess.run(
    slice_.describe(), capture_output=True, text=True, check=False
  )
  if done.returncode == 0:
    return done.stdout.strip()
  if 'NOT_FOUND' in done.stderr:
    return ''
  raise ValueError(
    f'gcloud: got {done.stderr.strip()!r}; expected the state of '
    f'{slice_.name}; see whether `{shlex.join(slice_.describe())}` works'
  )


def make_ready(slice_: Slice) -> None:
  """Creates a slice, anew if it was preempted; waits; sets it up.

  Raises:
    ValueError: a command failed.
  """
  while (now := state(slice_)) != 'ACTIVE':
    if now in _ON_THE_WAY:
      time.sleep(_POLL_S)
      continue
    if now:
      print(f'{slice_.name} is {now}: it is made anew', flush=True)
      _call(slice_.delete())
    _call(slice_.create())
  _call(slice_.set_up())


def train(slice_: Slice, command: Sequence[str], run: str, folder: Path) -> int:
  """Runs a command on all workers of a slice, as often as it is preempted.

  Args:
    slice_: where.
    command: continues from what it saved if it is run again.
    run: the folder of its results in the bucket.
    folder: where they are copied to.

  Returns:
    The command's exit status.

  Raises:
    ValueError: a slice can not be had, or not be set up.
  """
  results = sync(f'{slice_.bucket}/{run}', folder)
  while True:
    make_ready(slice_)
    # A lost connection may have left a process, which would keep the TPU.
    subprocess.run(slice_.run(['pkill', '-f', 'critic_jax.train']), check=False)
    process = subprocess.Popen(slice_.run(command))
    try:
      while _wait(process) is None:
        subprocess.run(results, check=False)
    finally:
      process.terminate()
    subprocess.run(results, check=False)
    if process.returncode == 0 or state(slice_) == 'ACTIVE':
      return process.returncode


def plan(
  slice_: Slice,
  command: Sequence[str],
  run: str,
  folder: Path,
  *,
  there: bool,
) -> list[list[str]]:
  """The commands of `train` if nothing fails.

  Args:
    slice_: as of `train`, as the others.
    command: likewise.
    run: likewise.
    folder: likewise.
    there: whether the slice is there already.
  """
  return [
    slice_.describe(),
    *([] if there else [slice_.create()]),
    slice_.set_up(),
    slice_.run(['pkill', '-f', 'critic_jax.train']),
    slice_.run(command),
    sync(f'{slice_.bucket}/{run}', folder),
  ]


def _wait(process: subprocess.Popen) -> int | None:
  try:
    return process.wait(_SYNC_S)
  except subprocess.TimeoutExpired:
    return None


def _call(words: Sequence[str]) -> None:
  if status := subprocess.run(words, check=False).returncode:
    raise ValueError(
      f'command: got exit status {status} of {shlex.join(words)}; expected 0'
    )


def words(
  slice_: Slice, command: Sequence[str], run: str, folder: Path
) -> list[str]:
  """The words of this module's own command."""
  found = [sys.executable, '-m', 'critic_jax.launch.tpu']
  for name in ('name', 'zone', 'type', 'version', 'bucket'):
    found.append(f'--{name}={getattr(slice_, name)}')
  found += [f'--option={option}' for option in slice_.options]
  return [*found, f'--run={run}', f'--folder={folder}', '--', *command]


def main(arguments: Sequence[str] | None = None) -> None:
  """The command line."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  for name in ('name', 'zone', 'type', 'version', 'bucket', 'run', 'folder'):
    parser.add_argument(f'--{name}', required=True)
  parser.add_argument('--option', action='append', default=[])
  parser.add_argument('command', nargs='+')
  given = parser.parse_args(arguments)
  slice_ = Slice(*(getattr(given, k) for k in Slice._fields[:5]), given.option)
  try:
    sys.exit(train(slice_, given.command, given.run, Path(given.folder)))
  except ValueError as error:
    sys.exit(f'error: {error}')


if __name__ == '__main__':
  main()
