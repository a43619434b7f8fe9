"""Has SLURM queue a job again that was preempted (``--requeue``).

Only a job that SLURM lets run is queued again, and one whose time limit has passed. Where SLURM
ends it for another reason, that was somebody's wish (``scancel``), or SLURM has queued it already.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time

from ..rendezvous.logs import Log
from .commandline.converters import whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import BinaryIO

    from ..agent.system.signals import Preempted

log = Log(__name__)

ANSWER_S, ANSWER_AT_END_S = 30.0, 5.0
"""How long scontrol may take for all its answers, and from SIGTERM on for one of them."""

_JOB, _NODE = "SLURM_JOB_ID", "SLURM_NODEID"
_PROGRAM = "scontrol"
_MOST_BYTES = 1 << 20
_OF_AN_END = (signal.SIGTERM, signal.SIGCONT)

_MEETING_S = 1.0
_FIRST_S = 2.0
_A_NODE_S = 0.25
_ALL_NODES_S = 2.0
_LONGEST_S = 1e9
_ENDING = ("COMPLETING", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "FAILED", "COMPLETED")


def turn_s(preempted: Preempted, node_id: str, now: float) -> float | None:
    """Return in how many seconds this node has the job queued again; None: another node does.

    The first node does so for all. It may have gone, so the others take turns after it: the first
    of them that lives has the job queued again, and SLURM then ends the job of the rest.

    Args:
        preempted: How the job has ended here.
        node_id: SLURM's number of this node, from 0; "" where it is not known.
        now: By ``time.monotonic()``.
    """
    if preempted.has_all_left and preempted.group_rank is None:
        return None
    is_in_round = preempted.group_rank is not None
    place = preempted.group_rank if is_in_round else whole_number(node_id)
    place = max(0, place or 0)
    if place == 0:
        return 0.0
    still_leaving_s = max(0.0, preempted.ends_at - now) if is_in_round else _MEETING_S
    if preempted.has_all_left:  # the first node has just said so
        still_leaving_s = _FIRST_S
    return min(still_leaving_s, _LONGEST_S) + min(place * _A_NODE_S, _ALL_NODES_S)


def requeue(preempted: Preempted, variables: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Have SLURM queue this job again, if this is the node that does so for all.

    Args:
        preempted: How the job has ended here.
        say: Tells people.
    """
    job = variables.get(_JOB)
    wait_s = turn_s(preempted, variables.get(_NODE, ""), time.monotonic())
    if job is None or wait_s is None:
        return
    # Where the first node is known to have lived, it has most likely said what has failed.
    complain = _note if wait_s and preempted.has_all_left else say
    # SLURM then ends all processes of the job by SIGTERM, scontrol and this one, too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_AN_END)
    try:
        if wait_s and signal.sigtimedwait((signal.SIGTERM,), wait_s):
            return  # another node has had its turn
        _ask_slurm(job, variables, say, complain, is_first=not wait_s)
    except OSError as error:
        why = f"there is no {_PROGRAM} on PATH" if isinstance(error, FileNotFoundError) else error
        complain(f"job {job} is not queued again: {why}; do it by hand: scontrol requeue {job}")
    except subprocess.TimeoutExpired as error:
        complain(
            f"it is not known whether job {job} is queued again: {_PROGRAM} did not answer within "
            f"{error.timeout:.2g} s"
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ask_slurm(
    job: str,
    variables: Mapping[str, str],
    say: Callable[[str], None],
    complain: Callable[[str], None],
    *,
    is_first: bool,
) -> None:
    ends_at = time.monotonic() + ANSWER_S
    known = _shown(job, variables, ends_at)
    why_not = reason_against(known, variables.get("SLURM_RESTART_COUNT", ""))
    if why_not:
        if is_first:
            say(f"job {job} {why_not}")
        return
    done = _call(variables, ends_at, "requeue", job)
    if done.returncode == 0:
        say(f"job {job} is queued again")
        return
    if not is_first and reason_against(_shown(job, variables, ends_at), ""):
        return  # another node has done so at the same time
    words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    hint = "; submit it with sbatch --requeue" if known.get("Requeue") == "0" else ""
    complain(f"job {job} is not queued again: {_PROGRAM} said: {words[-1]}{hint}")


def _shown(job: str, variables: Mapping[str, str], ends_at: float) -> dict[str, str]:
    shown = _call(variables, ends_at, "--oneliner", "show", "job", job)
    return dict(re.findall(r"(\w+)=(\S*)", shown.stdout)) if shown.returncode == 0 else {}


def _note(sentence: str) -> None:
    log.info("%s", sentence)


def reason_against(known: Mapping[str, str], restart_count: str) -> str:
    """Return why a job is not to be queued again; "": it is.

    Args:
        known: What SLURM shows of it, by name; nothing where SLURM did not answer.
        restart_count: How often it had been started again when this start began, as text.
    """
    restarts, own = known.get("Restarts", ""), restart_count or "0"
    if restarts.isdecimal() and own.isdecimal() and int(restarts) > int(own):
        return "is queued again by SLURM itself"
    if known.get("JobState") in _ENDING and known.get("Reason") != "TimeLimit":
        return "is not queued again, since SLURM ends it, as after scancel"
    return ""


def _call(
    variables: Mapping[str, str], ends_at: float, *words: str
) -> subprocess.CompletedProcess[str]:
    """Run scontrol; what it starts and leaves behind, as a wrapper may, is not waited for."""
    left_s = max(0.0, ends_at - time.monotonic())
    if signal.SIGTERM in signal.sigpending():  # this process is to end
        left_s = min(left_s, ANSWER_AT_END_S)
    with _nameless_file() as output, _nameless_file() as errors:
        done = subprocess.run(
            [_PROGRAM, *words],
            check=False,
            timeout=left_s,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=dict(variables),
        )
        texts = [_text_of(each) for each in (output, errors)]
    return subprocess.CompletedProcess(done.args, done.returncode, *texts)


def _nameless_file() -> BinaryIO:
    return open(os.memfd_create(_PROGRAM), "w+b")


def _text_of(file: BinaryIO) -> str:
    file.seek(0)
    return file.read(_MOST_BYTES).decode(errors="replace")
