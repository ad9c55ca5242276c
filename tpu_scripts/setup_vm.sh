#!/usr/bin/env bash
# Installs critic_jax on a TPU VM: run it there, in the checkout.
#
# Written from Google's and jax's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/setup_vm.sh [--dry_run] [--venv DIR] [--bucket=gs://B/DIR]

Makes a virtual environment (.venv, or DIR), installs this checkout into it
with jax for TPUs, and prints the devices that jax sees. Needs python3 >= 3.11.
With a bucket, it installs gcsfuse and mounts the bucket's folder as runs.
On all workers of a slice: tpu_scripts/setup.sh NAME ZONE
END
}

dry_run=''
bucket=''
venv='.venv'
while (($#)); do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    --bucket=gs://?*) bucket=${1#--bucket=gs://} ;;
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
if [[ -n $bucket ]] && { [[ -n $dry_run ]] || ! mountpoint -q runs; }; then
  # shellcheck disable=SC2016 # expanded there
  run sudo sh -c 'command -v gcsfuse || {
    key=/usr/share/keyrings/cloud.google.asc from=https://packages.cloud.google.com/apt
    curl -fsSLo $key $from/doc/apt-key.gpg
    echo "deb [signed-by=$key] $from gcsfuse-$(lsb_release -cs) main" \
      > /etc/apt/sources.list.d/gcsfuse.list
    apt-get update --quiet && apt-get install --yes --quiet gcsfuse
  }'
  run mkdir -p runs
  mount=(gcsfuse --implicit-dirs --rename-dir-limit=100000)
  if [[ $bucket == */?* ]]; then mount+=(--only-dir "${bucket#*/}"); fi
  run "${mount[@]}" "${bucket%%/*}" runs
fi
run "$venv/bin/python" -c 'import jax; print(jax.devices())'
