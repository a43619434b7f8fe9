"""Names causes of death, as ``--restart-on`` and ``--no-restart-on`` do, and finds them again."""

from __future__ import annotations

import builtins
import signal

from ...rendezvous.named_tuple import NamedTuple
from .failure import HANG, end_of, shell_exit_code

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    from .late_re import re

_HIGHEST_CODE = 255
_ALIKE = 0.93  # a letter that is wrong, missing or too many
_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"  # a plain text: no death needs it, but options do
_LEAVE_OUT = "without --restart-on, any cause is restarted"
_FOR_MEMORY = "give SIGKILL for memory of the host, OutOfMemoryError for that of a GPU"
# Words that people try, in capitals, and what they may mean.
_IDEAS = {
    **dict.fromkeys(("ALL", "ANY", "ALWAYS", "EVERYTHING"), f"{_LEAVE_OUT}; 1-255 is any code"),
    **dict.fromkeys(("NONE", "NEVER", "NOTHING", "NO"), "give --max-restarts 0"),
    **dict.fromkeys(("OOM", "MEMORY", "OUTOFMEMORY", "CUDAOOM"), _FOR_MEMORY),
    **dict.fromkeys(("CRASH", "CRASHED", "SEGFAULT"), "give SIGSEGV,SIGABRT,SIGBUS"),
    **dict.fromkeys(("ERROR", "FAILURE", "FAILED", "EXCEPTION"), "give Exception, or 1-255"),
    **dict.fromkeys(("TIMEOUT", "STUCK", "DEADLOCK", "HUNG"), "give hang, or TimeoutError"),
    **dict.fromkeys(("KILLED", "PREEMPTION", "PREEMPTED"), "give SIGKILL or SIGTERM"),
    **dict.fromkeys(("LOST", "NODE", "NODELOST"), "a node that is lost costs no restart"),
    **dict.fromkeys(("NCCL", "CUDA", "GPU"), "give RuntimeError, or torch.distributed.DistError"),
}
_CLASSES = ("error", "Error", "Failure", "Failed", "Timeout", "Deadlock", "Crash", "Killed")
"""Words of that kind that a program may have for its exceptions."""


class Death(NamedTuple):
    """How one attempt ended.

    Args:
        exitcode: The root cause's exit code; -n where signal n killed it.
        exception: Full name of the exception type, as ``builtins.ImportError``; may be empty.
        lived_s: Seconds from the start of its workers.
        at_s: When, in seconds of a monotonic clock.
        is_of_syntax: Whether the script itself could not be compiled.
        bases: Full names of the types that the exception's type is derived from.
        is_hang: Whether no rank went on.
    """

    exitcode: int
    exception: str
    lived_s: float
    at_s: float
    is_of_syntax: bool = False
    bases: tuple[str, ...] = ()
    is_hang: bool = False

    def is_like(self, other: Death) -> bool:
        """Return whether two attempts died of the same cause."""
        mine = (self.exitcode, self.exception, self.is_hang)
        return mine == (other.exitcode, other.exception, other.is_hang)

    def __str__(self) -> str:
        if self.is_hang:
            return "hung"
        name = self.exception.removeprefix("builtins.")
        return f"raised {name}" if name else end_of(self.exitcode)


class Causes(NamedTuple):
    """Some causes of death, as ``--restart-on`` and ``--no-restart-on`` name them.

    Args:
        codes: Exit codes, as ranges from the first to the last one; -n for signal n. A code of
            128+n also stands for signal n, as in a shell.
        exceptions: Names of exception types, with or without their modules; a type that is derived
            from one of them counts as well. ``hang`` stands for what ``--hang-timeout`` ends.
    """

    codes: tuple[tuple[int, int], ...] = ()
    exceptions: tuple[str, ...] = ()

    def include(self, death: Death) -> bool:
        """Return whether an attempt died of one of them."""
        if death.is_hang:
            return HANG in self.exceptions
        codes = {death.exitcode, shell_exit_code(death.exitcode)}
        if any(first <= code <= last for first, last in self.codes for code in codes):
            return True
        if not death.exception:
            return False
        kinds = (death.exception, *(death.bases or _bases_of(death.exception)))
        names = [name for name in self.exceptions if name != HANG]
        return any(_means(name, kind) for name in names for kind in kinds)

    @staticmethod
    def parse(text: str) -> Causes:
        """Return the causes of a list such as ``2,64-113,SIGSEGV,ImportError,hang``.

        Raises:
            ValueError: A part of it is no cause; the message says what would be one.
        """
        codes, exceptions = [], []
        for part in (each.strip() for each in text.split(",") if text.strip()):
            if not part:
                raise ValueError("there is nothing between two commas")
            if (found := _codes_of(part)) is not None:
                codes.append(found)
            elif part.upper().startswith("SIG") and part.isalnum():
                codes.append(_signal_of(part.upper()))
            elif re.fullmatch(_NAME, part):
                exceptions.append(_checked(part))
            else:
                raise ValueError(
                    f"{part!r} is neither an exit code (1 to 255), nor a range (64-113), nor a "
                    f"signal (SIGSEGV), nor the name of an exception (ImportError){_idea_of(part)}"
                )
        return Causes(tuple(codes), tuple(exceptions))


