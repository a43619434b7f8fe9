"""How a job failed, rank by rank: the value behind the failure summary, and its JSON form."""

from __future__ import annotations

import enum

from ...rendezvous.named_tuple import NamedTuple
from .failure import HANG, end_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

STACK_TITLE = "Traceback (most recent call last)"

_LATEST_S = 1 << 33  # the year 2242


class RankState(enum.Enum):
    """How one rank ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped by elrun"


class RankOutcome(NamedTuple):
    """The end of one rank.

    Args:
        node: Host name of its node.
        pid: Its process id there.
        exitcode: Exit code, -n for signal n; None where it is not known.
        state: Whether it failed, or was stopped because another did.
        after_s: Seconds from the first failure to its end; None where it is not known.
        file: Its error file or log file, or empty.
        words: What went wrong, in one line; of a rank that was stopped where it was, if the first
            failure only tells of a lost peer. May be empty.
    """

    global_rank: int
    local_rank: int
    node: str
    pid: int
    exitcode: int | None
    state: RankState
    after_s: float | None = None
    file: str = ""
    words: str = ""

    @property
    def is_consequence(self) -> bool:
        """Whether it failed because another rank, or a store, had gone."""
        if self.state is not RankState.FAILED:
            return False
        from .cause import is_consequence  # failures only

        return is_consequence(self.words)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**self._asdict(), "state": self.state.value}

    @staticmethod
    def from_json(data: dict[str, Any]) -> RankOutcome:
        """Return the outcome that another agent described.

        Raises:
            ValueError: The data is not what ``to_json`` makes.
        """
        try:
            return RankOutcome(
                int(data["global_rank"]),
                int(data["local_rank"]),
                str(data["node"]),
                int(data["pid"]),
                None if data["exitcode"] is None else int(data["exitcode"]),
                RankState(data["state"]),
                None if data["after_s"] is None else float(data["after_s"]),
                str(data["file"]),
                str(data.get("words", "")),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not the outcome of a rank: {error!r}") from error


class RootCause(NamedTuple):
    """The job's first failure.

    Args:
        global_rank: The rank that failed first.
        node: Host name of that node.
        pid: Its process id there.
        exitcode: Exit code, -n for signal n.
        timestamp: When, in seconds since the epoch by that node's clock.
        message: What went wrong, in one line.
        traceback: The Python traceback, or the end of its standard error; may be empty.
        file: Its error file or log file, or empty.
        kernel_words: What the kernel tells of its end, in one line; may be empty.
        exception: Full name of the type of the exception that ended it; may be empty.
        says_why: Whether the message says more than how the process ended.
        bases: Full names of the types that the exception's type is derived from; may be empty.
        cause: ``hang`` where elrun ended the attempt since no rank went on; else empty.
        is_consequence: Whether it failed because another rank, or a store, had gone.
    """

    global_rank: int
    local_rank: int
    node: str
    pid: int
    exitcode: int
    timestamp: int
    message: str
    traceback: str = ""
    file: str = ""
    kernel_words: str = ""
    exception: str = ""
    says_why: bool = True
    bases: tuple[str, ...] = ()
    cause: str = ""
    is_consequence: bool = False

    @property
    def words(self) -> str:
        """What says more than the exit code: the message, else the last line of the stack."""
        if self.says_why:
            return self.message
        return self.traceback.strip().rpartition("\n")[2] if STACK_TITLE in self.traceback else ""

    @property
    def end(self) -> str:
        """What happened to the rank: how its process ended, or that it hung."""
        return "hung" if self.cause == HANG else end_of(self.exitcode)

    @property
    def reason(self) -> str:
        """Which rank failed and how, in one line, for the log and for the other nodes."""
        rank = f"rank {self.global_rank} on {self.node}"
        end = f"{rank} {self.end}"
        if self.words:
            has_end = self.exitcode < 0 or self.cause == HANG
            return f"{end if has_end else f'{rank} failed'}: {self.words}"
        return f"{end}: {self.kernel_words}" if self.kernel_words else end

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {**self._asdict(), "bases": list(self.bases)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> RootCause:
        """Return the root cause that another agent described.

        Raises:
            ValueError: The data is not what ``to_json`` makes.
        """
        try:
            return RootCause(
                int(data["global_rank"]),
                int(data["local_rank"]),
                str(data["node"]),
                int(data["pid"]),
                int(data["exitcode"]),
                _moment(data["timestamp"]),
                str(data["message"]),
                str(data["traceback"]),
                str(data["file"]),
                str(data.get("kernel_words", "")),
                str(data.get("exception", "")),
                bool(data.get("says_why", True)),
                tuple(map(str, data.get("bases", ()))),
                HANG if data.get("cause") == HANG else "",
                bool(data.get("is_consequence", False)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a root cause: {error!r}") from error


def _moment(said: Any) -> int:
    seconds = int(said)
    if not 0 <= seconds < _LATEST_S:
        raise ValueError(f"{seconds} s after 1970 is no time of a failure")
    return seconds


class JobReport(NamedTuple):
    """Why a job failed and how each rank ended.

    Args:
        name: What was run.
        root: The first failure.
        ranks: The ends of all ranks that are known, by global rank.
        restarts: Restarts spent before.
        max_restarts: Restarts allowed.
        missing_nodes: Group ranks whose outcome did not come in time.
        is_of_one_node: Whether it has the ranks of one node only, and group rank 0 has all.
    """

    name: str
    root: RootCause
    ranks: tuple[RankOutcome, ...]
    restarts: int = 0
    max_restarts: int = 0
    missing_nodes: tuple[int, ...] = ()
    is_of_one_node: bool = False
