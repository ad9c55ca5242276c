#!/usr/bin/env bash
# Deletes a TPU slice with its queued resource, by gcloud.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/delete.sh [--dry_run] NAME ZONE

Deletes the slice and the queued resource that tpu_scripts/create.sh made,
running or not, without a question. The bucket stays as it is.
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
if (($# != 2)); then
  echo "arguments: got $#; expected NAME ZONE; see --help" >&2
  exit 2
fi

words=(gcloud compute tpus queued-resources delete "$1" "--zone=$2" --force
  --quiet)
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -z $dry_run ]]; then "${words[@]}"; fi
