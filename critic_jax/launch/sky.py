"""SkyPilot: each run is a managed job, on machines that SkyPilot finds for it.

SkyPilot (https://docs.skypilot.co) knows TPU slices, GPUs, clouds, Kubernetes
and spot machines. It starts a job on all of its machines, makes them anew if
they are preempted, and gives them back at its end. The run continues from its
checkpoints in the bucket, which all machines have mounted as `FOLDER`. A job is
named by its run's digest, so no run has two.

Task files pass SkyPilot's own validation in the tests; no job was ever started
by us. `sky` may be installed anywhere: only its command is called.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

SCRIPTS = Path(__file__).parents[2] / 'tpu_scripts'
FOLDER = '/runs'  # of the bucket, on the machines
_PORT = 8476
# How processes on several machines find each other (runtime/distributed.py).
_PROCESSES = f"""\
export CRITIC_JAX_COORDINATOR="$(echo "$SKYPILOT_NODE_IPS" | head -n1):{_PORT}"
export CRITIC_JAX_NUM_PROCESSES="$SKYPILOT_NUM_NODES"
export CRITIC_JAX_PROCESS_ID="$SKYPILOT_NODE_RANK"
"""
QUEUE = ('sky', 'jobs', 'queue', '--skip-finished', '--all', '--output=json')


class Machines(NamedTuple):
  """The machines of a run.

  Attributes:
    accelerators: SkyPilot's name and number: 'tpu-v5litepod-16', 'H100:8'.
    infra: where, such as 'gcp/us-west4/us-west4-a' or 'k8s'; '' for anywhere.
    version: the software of a TPU, such as 'v2-alpha-tpuv5-lite'; '' for
      SkyPilot's choice.
    nodes: number of machines; a TPU slice of several hosts is one.
    spot: whether they may be preempted, and cost less.
    bucket: gs://NAME/FOLDER, or a bucket of another cloud, which is mounted.
  """

  accelerators: str
  infra: str
  version: str
  nodes: int
  spot: bool
  bucket: str


def name(digest: str) -> str:
  """Returns the name of a run's job."""
  return f'critic-{digest}'


def task(
  machines: Machines, digest: str, command: Sequence[str]
) -> dict[str, Any]:
  """Returns a run's task, as SkyPilot's file has it.

  Args:
    machines: the machines that it runs on.
    digest: the run's digest.
    command: the words that each machine starts in the checkout.
  """
  resources = {
    'accelerators': machines.accelerators,
    'infra': machines.infra,
    'use_spot': machines.spot,
    'accelerator_args': machines.version
    and {'runtime_version': machines.version},
  }
  extra = 'tpu' if machines.accelerators.startswith('tpu') else 'gpu'
  processes = _PROCESSES if machines.nodes > 1 else ''
  return {
    'name': name(digest),
    'workdir': str(SCRIPTS.parent),
    'num_nodes': machines.nodes,
    'resources': {k: v for k, v in resources.items() if v},
    'file_mounts': {FOLDER: {'source': machines.bucket, 'mode': 'MOUNT'}},
    'setup': 'python3 -m venv .venv\n'
    f".venv/bin/pip install --quiet '.[{extra}]'\n",
    'run': f'{processes}{shlex.join(command)}\n',
  }


def text(values: dict[str, Any], indent: str = '') -> str:
  """Returns a task as YAML: JSON's scalars, and scripts as blocks."""
  lines = []
  for key, value in values.items():
    if isinstance(value, dict):
      lines += [f'{indent}{key}:', text(value, f'{indent}  ').rstrip('\n')]
    elif isinstance(value, str) and value.endswith('\n'):
      lines.append(f'{indent}{key}: |')
      lines += [f'{indent}  {line}' for line in value[:-1].split('\n')]
    else:
      lines.append(f'{indent}{key}: {json.dumps(value)}')
  return '\n'.join(lines) + '\n'


def sync(bucket: str, folder: Path) -> list[str]:
  """Returns the words that copy results back, without checkpoints."""
  return [str(SCRIPTS / 'sync.sh'), bucket, str(folder)]


def submit(file: Path) -> list[str]:
  """Returns the words that start the job of a task file."""
  return ['sky', 'jobs', 'launch', '--yes', '--detach-run', str(file)]


def follow(digest: str) -> list[str]:
  """Returns the words that show a job's output."""
  return ['sky', 'jobs', 'logs', f'--name={name(digest)}']


def cancel(digest: str) -> list[str]:
  """Returns the words that end a job."""
  return ['sky', 'jobs', 'cancel', f'--name={name(digest)}']


def unfinished() -> set[str]:
  """Returns the names of the jobs that are under way, or wait.

  Raises:
    ValueError: `sky` is not installed, or does not answer with JSON.
  """
  if not shutil.which('sky'):
    raise ValueError(
      'sky: got no such command; expected SkyPilot on the PATH; write pip '
      "install 'skypilot[gcp]' in an environment of its own, and sky check"
    )
  result = subprocess.run(QUEUE, capture_output=True, text=True, check=False)
  try:
    result.check_returncode()
    return {job['job_name'] for job in json.loads(result.stdout)}
  except (
    subprocess.CalledProcessError, ValueError, KeyError, TypeError
  ) as error:  # fmt: skip
    output = (result.stderr or result.stdout).strip()[-300:]
    raise ValueError(
      f'sky: got {output!r}; expected the list of its jobs; see whether '
      f'`{shlex.join(QUEUE)}` works'
    ) from error
