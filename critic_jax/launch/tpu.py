"""TPU slices from queued resources: one trains one run at a time.

    python -m critic_jax.launch.tpu --name critic-0 --zone Z --version V \
        --type v5litepod-16 --bucket gs://B/runs --run RUN \
        --folder runs/evidence/RUN -- .venv/bin/python -m critic_jax.train ...

creates the slice if it does not exist and waits for it, sets it up, runs the
command on all its workers, and copies the run's results back, every minute
while it trains. If the slice was preempted, it is deleted and made anew, and
the run continues from the checkpoints in the bucket, which every slice has
mounted as `runs`. The scripts in tpu_scripts/ do the work.

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

from critic_jax.terminal import printable

SCRIPTS = Path(__file__).parents[2] / 'tpu_scripts'
_PENDING = (
  'CREATING', 'ACCEPTED', 'PROVISIONING', 'WAITING_FOR_RESOURCES'
)  # fmt: skip
_POLL_S, _SYNC_S = 30, 60
_HELP = {
  'name': 'name of the slice',
  'zone': 'zone of the slice: us-west4-a',
  'type': 'type of the slice: v5litepod-16',
  'version': 'software of the slice: v2-alpha-tpuv5-lite',
  'bucket': 'gs://NAME/FOLDER, which is mounted as runs',
  'run': "folder of the run's results in the bucket",
  'folder': 'folder on this machine that they are copied to',
}
_EXAMPLES = """\
examples:
  python -m critic_jax.launch.tpu --name critic-0 --zone us-west4-a \\
      --type v5litepod-16 --version v2-alpha-tpuv5-lite \\
      --bucket gs://NAME/runs --run seed=0 --folder runs/rewards/seed=0 \\
      -- .venv/bin/python -m critic_jax.train --workdir=runs/seed=0 \\
      --config=configs/refcritic.py:smollm2
  python -m critic_jax.launch.tpu --name critic-1 --zone us-west4-a \\
      --type v5litepod-16 --version v2-alpha-tpuv5-lite --option=--spot \\
      --bucket gs://NAME/runs --run check --folder runs/check \\
      -- .venv/bin/python -c 'import jax; print(jax.devices())'
"""


class Slice(NamedTuple):
  """A queued resource and the arguments that create it.

  Attributes:
    name: the name of the slice.
    zone: Google's zone.
    type: the type of accelerators, e.g. 'v5litepod-16'.
    version: the version of the software, e.g. 'v2-alpha-tpuv5-lite'.
    bucket: gs://NAME/FOLDER, which is mounted as `runs`.
    options: further options of gcloud, such as --spot.
  """

  name: str
  zone: str
  type: str
  version: str
  bucket: str
  options: Sequence[str] = ()

  def create(self) -> list[str]:
    """Returns the words that ask for it."""
    place = [self.name, self.zone, self.type, self.version]
    return script('create.sh', *place, *self.options)

  def delete(self) -> list[str]:
    """Returns the words that delete it."""
    return script('delete.sh', self.name, self.zone)

  def set_up(self) -> list[str]:
    """Returns the words that install the checkout on all workers."""
    return script('setup.sh', self.name, self.zone, self.bucket)

  def run(self, command: Sequence[str]) -> list[str]:
    """Returns the words that run a command on all workers."""
    return script('run.sh', self.name, self.zone, *command)

  def describe(self) -> list[str]:
    """Returns the words that print its state."""
    words = ['gcloud', 'compute', 'tpus', 'queued-resources', 'describe']
    words += [self.name, f'--zone={self.zone}']
    return [*words, '--format=value(state.state)']


def script(name: str, *words: str) -> list[str]:
  """Returns the words that run a script of tpu_scripts/."""
  return [str(SCRIPTS / name), *words]


def sync(bucket: str, folder: Path) -> list[str]:
  """Returns the words that copy results back, without checkpoints."""
  return script('sync.sh', bucket, str(folder))


def state(slice_: Slice) -> str:
  """Returns Google's name of the state, e.g. 'ACTIVE'; '' without a slice.

  Raises:
    ValueError: gcloud failed for another reason.
  """
  result = subprocess.run(
    slice_.describe(), capture_output=True, text=True, check=False
  )
  if result.returncode == 0:
    return result.stdout.strip()
  if 'NOT_FOUND' in result.stderr:
    return ''
  raise ValueError(
    f'gcloud: got {result.stderr.strip()!r}; expected the state of '
    f'{slice_.name}; see whether `{shlex.join(slice_.describe())}` works'
  )


def make_ready(slice_: Slice) -> None:
  """Creates a slice, anew if it was preempted, waits for it, sets it up.

  Raises:
    ValueError: a command failed.
  """
  while (slice_state := state(slice_)) != 'ACTIVE':
    if slice_state in _PENDING:
      time.sleep(_POLL_S)
      continue
    if slice_state:
      text = f'{slice_.name} is {slice_state}: it is made anew'
      print(printable(text), flush=True)
      _call(slice_.delete())
    _call(slice_.create())
  _call(slice_.set_up())


def train(slice_: Slice, command: Sequence[str], run: str, folder: Path) -> int:
  """Runs a command on all workers of a slice, as often as it is preempted.

  Args:
    slice_: the slice.
    command: continues from its checkpoints if it is run again.
    run: the folder of its results in the bucket.
    folder: the folder on this machine that they are copied to.

  Returns:
    The command's exit status.

  Raises:
    ValueError: the slice could not be made or set up.
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
  exists: bool,
) -> list[list[str]]:
  """Returns the commands of `train` if nothing fails.

  Args:
    slice_: the slice.
    command: the command that trains.
    run: the folder of its results in the bucket.
    folder: the folder on this machine that they are copied to.
    exists: whether the slice exists already.
  """
  return [
    slice_.describe(),
    *([] if exists else [slice_.create()]),
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
  """Returns the words of this module's own command."""
  options = [
    f'--{name}={getattr(slice_, name)}' for name in Slice._fields[:5]
  ] + [f'--option={option}' for option in slice_.options]
  options += [f'--run={run}', f'--folder={folder}']
  module = [sys.executable, '-m', 'critic_jax.launch.tpu']
  return [*module, *options, '--', *command]


def main(arguments: Sequence[str] | None = None) -> None:
  """Trains a run on a slice, as the command line says."""
  parser = argparse.ArgumentParser(
    'python -m critic_jax.launch.tpu',
    description=__doc__.splitlines()[0],
    epilog=_EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  for name, text in _HELP.items():
    parser.add_argument(f'--{name}', required=True, help=text)
  parser.add_argument(
    '--option',
    action='append',
    default=[],
    help='such as --option=--spot, for gcloud',
  )
  parser.add_argument(
    'command', nargs='+', help='words that all workers run, after --'
  )
  args = parser.parse_args(arguments)
  slice_ = Slice(*(getattr(args, k) for k in Slice._fields[:5]), args.option)
  try:
    sys.exit(train(slice_, args.command, args.run, Path(args.folder)))
  except ValueError as error:
    sys.exit(printable(f'error: {error}'))


if __name__ == '__main__':
  main()
