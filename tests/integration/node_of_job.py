"""One node of a job, by ``elastic_launch`` or by the command line, for ``test_both_entrypoints``.

    node_of_job.py function|command BACKEND ENDPOINT RUN_ID ROLE WORKERS RESTARTS ACT

It prints how the job ended for this node as a line of JSON. Each worker does what ACT says.
"""

import json
import os
import subprocess
import sys

from elrun.agent import ChildFailedError

from elrun import LaunchConfig, elastic_launch, record

NAMES = """
    RANK LOCAL_RANK WORLD_SIZE LOCAL_WORLD_SIZE GROUP_RANK GROUP_WORLD_SIZE ROLE_NAME ROLE_RANK
    ROLE_WORLD_SIZE MASTER_ADDR MASTER_PORT TORCHELASTIC_RESTART_COUNT TORCHELASTIC_MAX_RESTARTS
    TORCHELASTIC_RUN_ID TORCHELASTIC_USE_AGENT_STORE TORCH_NCCL_ASYNC_ERROR_HANDLING
"""


def work(act):
    rank, restart = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
    unlucky = {"rank 1 fails": rank == 1, "all fail": True, "rank 1 fails once": rank == 1}
    if unlucky.get(act) and (act != "rank 1 fails once" or restart == "0"):
        raise ValueError(f"rank {rank} had no luck")
    return {name: os.environ.get(name) for name in [*NAMES.split(), "OMP_NUM_THREADS"]}


def by_function(config, act):
    try:
        values = elastic_launch(config, work)(act)
    except ChildFailedError as error:
        failures = {
            str(rank): [failure.exitcode, failure.summary, os.path.exists(failure.error_file)]
            for rank, failure in error.failures.items()
        }
        return {"failures": failures, "first": error.get_first_failure()[0]}
    return {"values": {str(rank): value for rank, value in values.items()}}


def by_command(config, act):
    options = {
        "nnodes": config.max_nodes,
        "nproc-per-node": config.nproc_per_node,
        "rdzv-backend": config.rdzv_backend,
        "rdzv-endpoint": config.rdzv_endpoint,
        "rdzv-id": config.run_id,
        "role": config.role,
        "max-restarts": config.max_restarts,
    }
    command = [sys.executable, "-m", "elrun", *(f"--{k}={v}" for k, v in options.items())]
    done = subprocess.run(
        [*command, __file__, "worker", act], check=False, stdout=subprocess.PIPE, text=True
    )
    values = [json.loads(line) for line in done.stdout.splitlines()]
    return {"code": done.returncode, "values": {value["RANK"]: value for value in values}}


def main():
    if sys.argv[1] == "worker":
        sys.stdout.write(json.dumps(record(work)(sys.argv[2])) + "\n")
        return
    how, backend, endpoint, run_id, role, workers, restarts, act = sys.argv[1:]
    config = LaunchConfig(
        *(2, 2, int(workers)),
        run_id=run_id,
        role=role,
        rdzv_backend=backend,
        rdzv_endpoint=endpoint,
        max_restarts=int(restarts),
        start_method="fork",
    )
    end = {"function": by_function, "command": by_command}[how](config, act)
    sys.stdout.write(json.dumps(end) + "\n")


if __name__ == "__main__":
    main()
