"""Says how long workers have once the job is preempted, and until when by the clock.

``--grace`` says it; else SLURM knows when the job ends, where the signal comes before its own stop
(``sbatch --signal``); else the shutdown time-out holds. The agent needs some of the time itself.
"""

from __future__ import annotations

import math
import time

from ...rendezvous.threads import Call, NoThreadError
from ..processes.stop_notice import clock_in
from ..system.signals import DEFAULT_SIGNALS, parse_signals

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from signal import Signals

_MOST_OWN_S = 5.0
_OWN_SHARE = 0.2
ANSWER_S = 2.0
"""How long SLURM's answer is waited for; a squeue that takes longer is killed."""
_FOR_EVER_S = 1e10
_END_TIME, _JOB = "SLURM_JOB_END_TIME", "SLURM_JOB_ID"


def workers_share(left_s: float) -> float:
    """Return how long workers have of the time until elrun itself is killed.

    The rest is the agent's, to end what is left and to say how the job ended: a fifth, 5 s at most.
    """
    return left_s - min(_MOST_OWN_S, _OWN_SHARE * left_s)


class Deadline:
    """How long the workers of one node have.

    Args:
        number: The signal that preempts the job.
        shutdown_timeout_s: How long workers have where nobody says more.
        grace_s: How long elrun has (``--grace``); None: nobody said so.
    """

    def __init__(
        self,
        number: Signals,
        shutdown_timeout_s: float,
        grace_s: float | None,
        environ: Mapping[str, str],
    ) -> None:
        self._grace_s = shutdown_timeout_s if grace_s is None else workers_share(grace_s)
        self._environ = environ
        self._why = "" if grace_s is None else " (--grace)"
        self.is_of_slurm = bool(environ.get(_JOB))
        is_early = number not in parse_signals(DEFAULT_SIGNALS)
        self._has_to_ask = self.is_of_slurm and is_early and grace_s is None
        self._call: Call[float | None] | None = None

    @property
    def grace_s(self) -> float:
        """Seconds that the workers have, from the signal on, as far as it is known."""
        return self._grace_s

    def ask(self) -> None:
        """Begin to ask SLURM when the job ends, if that is to be asked."""
        if self._has_to_ask:
            try:
                self._call = Call(
                    lambda: _slurm_left_s(self._environ), "elrun-squeue", or_here=False
                )
            except NoThreadError:  # the shutdown time-out holds
                return

    def wait(self, timeout_s: float) -> None:
        """Wait for SLURM's answer, for a bounded time."""
        if self._call is None or not self._call.wait(timeout_s):
            return
        try:
            left_s = self._call.result()
        except OSError:  # there is no squeue
            return
        if left_s is not None:
            self._grace_s = workers_share(left_s)
            self._why = " (the SLURM job's end)"

    def sentence(self, began_at: float) -> str:
        """Return, for people, how long the workers have.

        Args:
            began_at: When the signal came, by ``time.monotonic()``.
        """
        if self._grace_s == math.inf:
            return "the workers have all the time they need to leave"
        ends_at = clock_in(began_at + self._grace_s - time.monotonic())
        until = f", until {ends_at}" if ends_at else ""
        return f"the workers have {round(self._grace_s, 1):g} s to leave{until}{self._why}"


def left_until(end: str, now: float) -> float | None:
    """Return in how many seconds a job ends; None: it has ended, or the text says no time.

    Args:
        end: Local time as squeue writes it, or seconds since the epoch.
        now: Seconds since the epoch.
    """
    try:
        if "T" in end:
            left_s = time.mktime(time.strptime(end, "%Y-%m-%dT%H:%M:%S")) - now
        else:
            left_s = float(end) - now
    except (ValueError, OverflowError):
        return None
    return left_s if 0 < left_s < _FOR_EVER_S else None


def _slurm_left_s(environ: Mapping[str, str]) -> float | None:
    """Return in how many seconds SLURM ends the job; None: SLURM does not say.

    Raises:
        OSError: There is no squeue.
    """
    end_time = environ.get(_END_TIME)
    if end_time:
        return left_until(end_time, time.time())
    import subprocess  # few jobs

    command = ["squeue", "--noheader", "--jobs", environ[_JOB], "-O", "EndTime:32"]
    try:
        answer = subprocess.run(
            command,
            check=False,
            timeout=ANSWER_S,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**environ, "SLURM_TIME_FORMAT": "standard"},
            encoding="ascii",
            errors="replace",
        )
    except subprocess.SubprocessError:
        return None
    words = answer.stdout.split()
    return left_until(words[0], time.time()) if words else None
