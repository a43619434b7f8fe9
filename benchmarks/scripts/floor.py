"""The least that a launcher can be: a Click command that starts interpreters and waits."""

import os
import select
import subprocess
import sys

import click


@click.command()
@click.option("--standalone", is_flag=True, expose_value=False)
@click.option("--nproc-per-node", type=int, default=1)
@click.argument("script")
def main(nproc_per_node: int, script: str) -> None:
    workers = [subprocess.Popen([sys.executable, "-u", script]) for _ in range(nproc_per_node)]
    waiting = {os.pidfd_open(worker.pid) for worker in workers}
    while waiting:
        ended, _, _ = select.select(waiting, [], [])
        waiting -= set(ended)
    sys.exit(max(worker.wait() for worker in workers))


main()
