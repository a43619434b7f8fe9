#!/usr/bin/env bash
# What a CI job runs before it trusts a machine: workers of each kind start, and their exit codes
# come back. It takes seconds, needs no torch, and ends with 1 at the first check that fails.
#
#     bash examples/smoke.sh
set -euo pipefail
cd "$(dirname "$0")"

output=$(mktemp)
trap 'rm -f "$output"' EXIT

# check WHAT EXIT_CODE OUTPUT_PATTERN OPTIONS_AND_WORKER...
check() {
    local what=$1 code=$2 pattern=$3 got=0
    elrun --standalone --nproc-per-node 2 "${@:4}" >"$output" 2>&1 || got=$?
    if [ "$got" = "$code" ] && grep -q "$pattern" "$output"; then
        echo "ok: $what"
    else
        echo "FAILED: $what: exit code $got, expected $code and output with '$pattern'; it was:"
        cat "$output"
        exit 1
    fi
}

fail_once='[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] && echo "better now" || exit 1'
exit_7='import sys; print("a Python worker"); sys.exit(7)'

check "two bash workers" 0 "^rank 1 of 2" --no-python ./worker.sh
check "a bash worker's exit code comes back" 3 "^rank . of 2" --no-python ./worker.sh 3
check "a Python module" 0 "Beautiful is better than ugly" -m this
check "a Python worker's exit code comes back" 7 "a Python worker" --no-python python3 -c "$exit_7"
check "the signal that killed a worker comes back" 139 "SIGSEGV" --no-python bash -c 'kill -SEGV $$'
check "a restart heals" 0 "better now" --max-restarts 1 --no-python bash -c "$fail_once"
check "a misspelt option is refused" 2 "nproc-per-node" --nproc-per-mode 2 ./worker.sh
