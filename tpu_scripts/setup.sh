#!/usr/bin/env bash
# Copies this checkout to all workers of a TPU slice and installs it there.
#
# Written from Google's documentation and never run on a TPU by us.
set -euo pipefail

usage() {
  cat << 'END'
usage: tpu_scripts/setup.sh [--dry_run] NAME ZONE [gs://BUCKET/FOLDER]

Copies the files of this checkout, but for those that git ignores, to critic_jax
in the home folder of every worker of the slice NAME, and runs setup_vm.sh there;
the bucket's folder becomes critic_jax/runs. Run it again after changes.
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
if (($# < 2 || $# > 3)); then
  echo "arguments: got $#; expected NAME ZONE [BUCKET]; see --help" >&2
  exit 2
fi

name=$1 zone=$2 bucket=("${@:3}")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
archive=critic_jax.tar.gz
if [[ -z $dry_run ]]; then
  folder=$(mktemp -d)
  trap 'rm -r "$folder"' EXIT
  archive=$folder/$archive
  git ls-files -z --cached --others --exclude-standard | while read -rd '' file
  do if [[ -e $file ]]; then printf '%s\0' "$file"; fi; done > "$folder/files"
  tar --null --files-from="$folder/files" -czf "$archive" .git
fi
words=(gcloud compute tpus tpu-vm scp "$archive" "$name:critic_jax.tar.gz"
  "--zone=$zone" --worker=all)
printf '+'
printf ' %q' "${words[@]}"
printf '\n'
if [[ -z $dry_run ]]; then "${words[@]}"; fi
on_all=(tpu_scripts/run.sh ${dry_run:+--dry_run})
"${on_all[@]}" --folder . "$name" "$zone" mkdir -p critic_jax
"${on_all[@]}" "$name" "$zone" tar -xzf ../critic_jax.tar.gz
"${on_all[@]}" "$name" "$zone" tpu_scripts/setup_vm.sh "${bucket[@]/#/--bucket=}"
