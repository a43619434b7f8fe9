"""From the text of an option to its value; where it fails, the message says what would be right."""

from __future__ import annotations

from ...rendezvous.api.parameters import quoted
from ...rendezvous.named_tuple import NamedTuple
from .arguments import listed, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WORKER_KINDS = ("auto", "gpu", "cpu", "xpu")
MAX_PORT = 65535

_OPTION_OF = {
    "backend": "--rdzv-backend",
    "endpoint": "--rdzv-endpoint",
    "run_id": "--rdzv-id",
    "min_nodes": "--nnodes",
    "max_nodes": "--nnodes",
    "local_addr": "--local-addr",
}

_MAX_DIGITS = 9


class NodeRange(NamedTuple):
    """How many nodes a job takes.

    Args:
        minimum: Fewest nodes, at least 1.
        maximum: Most nodes, at least the minimum.
    """

    minimum: int
    maximum: int

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return str(self.minimum)
        return f"{self.minimum}:{self.maximum}"


def parse_nodes(text: str) -> NodeRange:
    """Return the range of ``N`` or ``MIN:MAX``.

    Raises:
        ValueError: It is neither, below 1, or upside down.
    """
    least, _, most = text.partition(":")
    bounds = [whole_number(least), whole_number(most if ":" in text else least)]
    if None in bounds:
        raise ValueError("give a number of nodes such as 2, or MIN:MAX such as 1:4")
    minimum, maximum = bounds[0] or 0, bounds[-1] or 0
    if minimum < 1 or maximum < 1:
        raise ValueError("a job takes at least 1 node; give a number such as 2, or MIN:MAX")
    if minimum > maximum:
        raise ValueError(f"the smaller number comes first, as in {maximum}:{minimum}")
    return NodeRange(minimum, maximum)


def parse_workers(text: str) -> int | str:
    """Return a number of workers, at least 1, or one of ``WORKER_KINDS``.

    Raises:
        ValueError: It is neither.
    """
    if text in WORKER_KINDS:
        return text
    number = whole_number(text)
    if number is None or number < 1:
        raise ValueError(
            f"give a number of workers, 1 or more, or {listed(WORKER_KINDS)}"
            f"{nearest(text, WORKER_KINDS)}"
        )
    return number


def parse_count(text: str) -> int:
    """Return a whole number from 0.

    Raises:
        ValueError: It is none, or has too many digits.
    """
    number = whole_number(text)
    if number is None or number < 0:
        if text.strip().isdecimal():
            raise ValueError(f"give a whole number of at most {_MAX_DIGITS} digits")
        raise ValueError("give a whole number, 0 or more")
    return number


def seconds(*, zero: bool) -> Callable[[str], float]:
    """Return a parser of durations in seconds.

    Args:
        zero: Whether it takes 0. It takes ``inf`` in any case: where the kernel is told of a time,
            that is cut to what the kernel knows.
    """

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError:
            number = -1.0
        if not number >= 0 or (number == 0 and not zero):
            raise ValueError(f"give a number of seconds, {'0 or more' if zero else 'more than 0'}")
        return int(number) if number.is_integer() else number

    return parse


class OneOf(tuple[str, ...]):
    """Some words, and a parser that takes one of them."""

    __slots__ = ()

    def __call__(self, text: str) -> str:
        """Return the word.

        Raises:
            ValueError: It is none of them.
        """
        if text not in self:
            raise ValueError(f"give {listed(self)}{nearest(text, self)}")
        return text


def parse_name(text: str) -> str:
    """Return a name: any printable text but none at all.

    Raises:
        ValueError: It is empty, or holds control characters.
    """
    if not text.strip() or not text.isprintable():
        raise ValueError("give a name of printable characters")
    return text


def parse_prefix(text: str) -> str:
    """Return the template of what stands before a line; it may be coloured.

    Raises:
        ValueError: It names what is not known, or breaks a line.
    """
    if text:
        from ...agent.output.prefixes import check_template  # few jobs have one

        check_template(text)
    return text


def parse_pattern(text: str) -> str:
    """Return a regular expression.

    Raises:
        ValueError: It is none, or might take for ever to compare.
    """
    if text:
        from .patterns import check_pattern  # few jobs have one

        check_pattern(text)
    return text


def parse_role(text: str) -> str:
    """Return the name of a role, which may be empty.

    Raises:
        ValueError: It holds control characters.
    """
    if not text.isprintable():
        raise ValueError("give a name of printable characters")
    return text


def parse_path(text: str) -> str:
    """Return a path.

    Raises:
        ValueError: It is empty.
    """
    if not text.strip():
        raise ValueError("give a path")
    return text


def parse_report(text: str) -> str:
    """Return the path of a report.

    Raises:
        ValueError: It is empty or a folder's, or names what is not known.
    """
    if text:
        from .report_path import check_report_path  # few jobs have one

        check_report_path(text)
    return text


