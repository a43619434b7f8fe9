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
@click.option("--max-restarts", type=int, default=0)
@click.argument("script")
def main(nproc_per_node: int, max_restarts: int, script: str) -> None:
    code = 1
    for attempt in range(max_restarts + 1):
        if not (code := _run(nproc_per_node, attempt, script)):
            break
    sys.exit(code)


def _run(nproc_per_node: int, attempt: int, script: str) -> int:
    """Run a group of workers; the first that fails ends the others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    meeting = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(nproc_per_node),
        "TORCHELASTIC_RESTART_COUNT": str(attempt),
    }
    workers = [
        subprocess.Popen(
            [sys.executable, "-u", script], env={**os.environ, **meeting, "RANK": str(rank)}
        )
        for rank in range(nproc_per_node)
    ]
    waiting = {os.pidfd_open(worker.pid): worker for worker in workers}
    code = 0
    while waiting:
        ended, _, _ = select.select(waiting, [], [])
        for fd in ended:
            code = waiting.pop(fd).wait() or code
            os.close(fd)
        if code:
            for worker in waiting.values():
                worker.terminate()
    return 1 if code else 0


main()
