"""``--event-log-handler``: what takes the events of a job."""

from __future__ import annotations

import os

from ...agent.events.handlers import is_known, known_handlers
from ..commandline.arguments import Given, Refusal, listed, nearest


def event_handler_of(given: Given) -> str:
    """Return the handler that the user named; a file without a path goes to the log files.

    Raises:
        Refusal: There is no such handler, or its file can't be kept.
    """
    wanted: str = given["event_log_handler"]
    if not is_known(wanted):
        known = [*known_handlers(), "file:PATH"]
        raise Refusal(
            f"{given.said('event_log_handler')}: there is no such handler; "
            f"give {listed(known)}{nearest(wanted, known)}"
        )
    if wanted == "file" and given["log_dir"] not in (None, os.devnull):
        return f"file:{given['log_dir']}/"
    if wanted.startswith("file:"):
        from .named_places import check_event_file  # not every handler

        check_event_file(given, wanted.removeprefix("file:"))
    return wanted