def parse_port(text: str) -> int:
    """Return a TCP port; 0 stands for a free one.

    Raises:
        ValueError: It is none.
    """
    port = whole_number(text)
    if port is None or not 0 <= port <= MAX_PORT:
        raise ValueError(f"give a port from 1 to {MAX_PORT}")
    return port


def parse_metrics_port(text: str) -> str:
    """Return where to listen.

    Raises:
        ValueError: It is neither a port nor an address and a port.
    """
    if text:
        from .listen_address import parse_listen_address  # few jobs

        parse_listen_address(text)
    return text


def parse_host(text: str) -> str:
    """Return a host name or an address; one of IPv6 may stand in brackets, which go.

    Raises:
        ValueError: It can't be one.
    """
    host = text.strip()
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not bare or not bare.isprintable() or any(each in bare for each in " /,[]@"):
        raise ValueError("give a host name or an address, such as node1 or 10.0.0.1")
    if ":" in bare and not _is_ipv6(bare):
        raise ValueError("give a host name or an address, without a port")
    if bare.isdecimal():  # a port by itself would be looked up as an address, and found
        raise ValueError("the host is missing; give its name or address, such as node1 or 10.0.0.1")
    if bare.replace(".", "").isdecimal() and not _is_ipv4(bare):
        raise ValueError("it is no IPv4 address; give one such as 10.0.0.1, or a host name")
    return bare


def parse_settings(text: str) -> dict[str, str]:
    """Return the settings of ``key=value,…``, in quotes or not.

    Raises:
        ValueError: A part has no key or no value, or a key comes twice.
    """
    settings: dict[str, str] = {}
    text = text.strip()
    if text[:1] in ("'", '"') and text[0] == text[-1] and len(text) > 1:
        text = text[1:-1]
    for part in text.split(",") if text.strip() else ():
        key, is_set, value = (each.strip() for each in part.partition("="))
        if key and is_set and not value:
            raise ValueError(f"{quoted(key)} has no value; give {key}=VALUE, or leave it out")
        if not key or not value:
            raise ValueError(f"{quoted(part)} is no setting; give key=value,key=value,…")
        if key in _OPTION_OF:
            raise ValueError(f"{key} has an option of its own; give {_OPTION_OF[key]}")
        if key in settings:
            raise ValueError(f"{key} comes twice; give each setting once")
        settings[key] = value
    return settings


def parse_gpus(text: str) -> str:
    """Return which GPUs are meant, as it was given.

    Raises:
        ValueError: It is no list of GPUs.
    """
    if text:
        from ...agent.hardware.gpu_choice import check_choice  # few jobs

        check_choice(text)
    return text


def parse_words(text: str) -> list[str]:
    """Return words that commas separate; a word's own comma is written twice.

    Raises:
        ValueError: A word is empty.
    """
    if not text:
        return []
    words = [each.replace("\0", ",") for each in text.replace(",,", "\0").split(",")]
    if "" in words:
        raise ValueError("an empty word is in every line; give WORD,WORD,… (,, for a comma)")
    return words


def parse_modules(text: str) -> tuple[str, ...]:
    """Return names of Python modules that commas separate.

    Raises:
        ValueError: One can't be a module's name.
    """
    names = tuple(name.strip() for name in text.split(",")) if text.strip() else ()
    for name in names:
        if not is_module_name(name):
            raise ValueError(f"{quoted(name)} is no module's name; give MODULE,MODULE,…")
    return names


def is_module_name(text: str) -> bool:
    """Return whether a module can have that name, be it there or not."""
    return all(part.isidentifier() for part in text.split("."))


def parse_local_ranks(text: str) -> frozenset[int] | None:
    """Return local ranks that commas separate, or None for all.

    Raises:
        ValueError: One is no whole number from 0.
    """
    if not text.strip():
        return None
    ranks = [whole_number(part) for part in text.split(",")]
    if any(rank is None or rank < 0 for rank in ranks):
        raise ValueError("give local ranks from 0 on, as in 0,1,2")
    return frozenset(rank for rank in ranks if rank is not None)


def parse_streams(text: str) -> Any:
    """Return which of the workers' streams are meant: a ``Std``, or one for each local rank.

    Raises:
        ValueError: It is neither ``N`` nor ``RANK:N,…``.
    """
    from ...agent.output.specs import Std  # `--help` needs none

    try:
        return Std.from_str(text)
    except ValueError as error:
        raise ValueError(str(error).removeprefix(f"{text!r}: ")) from error


def _is_ipv4(text: str) -> bool:
    """Return whether the system takes a text as an address; it takes short forms such as 127.1."""
    from _socket import inet_aton  # a start has it; the module socket takes 13 million instructions

    try:
        inet_aton(text)
    except (OSError, ValueError):
        return False
    return True


def _is_ipv6(text: str) -> bool:
    from ipaddress import IPv6Address  # few jobs give one

    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def whole_number(text: str) -> int | None:
    """Return the number that decimal digits write, or None; int() takes much more than digits."""
    digits = text.strip().removeprefix("-")
    if not (digits.isascii() and digits.isdecimal()) or len(digits) > _MAX_DIGITS:
        return None
    return int(text)
