"""JSON without ``json``, whose import compiles seven regular expressions.

That is a twentieth of what the start of a node that meets others takes. Texts are read and written
by the functions in C that ``json`` has for it. They are not documented: where an interpreter has
none, or others, ``json`` does it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACES = " \t\n\r"
_CONSTANTS = {"-Infinity": float("-inf"), "Infinity": float("inf"), "NaN": float("nan")}


class _Settings:
    """What a scanner in C asks of a ``JSONDecoder``."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_constant = staticmethod(_CONSTANTS.__getitem__)

    def __init__(
        self, parse_int: Callable[[str], object], parse_float: Callable[[str], object]
    ) -> None:
        self.parse_int = parse_int
        self.parse_float = parse_float


def json_reader(
    parse_int: Callable[[str], object] = int, parse_float: Callable[[str], object] = float
) -> Callable[[str], object]:
    """Return what reads a text that is JSON, as ``JSONDecoder.decode`` does.

    It raises ValueError where the text is none, and RecursionError where it is too deep.

    Args:
        parse_int: Makes a number of digits.
        parse_float: Makes a number of what has a fraction or an exponent.
    """
    try:
        from _json import make_scanner

        scan = make_scanner(_Settings(parse_int, parse_float))  # type: ignore[arg-type]
    except (ImportError, AttributeError, TypeError):
        import json

        return json.JSONDecoder(parse_int=parse_int, parse_float=parse_float).decode

    def read(text: str) -> object:
        bare = text.strip(_SPACES)
        try:
            value, end = scan(bare, 0)
        except (StopIteration, SystemError):  # before 3.12 its own error needs json to be loaded
            raise ValueError("no JSON") from None
        if end != len(bare):
            raise ValueError("something stands behind the JSON")
        return value

    return read


def json_writer(separator: str = ",") -> Callable[[object], str]:
    """Return what writes values as JSON, without a space.

    It raises TypeError for what JSON has no form for, ValueError or RecursionError for what holds
    itself.

    Args:
        separator: What stands between two values.
    """
    try:
        from _json import encode_basestring_ascii, make_encoder

        chunks_of: Any = make_encoder(
            None, _refuse, encode_basestring_ascii, None, ":", separator, False, False, True
        )
    except (ImportError, TypeError):
        import json

        return json.JSONEncoder(separators=(separator, ":")).encode
    return lambda value: "".join(chunks_of(value, 0))


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