def _means(name: str, kind: str) -> bool:
    """Return whether a name that a user gave means a type of exception.

    Packages offer a type in another module than the one that defines it: most users know the
    class ``requests.exceptions.ConnectionError`` as ``requests.ConnectionError``. So of a module's
    name only the package counts.
    """
    (module, _, last), (of_kind, _, last_of_kind) = name.rpartition("."), kind.rpartition(".")
    if last != last_of_kind:
        return False
    return not module or module.partition(".")[0] == of_kind.partition(".")[0]


def _bases_of(exception: str) -> tuple[str, ...]:
    """Return the bases of one of Python's own types, where the worker has left the name alone."""
    found = _builtin(exception.removeprefix("builtins."))
    return () if found is None else tuple(f"builtins.{each.__name__}" for each in found.__mro__)


def _builtin(name: str) -> type[BaseException] | None:
    found = getattr(builtins, name, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _codes_of(part: str) -> tuple[int, int] | None:
    ends = [end.strip() for end in part.split("-")]
    if not all(end.isascii() and end.isdigit() for end in ends) or part.count("-") > 1:
        return None
    first, last = int(ends[0]), int(ends[-1])
    if not (1 <= first <= _HIGHEST_CODE and 1 <= last <= _HIGHEST_CODE):
        raise ValueError(f"exit codes of failures are 1 to {_HIGHEST_CODE}, and {part} is not")
    if first > last:
        raise ValueError(f"a range begins with its lowest code: {last}-{first}")
    return first, last


def _signal_of(name: str) -> tuple[int, int]:
    try:
        number = signal.Signals[name]
    except KeyError:
        raise ValueError(f"{name} is no signal of this system") from None
    return -number, -number


def _checked(name: str) -> str:
    """Return the name of an exception, or of ``hang``, as it is to be compared.

    Raises:
        ValueError: No exception has this name.
    """
    if name.lower() == HANG:
        return HANG
    if (known := _builtin(name.removeprefix("builtins."))) is not None:
        return known.__name__  # IOError is another name of OSError
    capitals = name.upper()
    if "." in name:
        return name
    if capitals in _IDEAS and name not in _CLASSES:
        raise ValueError(f"{name} is the name of no exception; {_IDEAS[capitals]}")
    if f"SIG{capitals}" in signal.Signals.__members__:
        raise ValueError(f"{name} is the name of no exception; give SIG{capitals} for the signal")
    if meant := _meant_by(name):
        raise ValueError(
            f"{name} is the name of no exception; did you mean {meant}? "
            "Give one of your own with its module"
        )
    if hasattr(builtins, name) or (len(name) > 1 and name.isupper()):
        raise ValueError(
            f"{name} is the name of no exception; give one such as ImportError, and one of your "
            "own with its module"
        )
    return name


def _meant_by(name: str) -> str:
    """Return the exception of Python's that a name spells in another way, or misspells; or ""."""
    from difflib import get_close_matches  # few jobs

    known = [each for each in vars(builtins) if _builtin(each) is not None]
    alike = [each for each in known if each.upper() == name.upper()]
    return next(iter(alike or get_close_matches(name, known, 1, _ALIKE)), "")


def _idea_of(part: str) -> str:
    if part == "*":
        return f"; {_LEAVE_OUT}"
    number = part.removeprefix("-")
    if number != part and number.isdecimal() and int(number) in {*signal.Signals}:
        return f"; for signal {number} give {signal.Signals(int(number)).name}"
    return ""
