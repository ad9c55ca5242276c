#!/usr/bin/env bash
# Runs one command on all workers of a TPU VM, by gcloud.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/run.sh [--dry_run] [--folder DIR] NAME ZONE COMMAND...

Runs COMMAND in DIR (critic_jax, in the home folder there) on every worker of
the TPU VM called NAME. The checkout must be there:

  gcloud compute tpus tpu-vm scp --recurse --worker=all --zone ZONE \
      . NAME:critic_jax
  tpu_scripts/run.sh NAME ZONE tpu_scripts/setup_vm.sh
  tpu_scripts/run.sh NAME ZONE .venv/bin/python -m critic_jax.train \
      --config configs/refcritic.py:quickstart --workdir runs/quickstart

A run that spans several hosts is not supported yet: use VMs of one host.
END
}

dry_run=''
folder='critic_jax'
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    --folder) folder=${2:?--folder: got nothing; expected a folder} && shift ;;
    -*) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
    *) break ;;
  esac
  shift
done
if (($# < 3)); then
  echo "arguments: got $#; expected NAME ZONE COMMAND; see --help" >&2
  exit 2
fi

name=$1 zone=$2
shift 2
words=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" --worker=all
  "--command=$(printf '%q ' cd "$folder") && $(printf '%q ' "$@")")
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -z $dry_run ]]; then "${words[@]}"; fi
