#!/usr/bin/env bash
# Trains a config with several sets of changes, one after another, here.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/sweep.sh [--dry_run] CONFIG WORKDIR CHANGES [CHANGES...]

CHANGES are the settings of one run, as name=value words in one argument; its
folder is WORKDIR/CHANGES, with commas for spaces and slashes. A run that is DONE is passed
over, one that was stopped continues, and one that fails ends the sweep.

  tpu_scripts/sweep.sh configs/refcritic.py:quickstart runs/weights \
      'seed=0 phases.rl.refine_weight=0' 'seed=0 phases.rl.refine_weight=1'

PYTHON names the interpreter; .venv/bin/python if it is not set.
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
if (($# < 3)); then
  echo "arguments: got $#; expected CONFIG WORKDIR CHANGES; see --help" >&2
  exit 2
fi

config=$1 workdir=$2
shift 2
for changes in "$@"; do
  folder=$workdir/${changes//[ \/]/,}
  if [[ -e $folder/DONE ]]; then
    echo "done: $folder"
    continue
  fi
  words=("${PYTHON:-.venv/bin/python}" -m critic_jax.train
    "--config=$config" "--workdir=$folder")
  read -ra settings <<< "$changes"
  words+=("${settings[@]/#/--config.}")
  printf '+'
  printf ' %q' "${words[@]}"
  printf '\n'
  if [[ -z $dry_run ]]; then "${words[@]}"; fi
done
