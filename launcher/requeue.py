"""Has SLURM queue a job again that was preempted (``--requeue``).

Only a job that SLURM lets run is queued again, and one whose time limit has passed. Where SLURM
ends it for another reason, that was somebody's wish (``scancel``), or SLURM has queued it already.
"""

from __future__ import annotations

import re
import signal
import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..agent.system.signals import Preempted

ANSWER_S = 30.0
"""How long scontrol may take."""

_JOB, _NODE = "SLURM_JOB_ID", "SLURM_NODEID"
_PROGRAM = "scontrol"
_ENDING = ("COMPLETING", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "FAILED", "COMPLETED")


def requeue(preempted: Preempted, variables: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Have SLURM queue this job again, if this is the node that does so for all.

    Args:
        preempted: How the job has ended here; the workers of all nodes have.
        variables: The environment.
        say: Tells people.
    """
    job = variables.get(_JOB)
    is_first = preempted.group_rank == 0
    if preempted.group_rank is None:  # in no round, as while nodes meet
        is_first = variables.get(_NODE, "0") == "0"
    if job is None or not is_first:
        return
    # SLURM then ends all processes of the job by SIGTERM, scontrol and this one, too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGCONT))
    try:
        say(_ask_slurm(job, variables))
    except OSError as error:
        why = f"there is no {_PROGRAM} on PATH" if isinstance(error, FileNotFoundError) else error
        say(f"job {job} is not queued again: {why}; do it by hand: scontrol requeue {job}")
    except subprocess.TimeoutExpired:
        say(
            f"it is not known whether job {job} is queued again: {_PROGRAM} did not answer within "
            f"{ANSWER_S:g} s"
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ask_slurm(job: str, variables: Mapping[str, str]) -> str:
    shown = _call(variables, "--oneliner", "show", "job", job)
    known = dict(re.findall(r"(\w+)=(\S*)", shown.stdout)) if shown.returncode == 0 else {}
    why_not = reason_against(known, variables.get("SLURM_RESTART_COUNT", ""))
    if why_not:
        return f"job {job} {why_not}"
    done = _call(variables, "requeue", job)
    if done.returncode == 0:
        return f"job {job} is queued again"
    words = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    hint = "; submit it with sbatch --requeue" if known.get("Requeue") == "0" else ""
    return f"job {job} is not queued again: {_PROGRAM} said: {words[-1]}{hint}"


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


def _call(variables: Mapping[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [_PROGRAM, *words],
        check=False,
        timeout=ANSWER_S,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(variables),
        text=True,
        errors="replace",
    )
