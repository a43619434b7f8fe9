"""What few jobs want of the workers' output: lines with a prefix, or of certain ranks."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ...agent.output.outlets import can_be_carried
from ...agent.output.prefixes import NAMES, check_template, unknown_names
from ...agent.output.specs import keeps_stderr
from ...rendezvous.api.parameters import quoted
from ..commandline.arguments import Given, Refusal
from ..commandline.environment import Environment


def prefix_template(given: Given, environment: Environment) -> tuple[str, tuple[str, ...]]:
    """Return the template of the lines' prefix, and a notice of what it does not replace.

    Args:
        environment: Has a template, or the options have one.

    Raises:
        Refusal: The variable's template can't be used.
    """
    template: str = given["log_line_prefix_template"] or ""
    said = given.said("log_line_prefix_template")
    if not template:
        template = environment.log_line_prefix_template or ""
        said = f"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE={quoted(template)}"
        try:
            check_template(template)
        except ValueError as error:
            raise Refusal(f"{said}: {error}") from error
    kept, names = unknown_names(template), ", ".join(NAMES)
    if not kept:
        return template, ()
    return template, (f"{said}: {', '.join(kept)}: not known, shown as text; known are {names}",)


def check_hang_log_pattern(given: Given, environment: Environment) -> None:
    """Refuse a pattern that elrun could compare with no line.

    Args:
        given: The options, with a pattern.
        environment: Says whether elrun keeps the end of standard error.

    Raises:
        Refusal: No hang is looked for, or elrun does not see what workers print.
    """
    said = given.said("hang_log_pattern")
    if given["hang_timeout"] is None:
        raise Refusal(f"{said}: no effect without --hang-timeout SECONDS; give both")
    is_seen = given["tee"] or given["redirects"] or given["logs_specs"] is not None
    is_kept = keeps_stderr(environment.variables) and not os.isatty(2) and can_be_carried(2)
    if not is_seen and not is_kept:
        raise Refusal(f"{said}: elrun does not see what workers print; give --tee 3 as well")


def ranks_that_are_not_there(given: Given, options: Iterable[str], workers: int) -> list[str]:
    """Name the local ranks that this node lacks; one with more workers may have them.

    Args:
        options: Names of options that name local ranks.
        workers: How many workers this node has.
    """
    notices = []
    for name in options:
        ranks = given[name]
        beyond = sorted(rank for rank in ranks if rank >= workers)
        if not beyond:
            continue
        known = f"{workers} workers" if workers > 1 else "worker, 0"
        sentence = f"{given.said(name)}: local rank {beyond[0]} is not among this node's {known}"
        if name == "local_ranks_filter" and len(beyond) == len(ranks):
            sentence += "; the console shows none of them"
        notices.append(sentence)
    return notices
