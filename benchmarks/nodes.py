"""Cases of several agents, which meet over c10d on this machine; each runs a launcher once."""

import os
import signal
import socket
import time
from contextlib import suppress

import proc
from alone import LIMIT_S, SETTLED_S
from jobs import Job, Workplace, ended_in, workplace
from notes import Note
from rows import FailedError, Figures, Launcher, Plan


def wait_for_nobody(launcher: Launcher, plan: Plan) -> Figures:
    """Start one node where two could be; then restart it, when nobody else can be waited for."""
    with workplace() as place:
        (job,) = _start(place, launcher, 1, "--nnodes", "1:2", "--max-restarts", "1")
        (first,) = _alive(place, 1)
        figures = {"P7": first.at_s - job.started_s}
        if plan.is_quick and figures["P7"] > plan.give_up_s * 2:
            return figures
        died_s = time.monotonic()
        os.kill(first.pid, signal.SIGKILL)
        (again,) = place.notes.wait(1, lambda note: note.attempt == 1, LIMIT_S)
        return {**figures, "P7 restart": again.at_s - died_s}


def start_two(launcher: Launcher, _plan: Plan) -> Figures:
    """Time two agents of an empty script, from the first one's start to the second one's end."""
    with workplace() as place:
        jobs = _start(place, launcher, 2, "--nnodes", "2", script="empty.py")
        for job in jobs:
            job.finish(LIMIT_S)
        return {"P15": time.monotonic() - jobs[0].started_s}


def watch_two(launcher: Launcher, plan: Plan) -> Figures:
    """Watch two agents of one idle worker each; the figures are those of the dearer one."""
    with workplace() as place:
        jobs = _start(place, launcher, 2, "--nnodes", "2", script="idle.py", quiet=False)
        agents = [job.process.pid for job in jobs]
        for job in jobs:
            job.read_pids(1)
        time.sleep(SETTLED_S)
        before = [(proc.switches(agent), proc.scheduled_s(agent)) for agent in agents]
        time.sleep(plan.watch_s)
        after = [(proc.switches(agent), proc.scheduled_s(agent)) for agent in agents]
        spent = [(b[0] - a[0], b[1] - a[1]) for a, b in zip(before, after, strict=True)]
        return {
            "P5 nodes RSS": max(map(proc.resident_mb, agents)),
            "P5 nodes CPU": max(seconds for _, seconds in spent) * 1e3 / plan.watch_s,
            "P5 nodes switches": max(switches for switches, _ in spent) / plan.watch_s,
        }


def lose_a_node(launcher: Launcher, plan: Plan) -> Figures:
    """Kill an agent and its worker; the two others are enough to go on."""
    with workplace() as place:
        jobs = _start(place, launcher, 3, "--nnodes", "2:3", "--max-restarts", "3")
        lost = next(note for note in _alive(place, 3) if note.node == 2)
        died_s = time.monotonic()
        for pid in (jobs[2].process.pid, lost.pid):
            with suppress(ProcessLookupError):  # it has died with its agent
                os.kill(pid, signal.SIGKILL)
        back = place.notes.wait(2, lambda note: note.world_size == 2, plan.give_up_s)
        return {"P8": max(note.at_s for note in back) - died_s}


def tell_the_others(key: str, lived_s: float, launcher: Launcher, plan: Plan) -> Figures:
    """Let the worker of one of three nodes fail, with no restart left.

    Args:
        key: The row's.
        lived_s: How long all workers run before that.
    """
    with workplace() as place:
        _start(place, launcher, 3, "--nnodes", "3", "--max-restarts", "0")
        workers = {note.node: note.pid for note in _alive(place, 3)}
        time.sleep(lived_s)
        died_s = time.monotonic()
        os.kill(workers.pop(2), signal.SIGKILL)
        if not ended_in(plan.give_up_s, list(workers.values())):
            raise FailedError(f"not in {plan.give_up_s:g} s")
        return {key: time.monotonic() - died_s}


def _start(
    place: Workplace,
    launcher: Launcher,
    count: int,
    *options: str,
    script: str = "member.py",
    quiet: bool = True,
) -> list[Job]:
    """Start agents; the first one hosts the store, and is not the one that is lost."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = free.getsockname()
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", "{}:{}".format(*endpoint))
    job_id = ("--rdzv-id", "bench")
    return [
        place.start(
            launcher,
            script,
            *(*meeting, *job_id, "--rdzv-conf", f"is_host={int(node == 0)}", *options),
            quiet=quiet,
        )
        for node in range(count)
    ]


def _alive(place: Workplace, count: int) -> list[Note]:
    return place.notes.wait(count, lambda note: note.event == "alive", LIMIT_S)
