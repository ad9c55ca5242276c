#!/usr/bin/env bash
# Follows a file on a worker of a TPU slice.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/tail.sh [--dry_run] NAME ZONE FILE [WORKER]

Shows the end of FILE on WORKER (0 if not given) and follows it; FILE is relative
to critic_jax, such as runs/NAME/metrics.jsonl. A run's output is in its log on
this machine, WORKDIR/RUN.log.
END
}

dry_run=()
while [[ ${1:-} == -* ]]; do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=(--dry_run) ;;
    *) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done
if (($# < 3 || $# > 4)); then
  echo "arguments: got $#; expected NAME ZONE FILE [WORKER]; see --help" >&2
  exit 2
fi

run=$(dirname "${BASH_SOURCE[0]}")/run.sh
"$run" "${dry_run[@]}" --worker "${4:-0}" "$1" "$2" tail -n 20 -F -- "$3"
