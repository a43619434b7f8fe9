"""The least that a launcher can be: a Click command that starts interpreters and waits.

They find what ``init_process_group`` needs in their environment, and nothing else is done for them.
"""

import os
import select
import socket
import subprocess
import sys

import click


@click.command()
@click.option("--standalone", is_flag=True, expose_value=False)
@click.option("--nproc-per-node", type=int, default=1)
@click.argument("script")
def main(nproc_per_node: int, script: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(nproc_per_node),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-u", script], env={**os.environ, **meeting, "RANK": str(rank)}
        )
        for rank in range(nproc_per_node)
    ]
    waiting = {os.pidfd_open(worker.pid) for worker in workers}
    while waiting:
        ended, _, _ = select.select(waiting, [], [])
        waiting -= set(ended)
    sys.exit(max(worker.wait() for worker in workers))


main()
