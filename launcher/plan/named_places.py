"""Refuses files and folders that elrun could not make, while nothing has been made yet."""

from __future__ import annotations

import os

from ...rendezvous.threads import NoThreadError, call_in_time
from ..commandline.arguments import Given, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_PATIENCE_S = 10.0
_SILENT = "the file system does not answer"


def check_report(given: Given) -> None:
    """Refuse a report that can't be kept.

    Raises:
        Refusal: There is no such folder, no permission, or something else is in its place.
    """
    from ...agent.elastic.report_file import BEGINNING  # few jobs are reported
    from ...agent.output.whole_file import WholeFile
    from ..commandline.report_path import filled_in

    path = filled_in(given["report"])
    file = WholeFile(path, "the report")
    _try(given, "report", lambda: file.require_possible(BEGINNING))


def check_log_dir(given: Given) -> None:
    """Refuse a folder for log files that could not be made; none is made.

    Raises:
        Refusal: It is no folder, or nothing can be made there.
    """
    _try(given, "log_dir", lambda: _require_place(given["log_dir"]))


def check_event_file(given: Given, path: str) -> None:
    """Refuse a file of events whose folder is not there and could not be made by its last name.

    Raises:
        Refusal: The folder above it is not there either.
    """
    folder = os.path.dirname(os.path.abspath(path) + ("/" if path.endswith("/") else ""))
    above = os.path.dirname(folder)
    _try(
        given,
        "event_log_handler",
        lambda: _require_folder(folder if os.path.lexists(folder) else above),
    )


def _require_place(folder: str) -> None:
    place = os.path.abspath(folder)
    while not os.path.lexists(place):
        place = os.path.dirname(place)
    _require_folder(place)
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(13, f"nothing can be written in {place}")


def _require_folder(folder: str) -> None:
    if not os.path.isdir(folder):
        what = "is no folder" if os.path.lexists(folder) else "is not there"
        raise NotADirectoryError(20, f"{folder} {what}; give a path whose folder is there")


def _try(given: Given, option: str, look: Callable[[], None]) -> None:
    try:
        call_in_time(look, _PATIENCE_S, "elrun-places")
    except (TimeoutError, NoThreadError):
        raise Refusal(f"{given.said(option)}: {_SILENT}") from None
    except OSError as error:
        raise Refusal(f"{given.said(option)}: it can't be kept: {error.strerror}") from error
