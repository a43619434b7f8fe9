"""Says where the output of each worker goes: which files, and whether the console.

The layout below a log directory is the one that users of torchrun know::

    <log dir>/<run id>_<unique>/attempt_<restarts>/<local rank>/{stdout.log,stderr.log,error.json}
                                                  /filtered_{stdout,stderr}.log
"""

from __future__ import annotations

import abc
import os
from enum import IntFlag

from ...rendezvous.api.parameters import Kind, require, truth_of
from ...rendezvous.logs import Log
from ...rendezvous.named_tuple import NamedTuple
from ..failures.failure import ERROR_FILE_VARIABLE
from ..plain_value import PlainValue
from .directories import (
    make_attempt_dir,
    make_run_dir,
    make_temporary_dir,
    make_usable,
    remove_needless,
    run_name,
    unusable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = Log(__name__)

_PATH = Kind(("isprintable", "__fspath__"), "a path")
_STREAMS = Kind(("get", "__index__"), "a Std, or a dict of a Std by local rank")
_RANKS = Kind(("isdisjoint", "__class_getitem__"), "a set of local ranks")


class Std(IntFlag):
    """Standard streams of a worker."""

    NONE = 0
    OUT = 1
    ERR = 2
    ALL = OUT | ERR

    @classmethod
    def from_str(cls, vm: str) -> Std | dict[int, Std]:
        """Return what an option says: ``"3"`` for all workers, ``"0:1,10:3"`` by local rank.

        Args:
            vm: 0 (no stream), 1 (standard output), 2 (standard error) or 3 (both); or pairs of a
                local rank and one of these.

        Raises:
            ValueError: It is neither, or names a local rank twice.
        """
        if vm in _CODES:
            return cls(int(vm))
        by_rank: dict[int, Std] = {}
        for pair in vm.split(","):
            rank, _, code = pair.partition(":")
            if not (rank.isascii() and rank.isdecimal()) or rank[9:] or code not in _CODES:
                raise ValueError(
                    f"{vm!r}: give 0 (no stream), 1 (standard output), 2 (standard error) or "
                    "3 (both) for all workers, or LOCAL_RANK:CODE pairs such as 0:1,10:3"
                )
            if int(rank) in by_rank:
                raise ValueError(f"{vm!r}: local rank {int(rank)} stands twice; name it once")
            by_rank[int(rank)] = cls(int(code))
        return by_rank


_CODES = ("0", "1", "2", "3")


def to_map(val_or_map: Std | Mapping[int, Std], local_world_size: int) -> dict[int, Std]:
    """Return the streams of each local rank; of those that a mapping leaves out, none.

    Args:
        val_or_map: The same for all workers, or by local rank.
        local_world_size: Number of workers.

    Raises:
        ValueError: It is neither.
    """
    if isinstance(val_or_map, int):
        return dict.fromkeys(range(local_world_size), Std(val_or_map))
    require(_STREAMS, val_or_map=val_or_map)
    return {rank: val_or_map.get(rank, Std.NONE) for rank in range(local_world_size)}


class LogsDest(PlainValue):
    """Where the output of one attempt's workers goes, as paths by local rank.

    Plug-ins change what ``DefaultLogsSpecs.reify`` gave them.

    Args:
        stdouts: Log file of standard output; "" inherits the agent's, ``/dev/null`` drops it.
        stderrs: The same for standard error.
        tee_stdouts: Workers whose standard output goes to the console as well.
        tee_stderrs: The same for standard error.
        error_files: Where a worker leaves the exception that ended it.
        filtered_stdout: File for those lines of standard output that hold one of the words.
        filtered_stderr: The same for standard error.
    """

    def __init__(
        self,
        stdouts: dict[int, str] | None = None,
        stderrs: dict[int, str] | None = None,
        tee_stdouts: dict[int, str] | None = None,
        tee_stderrs: dict[int, str] | None = None,
        error_files: dict[int, str] | None = None,
        filtered_stdout: str = "",
        filtered_stderr: str = "",
    ) -> None:
        self.stdouts = {} if stdouts is None else stdouts
        self.stderrs = {} if stderrs is None else stderrs
        self.tee_stdouts = {} if tee_stdouts is None else tee_stdouts
        self.tee_stderrs = {} if tee_stderrs is None else tee_stderrs
        self.error_files = {} if error_files is None else error_files
        self.filtered_stdout = filtered_stdout
        self.filtered_stderr = filtered_stderr


class Route(NamedTuple):
    """Where one stream of one worker goes; nowhere, where it has no path and isn't shown.

    Args:
        path: Its log file, or "".
        on_console: Whether it is shown.
        has_prefix: Whether each line is shown with a prefix.
    """

    path: str
    on_console: bool
    has_prefix: bool


def route_of(dest: LogsDest, std: Std, local_rank: int, *, filtered: bool) -> Route | None:
    """Return where a stream goes, or None where the worker inherits the agent's.

    Args:
        dest: Where all of them go.
        std: Standard output or standard error.
        local_rank: Whose.
        filtered: Whether lines of this stream are looked for; then no worker inherits it.
    """
    is_out = std is Std.OUT
    path = (dest.stdouts if is_out else dest.stderrs).get(local_rank, "")
    if not path:
        return Route("", on_console=True, has_prefix=False) if filtered else None
    is_teed = local_rank in (dest.tee_stdouts if is_out else dest.tee_stderrs)
    return Route("" if path == os.devnull else path, on_console=is_teed, has_prefix=is_teed)


def is_any_carried(
    dest: LogsDest, nprocs: int, *, filters_stdout: bool, filters_stderr: bool
) -> bool:
    """Return whether any stream of any worker is not simply inherited.

    Args:
        dest: Where all of them go.
        filters_stdout: Whether lines of standard output are looked for.
        filters_stderr: The same for standard error.
    """
    return any(
        route_of(dest, std, local_rank, filtered=filtered) is not None
        for std, filtered in ((Std.OUT, filters_stdout), (Std.ERR, filters_stderr))
        for local_rank in range(nprocs)
    )


def keeps_stderr(environment: Mapping[str, str]) -> bool:
    """Return whether the end of standard error is wanted where it can be had."""
    return truth_of(environment.get("ELRUN_KEEP_STDERR", "")) is not False


def is_end_kept(environment: Mapping[str, str]) -> bool:
    """Return whether the end of standard error is wanted, and can be had."""
    if os.isatty(2) or not keeps_stderr(environment):
        return False
    from .outlets import can_be_carried  # not on a terminal

    return can_be_carried(2)


class LogsSpecs(abc.ABC):
    """What a user wants done with the workers' output.

    Plug-ins subclass it (entry-point group ``torchrun.logs_specs``).

    Args:
        log_dir: Directory for log files.
        redirects: Streams that go to a file instead of the console.
        tee: Streams that go to a file and to the console.
        local_ranks_filter: Workers that the console shows; None or empty shows all.
    """

    def __init__(
        self,
        log_dir: str | None = None,
        redirects: Std | dict[int, Std] = Std.NONE,
        tee: Std | dict[int, Std] = Std.NONE,
        local_ranks_filter: set[int] | None = None,
    ) -> None:
        self._root_log_dir = log_dir
        self._redirects = redirects
        self._tee = tee
        self._local_ranks_filter = local_ranks_filter

    @abc.abstractmethod
    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Make the directories of one attempt and say where everything goes.

        Args:
            envs: Each worker's environment by local rank, as far as elrun sets it. It tells the run
                id and the number of restarts, and takes ``TORCHELASTIC_ERROR_FILE``.
        """

    @property
    @abc.abstractmethod
    def root_log_dir(self) -> str:
        """The directory that everything is below."""


class DefaultLogsSpecs(LogsSpecs):
    """A directory for the run, in it one for each attempt, in it one for each worker.

    A fault of the file system after the start costs files, not the job: what can't have a file any
    more goes to the console. ``launch_agent`` uses a copy: each of its jobs has directories of its
    own, and this object stays as it was.

    Args:
        log_dir: Directory for log files, made where it is missing. None: a temporary directory that
            only this user can read, made when the first attempt begins. ``/dev/null``: no files,
            error files included; then a redirected stream goes to the console.
        redirects: Streams that go to a file instead of the console.
        tee: Streams that go to a file and, each line with a prefix, to the console.
        local_ranks_filter: Workers that the console shows; None or empty shows all.

    Raises:
        ValueError: ``log_dir`` is no directory that can be written to, which is an OSError as well,
            or a value is none of these.
    """

    def __init__(
        self,
        log_dir: str | None = None,
        redirects: Std | dict[int, Std] = Std.NONE,
        tee: Std | dict[int, Std] = Std.NONE,
        local_ranks_filter: set[int] | None = None,
    ) -> None:
        require(_PATH, or_none=True, log_dir=log_dir)
        require(_STREAMS, redirects=redirects, tee=tee)
        require(_RANKS, or_none=True, local_ranks_filter=local_ranks_filter)
        super().__init__(log_dir, redirects, tee, local_ranks_filter)
        self.hear_of_temporary_dir: Callable[[str], object] = str
        """Called with the temporary directory as soon as it is made, by whichever thread does."""
        self._temporary_dir = ""
        self._run_dir = ""
        self._is_named = False
        self._holds_the_only_copy = False
        if log_dir and log_dir != os.devnull:
            make_usable(log_dir)

    @property
    def root_log_dir(self) -> str:
        """The directory that everything is below; "" until a temporary one is made."""
        return str(self._root_log_dir or self._temporary_dir)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Make the directories of one attempt; see ``LogsSpecs.reify``.

        Raises:
            ValueError: There can be no directory for this run in the user's ``log_dir``.
        """
        env = next(iter(envs.values()), {})
        attempt_dir = ""
        if self._root_log_dir != os.devnull:
            attempt_dir = self._make_attempt_dir(
                run_name(env),
                env.get("TORCHELASTIC_RESTART_COUNT", "0"),
                len(envs),
            )
        dest = self._destinations(attempt_dir, len(envs))
        for local_rank, env in envs.items():
            env[ERROR_FILE_VARIABLE] = dest.error_files[local_rank] if attempt_dir else ""
        return dest

    def for_one_job(self) -> DefaultLogsSpecs:
        """Return specs with the same wishes, which have made no directory yet."""
        return DefaultLogsSpecs(
            self._root_log_dir, self._redirects, self._tee, self._local_ranks_filter
        )

    @property
    def temporary_dir(self) -> str:
        """The temporary directory that was made, or ""."""
        return self._temporary_dir

    def cleanup(self, *, copied: bool = False, in_use: bool = False, stopped: bool = False) -> str:
        """Remove the temporary directory as far as nobody needs it; a user's own stays.

        Args:
            copied: Whether all output was shown on the console, too, and the workers succeeded.
            in_use: Whether files are still written to, and all stay.
            stopped: Whether a signal stopped the job: what workers raise then is on the console,
                if all that they print goes there, and their records are needless.

        Returns:
            A directory in which something is left that nobody has named, or "".
        """
        if not self._temporary_dir:
            return ""
        has_no_logs = self._redirects in (Std.NONE, {}) and self._tee in (Std.NONE, {})
        copied = (copied or (stopped and has_no_logs)) and not self._holds_the_only_copy
        is_left = in_use or remove_needless(self._temporary_dir, copied=copied)
        return self._run_dir if is_left and not self._is_named else ""

    def _destinations(self, attempt_dir: str, nprocs: int) -> LogsDest:
        dest = LogsDest(
            filtered_stdout=_path(attempt_dir, "filtered_stdout.log") or os.devnull,
            filtered_stderr=_path(attempt_dir, "filtered_stderr.log") or os.devnull,
        )
        redirects = to_map(self._redirects, nprocs)
        tee = to_map(self._tee, nprocs)
        on_console = self._local_ranks_filter or set(range(nprocs))
        for local_rank in range(nprocs):
            name = str(local_rank)
            dest.error_files[local_rank] = _path(attempt_dir, name, "error.json") or os.devnull
            for std, files, shown, file_name in (
                (Std.OUT, dest.stdouts, dest.tee_stdouts, "stdout.log"),
                (Std.ERR, dest.stderrs, dest.tee_stderrs, "stderr.log"),
            ):
                is_teed = bool(std & tee[local_rank])
                path = ""
                if is_teed or std & redirects[local_rank]:
                    path = _path(attempt_dir, name, file_name)
                if not path and (is_teed or local_rank not in on_console):
                    path = os.devnull
                files[local_rank] = path
                if is_teed and local_rank in on_console:
                    shown[local_rank] = path
                elif path not in ("", os.devnull):
                    self._holds_the_only_copy = True
        return dest

    def _make_attempt_dir(self, run_id: str, restarts: str, nprocs: int) -> str:
        try:
            if not os.path.isdir(self._run_dir):  # cleaners of /tmp take directories away, too
                self._run_dir = self._make_run_dir(run_id)
            return make_attempt_dir(self._run_dir, restarts, nprocs)
        except OSError as error:
            if self._root_log_dir and not self._run_dir:
                raise unusable(self._root_log_dir, error) from error
            log.warning(
                "no directory for log and error files: %s: %s%s; the job goes on without them",
                error.filename,
                error.strerror or error,
                "" if self._root_log_dir else ", or give --log-dir",
            )
            return ""

    def _make_run_dir(self, run_id: str) -> str:
        if not self._root_log_dir:
            self._temporary_dir = make_temporary_dir()
            self.hear_of_temporary_dir(self._temporary_dir)
        path = make_run_dir(self.root_log_dir, run_id)
        # Output that goes nowhere else, to a folder that nobody has named, must be found again.
        self._is_named = not self._root_log_dir and self._redirects not in (Std.NONE, {})
        (log.warning if self._is_named else log.info)("log files are in %s", path)
        return path

    def __repr__(self) -> str:
        return (
            f"DefaultLogsSpecs(root_log_dir={self._root_log_dir}, redirects={self._redirects}, "
            f"tee={self._tee}, local_ranks_filter={self._local_ranks_filter})"
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, DefaultLogsSpecs):
            return NotImplemented
        return self._wishes() == other._wishes()

    __hash__ = None  # type: ignore[assignment]  # equal by its wishes, which aren't frozen

    def _wishes(self) -> tuple[object, ...]:
        return (self._root_log_dir, self._redirects, self._tee, self._local_ranks_filter)


def _path(directory: str, *names: str) -> str:
    return os.path.join(directory, *names) if directory else ""
