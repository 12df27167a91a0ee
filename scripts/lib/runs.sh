# shellcheck shell=bash
# Trains runs of a comparison that may be stopped and started again.

# The project's folder, from the script that sources this file.
: "${root:?}"

# Trains a run in this folder, continues it if it was stopped, or does nothing if it is over. The other arguments are
# the flags of `resnet train` for a new run.
train_once() {
  local run=$1
  shift
  if grep -qs '"event":"end"' "$run/metrics.jsonl"; then
    return
  elif [[ -e $run/checkpoints/last ]]; then
    "$root/scripts/resnet" train --resume "$run"
  else
    "$root/scripts/resnet" train "$@" --run-dir "$run"
  fi
}
