"""Cases of P6: what it costs that N nodes meet, by a process of its own for each measurement."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from jobs import workplace
from rows import FailedError, Figures, Launcher, Plan

MEETING = Path(__file__).with_name("meeting.py")
SIZES = (16, 64, 128, 256, 1024)
CROWDS = (1024, 10_000)
ETCD_CROWDS = (256, 1024)
LIMIT_S = 60.0
_SETTING_UP_S = 60.0  # a thousand nodes, their connections and the imports


def _over(name: str, kind: str) -> Launcher:
    return Launcher(name, (sys.executable, str(MEETING), kind))


def _light(script: str) -> Launcher:
    return Launcher("elrun", (sys.executable, str(Path(__file__).with_name(script))))


C10D = _over("elrun", "c10d")
ETCD = _over("elrun", "etcd-v3")
MEMORY = _over("memory", "memory")
TODAY = _over("torchrun", "today")
CROWD = _light("crowd.py")
ETCD_CROWD = _light("crowd_etcd.py")


def meet(key: str, nodes: int, launcher: Launcher, _plan: Plan) -> Figures:
    with workplace() as place:
        command = (*launcher.program, str(nodes), "--limit", str(LIMIT_S))
        job = place.spawn([*_known_hosts(place.folder), *command], {})
        job.finish(LIMIT_S + _SETTING_UP_S)
        cost = json.loads(job.process.stdout.read())
    if "failed" in cost:
        raise FailedError(cost["failed"])
    return {
        key: cost["seconds"],
        f"{key} operations": cost["operations"] / nodes,
        f"{key} bytes": cost["bytes"] / nodes,
    }


def crowd(clients: int, launcher: Launcher, _plan: Plan) -> Figures:
    """Let light clients meet at one real server, each of the two in a process of its own."""
    cost = _cost_of(launcher, clients)
    return {
        f"P6-light {clients}": cost["round_s"],
        f"P6-light {clients} CPU": cost["host_cpu_round_s"],
        f"P6-light {clients} MB": cost["host_megabytes"],
    }


def crowd_over_etcd(key: str, clients: int, launcher: Launcher, _plan: Plan) -> Figures:
    """Let light clients meet at a real etcd."""
    cost = _cost_of(launcher, clients)
    return {key: cost["seconds"], f"{key} CPU": cost["CPU of etcd"]}


def _cost_of(launcher: Launcher, clients: int) -> dict[str, float]:
    with workplace() as place:
        job = place.spawn([*launcher.program, str(clients)], {})
        bill = job.finish(LIMIT_S + _SETTING_UP_S)
        lines = job.process.stdout.read()
    if not lines:
        raise FailedError(f"no figures after {bill.taken_s:.0f} s")
    return json.loads(lines)


def _known_hosts(folder: Path) -> tuple[str, ...]:
    """Return how a command begins that finds this machine's names in /etc/hosts.

    TCPStore looks each peer up by its address. Where a name server is slow to say that it knows no
    ``::ffff:127.0.0.1``, a thousand connections take minutes.
    """
    if not _can_unshare():
        return ()
    hosts = folder / "hosts"
    hosts.write_text(
        f"{Path('/etc/hosts').read_text()}\n::1 localhost\n::ffff:127.0.0.1 localhost\n"
    )
    script = 'mount --bind "$0" /etc/hosts && exec "$@"'
    return (*_PRIVATE, "sh", "-c", script, str(hosts))


_PRIVATE = ("unshare", "--map-root-user", "--mount")


@cache
def _can_unshare() -> bool:
    attempt = (*_PRIVATE, "mount", "--bind", "/etc/hosts", "/etc/hosts")
    return bool(shutil.which("unshare")) and (
        subprocess.run(attempt, capture_output=True, check=False).returncode == 0
    )
