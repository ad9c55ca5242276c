#!/usr/bin/env bash
# Copies results from a bucket to a folder here, by gcloud.
#
# Written from Google's documentation and never run with a bucket by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/sync.sh [--dry_run] [--checkpoints] gs://BUCKET/PATH FOLDER

Copies new files of the bucket to FOLDER; other files in FOLDER stay. Checkpoints
are copied with --checkpoints only.
END
}

dry_run=''
words=(gcloud storage rsync --recursive)
left_out=('--exclude=.*checkpoints/.*')
while [[ ${1:-} == -* ]]; do
  case $1 in
    --help) usage && exit ;;
    --dry_run) dry_run=1 ;;
    --checkpoints) left_out=() ;;
    *) echo "argument: got '$1'; see --help" >&2 && exit 2 ;;
  esac
  shift
done
if (($# != 2)); then
  echo "arguments: got $#; expected gs://BUCKET/PATH FOLDER; see --help" >&2
  exit 2
fi

words+=("${left_out[@]}" "$1" "$2")
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -n $dry_run ]]; then exit; fi
mkdir -p "$2"
"${words[@]}"
