#!/usr/bin/env bash
# A worker that is no Python program; its argument is the code that it exits with.
#
#     elrun --standalone --nproc-per-node 2 --no-python examples/worker.sh 0
set -euo pipefail

echo "rank $RANK of $WORLD_SIZE on $(hostname), attempt $TORCHELASTIC_RESTART_COUNT"
exit "${1:-0}"
