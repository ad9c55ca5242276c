#!/usr/bin/env bash
# Installs critic_jax on a TPU VM: run it there, in the checkout.
#
# Written from Google's and jax's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/setup_vm.sh [--dry_run] [--venv DIR]

Makes a virtual environment (.venv, or DIR), installs this checkout into it
with jax for TPUs, and prints the devices that jax sees. Needs python3 >= 3.11.
On all workers of a slice: tpu_scripts/run.sh NAME ZONE tpu_scripts/setup_vm.sh
END
}

dry_run=''
venv='.venv'
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    --venv) venv=${2:?--venv: got nothing; expected a folder} && shift ;;
    *) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done

run() {
  printf '+'
  printf ' %q' "$@"
  printf '\n'
  if [[ -z $dry_run ]]; then "$@"; fi
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
run python3 -m venv "$venv"
run "$venv/bin/pip" install --quiet '.[tpu]'
run "$venv/bin/python" -c 'import jax; print(jax.devices())'
