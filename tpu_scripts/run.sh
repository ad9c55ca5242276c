#!/usr/bin/env bash
# Runs one command on all workers of a TPU slice, by gcloud.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/run.sh [--dry_run] [--worker I] [--folder DIR]
                          NAME ZONE COMMAND...

Runs COMMAND on every worker (or the one called I) of the slice NAME, in DIR of
the home folder there, critic_jax if not given. After tpu_scripts/setup.sh:

  tpu_scripts/run.sh NAME ZONE .venv/bin/python -m critic_jax.train \
      --config configs/refcritic.py:quickstart --workdir runs/quickstart

COMMAND's words arrive as they are here: no shell of the worker splits them.
END
}

dry_run=''
folder='critic_jax'
worker='all'
while [[ ${1:-} == -* ]]; do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    --folder) folder=${2:?--folder: got nothing; expected a folder} && shift ;;
    --worker) worker=${2:?--worker: got nothing; expected a number} && shift ;;
    *) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done
if (($# < 3)); then
  echo "arguments: got $#; expected NAME ZONE COMMAND; see --help" >&2
  exit 2
fi

name=$1 zone=$2
shift 2
words=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" "--worker=$worker"
  "--command=$(printf '%q ' cd "$folder") && $(printf '%q ' "$@")")
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -z $dry_run ]]; then "${words[@]}"; fi
