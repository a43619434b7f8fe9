"""Looks at ``--requeue`` before a job starts: what it needs, and whether it can have any effect."""

from __future__ import annotations

from ..commandline.arguments import Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ..commandline.arguments import Given

_JOB = "SLURM_JOB_ID"
_PROGRAM = "scontrol"


def check_requeue(given: Given, variables: Mapping[str, str]) -> Iterator[str]:
    """Return what the user should know before the job starts.

    Args:
        given: The options, with ``--requeue`` among them.

    Raises:
        Refusal: Nothing says by which signal the job is preempted.
    """
    if not given["preempt_signal"]:
        raise Refusal(
            f"{given.said('requeue')}: give --preempt-signal as well: it names the signal at which "
            "the job is to leave and run again, as in --preempt-signal USR1,TERM"
        )
    if _JOB not in variables:
        yield f"{given.said('requeue')}: no effect, since this is no job of SLURM's ({_JOB})"
        return
    import shutil  # few jobs

    if shutil.which(_PROGRAM, path=variables.get("PATH")) is None:
        yield (
            f"{given.said('requeue')}: there is no {_PROGRAM} on PATH, so this elrun will not be "
            "able to have the job queued again"
        )
