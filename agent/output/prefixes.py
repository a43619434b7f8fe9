"""What stands before each line of a worker on the console: a template with names."""

from __future__ import annotations

import re
from string import Template

NAMES = ("role_name", "local_rank", "rank", "hostname", "restart_count")
"""What a template may name, as ``${rank}`` or ``$rank``."""

USUAL_PREFIX = "[${role_name}${local_rank}]:"
"""What stands before a line without a template."""

_BRACED = re.compile(r"\$(?:\$|\{([^}]*)\}?)")


def check_template(template: str) -> None:
    """Make sure that every ``${name}`` is known; ``$name`` stays as it is, as under torchrun.

    Raises:
        ValueError: One is not, or the template breaks a line.
    """
    if "\n" in template or "\r" in template:
        raise ValueError("it stands before each line, and is none; leave the line breaks out")
    for found in _BRACED.finditer(template):
        name = found.group(1)
        if name is not None and found.group() != f"${{{name}}}":
            raise ValueError(f"{found.group()} has no closing brace")
        if name is not None and name not in NAMES:
            *most, last = (f"${{{each}}}" for each in NAMES)
            raise ValueError(
                f"{found.group()} is not known; give {', '.join(most)} or {last}, "
                f"or ${found.group()} for the text itself"
            )


def unknown_names(template: str) -> list[str]:
    """Return each ``$name`` that is not known, and stays in the prefix as it is."""
    names = (found.group("named") for found in Template.pattern.finditer(template))
    return [f"${name}" for name in dict.fromkeys(names) if name and name not in NAMES]


def prefix_of(template: str, **values: object) -> str:
    """Return what stands before the lines of one worker.

    Args:
        **values: What stands for each of ``NAMES``.
    """
    return Template(template).safe_substitute(values)
