"""Texts in which something is put, or that are compared: prefixes, patterns, paths, lists."""

from elrun.agent.output.prefixes import NAMES, check_template, prefix_of, unknown_names
from elrun.launcher.commandline import converters
from elrun.launcher.commandline.patterns import check_pattern
from fuzz_sentences import require_sentence

_VALUES = dict.fromkeys(NAMES, "v")
_PARSERS = [
    parser
    for name, parser in sorted(vars(converters).items())
    if name.startswith("parse_") and callable(parser)
]


def attempt(data: bytes) -> None:
    """It is refused by a ``ValueError`` with a sentence, or can be used."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    if _is_taken(check_template, text):
        unknown_names(text)
        assert "\n" not in prefix_of(text, **_VALUES)
    _is_taken(check_pattern, text)
    for parser in _PARSERS:
        _is_taken(parser, text)
    _is_taken(converters.seconds(zero=True), text)


def _is_taken(parser, text):
    try:
        parser(text)
    except ValueError as error:
        require_sentence(error)
        return False
    return True
