"""SLURM: a grid as an array of jobs, each run on the nodes and GPUs it wants.

    sbatch --array=0-5 ... tpu_scripts/slurm.sh python -m critic_jax.launch ...

A task of the array is this launcher with --index; it starts the training under
`srun`, a process for each GPU, and from SLURM's environment `jax.distributed`
reads who they are. A job that is preempted, or near its time limit, goes back
into the queue and continues from its last checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def submission(
  command: Sequence[str],
  indices: Sequence[int],
  *,
  script: Path,
  logs: Path,
  nodes: int = 1,
  gpus: int = 0,
  parallel: int | None = None,
  options: Sequence[str] = (),
) -> list[str]:
  """The words of `sbatch` that submit an array.

  Args:
    command: what a task runs, but for --index.
    indices: of the runs.
    script: tpu_scripts/slurm.sh.
    logs: the folder of what the tasks print, <job>_<index>.log.
    nodes: that a run spans.
    gpus: on each node, with a process each; 0: one process on the CPUs.
    parallel: how many tasks run at once; None: as many as there is room for.
    options: more of sbatch's, such as --partition=a100.
  """
  limit = f'%{parallel}' if parallel else ''
  name = str(logs / '%A_%a.log').replace('%', '%%')  # the folder's are plain
  name = name.removesuffix('%%A_%%a.log') + '%A_%a.log'
  words = ['sbatch', f'--array={ranges(indices)}{limit}']
  words += ['--job-name=critic_jax', f'--output={name}', '--open-mode=append']
  words += ['--requeue', '--signal=B:USR1@120', f'--nodes={nodes}']
  words += [f'--ntasks-per-node={gpus or 1}']
  words += [f'--gpus-per-node={gpus}'] if gpus else []
  return [*words, *options, str(script), *command]


def ranges(indices: Sequence[int]) -> str:
  """Indices as SLURM names them.

  >>> ranges([0, 1, 2, 5, 7, 8])
  '0-2,5,7-8'
  """
  found = []
  for index in sorted(indices):
    if found and found[-1][1] == index - 1:
      found[-1][1] = index
    else:
      found.append([index, index])
  return ','.join(f'{a}-{b}' if a < b else f'{a}' for a, b in found)
