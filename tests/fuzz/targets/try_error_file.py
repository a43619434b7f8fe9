"""What stands in a worker's error file."""

import json

from elrun.agent.failures.error_record import shortened
from elrun.agent.failures.failure import ChildFailedError, ProcessFailure
from elrun.agent.system.left_files import LeftFile


class _Reader:
    def __init__(self, file):
        self._file = file

    def read_beginning(self, path, limit):
        return self._file


def attempt(data: bytes) -> None:
    """Whole or cut off, it makes a failure that can be shown, and handed on in few bytes."""
    for is_whole in (True, False):
        failure = ProcessFailure.read_by(_Reader(LeftFile(data, is_whole)), 0, 7, 1, "/a/file")
        assert failure.summary
        assert "\n" not in failure.summary
        failure.timestamp_isoformat()
        failure.exception, failure.bases, failure.cause, failure.traceback  # noqa: B018
        ChildFailedError("a.py", {0: failure}).format_msg()
        json.loads(shortened(failure.error_file_data, 500))
