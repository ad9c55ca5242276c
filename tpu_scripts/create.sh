#!/usr/bin/env bash
# Asks for a TPU slice as a queued resource, by gcloud.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/create.sh [--dry_run] NAME ZONE TYPE VERSION [OPTION...]

Asks for a slice of TYPE (v5litepod-16) with the software VERSION
(v2-alpha-tpuv5-lite) in ZONE; the queued resource and its node are both called
NAME. OPTIONs are gcloud's, such as --spot. It does not wait for the slice.
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
if (($# < 4)); then
  echo "arguments: got $#; expected NAME ZONE TYPE VERSION; see --help" >&2
  exit 2
fi

words=(gcloud compute tpus queued-resources create "$1" "--node-id=$1"
  "--zone=$2" "--accelerator-type=$3" "--runtime-version=$4" "${@:5}")
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -z $dry_run ]]; then "${words[@]}"; fi
