"""The file of a run's history: a line of JSON for each event and each sample, bounded in size.

Lines are appended, each by one write: if the agent is killed, only the last one can be torn, and a
reader leaves that out. A file that has grown to its limit is written anew with fewer samples: of
the older three quarters every second one goes. So the latest hours have all samples, and the days
before ever fewer. Events stay: the first ones, and the latest.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence

from ..system.whole_writes import replace_file, write_all
from .run_folders import RunFolder

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "history.jsonl"
VERSION = 1

MOST_BYTES = 2 << 20
FIRST_EVENTS, LATEST_EVENTS = 100, 1_000
"""How many events outlast the limit: the first ones, and the latest."""

MOST_READ_BYTES = 64 << 20
"""A reader takes no more of a file: one that is longer is none of elrun's."""

SAMPLE = "sample"
_OF_SAMPLE = b'{"kind":"sample",'
_LATEST_S = 1 << 33  # the year 2242
_KEPT_SHARE = 0.75
_PRIVATE = 0o600


class HistoryFile:
    """The file in the folder of a run.

    Args:
        folder: The folder; it is made with the first line.
        most_bytes: How long the file may become.
    """

    def __init__(self, folder: RunFolder, most_bytes: int = MOST_BYTES) -> None:
        self._folder = folder
        self._most_bytes = most_bytes
        self._size = 0
        self._fd = -1
        self.place = ""
        """Its path, once the folder is there."""

    def append(self, kind: str, line: Mapping[str, Any]) -> None:
        """Append a line; the file system may take long.

        Raises:
            OSError: It can't be written.
        """
        data = json.dumps({"kind": kind, **line}, separators=(",", ":")).encode() + b"\n"
        if self._fd >= 0 and self._size + len(data) > self._most_bytes:
            self._make_room(len(data))
        if self._fd < 0:
            self.place = os.path.join(self._folder.path(), NAME)
            self._fd = _opened(self.place)
        write_all(self._fd, data)
        self._size += len(data)

    def close(self) -> None:
        """Close the file."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _make_room(self, wanted: int) -> None:
        with open(self.place, "rb") as file:
            lines = file.read(self._size).splitlines(keepends=True)
        kept = b"".join(thinned(lines, int(self._most_bytes * _KEPT_SHARE) - wanted))
        replace_file(self.place, kept, _PRIVATE)
        self.close()
        self._fd, self._size = _opened(self.place), len(kept)


def thinned(lines: Sequence[bytes], most_bytes: int) -> list[bytes]:
    """Return the lines of a history that stay when it has to become shorter.

    Args:
        lines: All of them, the oldest first.
        most_bytes: What they may take.
    """
    events = [line for line in lines if not line.startswith(_OF_SAMPLE)]
    dropped = set(map(id, events[FIRST_EVENTS:-LATEST_EVENTS]))
    kept = [line for line in lines if id(line) not in dropped]
    while sum(map(len, kept)) > most_bytes:
        samples = [line for line in kept if line.startswith(_OF_SAMPLE)]
        if not samples:
            return kept
        older = samples[: len(samples) * 3 // 4] or samples
        dropped = set(map(id, older[len(older) % 2 :: 2] or older))
        kept = [line for line in kept if id(line) not in dropped]
    return kept


def read_history(path: str) -> Iterator[dict[str, Any]]:
    """Yield the lines of a history that can be read, in their order: a torn one is left out.

    Raises:
        OSError: It can't be read.
    """
    with open(path, "rb") as file:
        data = file.read(MOST_READ_BYTES)
    for line in data.split(b"\n"):
        try:
            found = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict) and _is_line(found):
            yield found


def _is_line(found: dict[str, Any]) -> bool:
    at, event = found.get("at"), found.get("event", "")
    is_time = isinstance(at, (int, float)) and not isinstance(at, bool) and 0 <= at < _LATEST_S
    return is_time and isinstance(found.get("kind"), str) and isinstance(event, str)


def _opened(path: str) -> int:
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(path, flags, _PRIVATE)
