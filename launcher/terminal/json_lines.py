"""elrun's own lines as JSON, one object a line, for what collects logs (``--log-format json``)."""

from __future__ import annotations

import json
import os
import time

from ...rendezvous.logs import place_in_run


class JsonLines:
    """Turns a message into a line.

    Args:
        run_id: The job's name, as far as the options tell; "" if the agent chooses one.
    """

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._node = os.uname().nodename

    def line(self, message: str, level: str) -> str:
        """Return the line of a message, which may have lines of its own."""
        now_s = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s))
        record = {
            "time": f"{moment}.{int(now_s * 1000) % 1000:03d}Z",
            "level": level,
            "run": place_in_run.run_id or self._run_id or None,
            "node": self._node,
            "rank": place_in_run.rank,
            "message": message,
        }
        return json.dumps(record) + "\n"
