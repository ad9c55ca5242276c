#!/usr/bin/env bash
# One task of an array; `critic_jax.launch --on slurm` submits it with sbatch.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/slurm.sh [--dry_run] COMMAND...

Runs COMMAND --index I --prefix 'srun --kill-on-bad-exit=1', I the task's index
in the array: the launcher, which starts the training under srun, a process for
each of the job's tasks. At the signal USR1, which sbatch sends before the time
limit, the training ends its step and saves it, and the task goes back into the
queue and continues later.
END
}

dry_run=''
while [[ ${1:-} == -* ]]; do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    *) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done
if (($# < 1)); then
  echo "arguments: got none; expected COMMAND; see --help" >&2
  exit 2
fi

index=${SLURM_ARRAY_TASK_ID:?got nothing; expected to be run by sbatch --array}
words=("$@" --index "$index" --prefix 'srun --kill-on-bad-exit=1')
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ $dry_run ]]; then exit; fi

requeue=''
"${words[@]}" &
child=$!
trap 'requeue=1; kill -TERM "$child"' USR1
status=0
wait "$child" || status=$?
while kill -0 "$child" 2> /dev/null; do # a signal has ended the wait
  status=0
  wait "$child" || status=$?
done
if [[ $requeue ]]; then
  scontrol requeue "${SLURM_ARRAY_JOB_ID}_$index"
fi
exit "$status"
