"""SLURM: a grid as an array of jobs, each run on its own nodes and GPUs.

    sbatch --array=0-5 ... tpu_scripts/slurm.sh python -m critic_jax.launch ...

A task of the array is this launcher with --index; it starts the training under
`srun`, a process for each GPU, which `jax.distributed` tells apart by SLURM's
environment. A job that is preempted, or near its time limit, goes back
into the queue and continues from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple


class Job(NamedTuple):
  """The resources of an array's jobs.

  Attributes:
    nodes: number of nodes that a run spans.
    gpus: number on each node, with a process each; 0: one process on the CPUs.
    parallel: number of runs at once; None: as many as there is room for.
    options: further options of sbatch, such as --partition=a100.
  """

  nodes: int = 1
  gpus: int = 0
  parallel: int | None = None
  options: Sequence[str] = ()


def submission(
  job: Job,
  command: Sequence[str],
  indices: Sequence[int],
  *,
  script: Path,
  logs: Path,
) -> list[str]:
  """Returns the words of `sbatch` that submit an array.

  Args:
    job: the resources.
    command: the words that a task runs, but for --index.
    indices: indices of the runs, as --index has them.
    script: tpu_scripts/slurm.sh.
    logs: the folder of the tasks' output, <job>_<index>.log.
  """
  limit = f'%{job.parallel}' if job.parallel else ''
  folder = str(logs).replace('%', '%%')  # not a pattern of SLURM's
  words = ['sbatch', f'--array={ranges(indices)}{limit}']
  words += ['--job-name=critic_jax', f'--output={folder}/%A_%a.log']
  words += ['--open-mode=append', '--requeue', '--signal=B:USR1@120']
  words += [f'--nodes={job.nodes}', f'--ntasks-per-node={job.gpus or 1}']
  words += [f'--gpus-per-node={job.gpus}'] if job.gpus else []
  return [*words, *job.options, str(script), *command]


def ranges(indices: Sequence[int]) -> str:
  """Returns indices as SLURM writes them.

  >>> ranges([0, 1, 2, 5, 7, 8])
  '0-2,5,7-8'
  """
  pairs = []  # a first and a last index each
  for index in sorted(indices):
    if pairs and pairs[-1][1] == index - 1:
      pairs[-1][1] = index
    else:
      pairs.append([index, index])
  return ','.join(f'{a}-{b}' if a < b else f'{a}' for a, b in pairs)
