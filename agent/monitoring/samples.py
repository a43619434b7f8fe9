"""Takes samples of an agent's workers: CPU time, memory, output, GPUs, the age of the last beat."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping

from ..system.process_usage import usage_of_process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..hardware.gpu_meter import GpuMeter

NVIDIA_DRIVER = "/dev/nvidiactl"


class Sampler:
    """What a sample is taken from.

    Args:
        environ: The agent's environment, for the GPUs that workers see.
        printed: Returns how much workers have printed that elrun carries, by global rank.
        beat_age_s: Returns for how long this node has written no beat; None: it writes none.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        printed: Callable[[], Mapping[int, int]],
        beat_age_s: Callable[[], float | None],
    ) -> None:
        self._environ = environ
        self._printed = printed
        self._beat_age_s = beat_age_s
        self._started: dict[int, tuple[int, int]] = {}
        self._gpus: GpuMeter | None = None
        self._has_looked = False

    def news(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield lines that come before the next sample: which GPUs there are, once."""
        if self._has_looked:
            return
        self._has_looked = True
        if not os.path.exists(NVIDIA_DRIVER):
            return
        from ..hardware.gpu_meter import gpu_meter  # few hosts, and ctypes

        self._gpus = gpu_meter(self._environ)
        if self._gpus is not None:
            yield "gpus", {"gpus": [gpu._asdict() for gpu in self._gpus.gpus]}

    def sample(self, pids: Mapping[int, int]) -> dict[str, Any]:
        """Return what workers use now.

        Args:
            pids: Their process ids by global rank; those that have ended are left out.
        """
        printed = self._printed()
        ranks: dict[int, list[float | None]] = {}
        for rank, pid in pids.items():
            usage = usage_of_process(pid)
            if usage is None:
                continue
            started = self._started.setdefault(rank, (pid, usage.started_ticks))
            if started[0] != pid:
                started = self._started[rank] = (pid, usage.started_ticks)
            if started[1] == usage.started_ticks:  # else the process id is another program's now
                ranks[rank] = [usage.cpu_s, usage.memory_bytes, printed.get(rank)]
        own = usage_of_process(os.getpid())
        found: dict[str, Any] = {"ranks": ranks}
        if own is not None:
            found["agent"] = [own.cpu_s, own.memory_bytes]
        age_s = self._beat_age_s()
        if age_s is not None:
            found["beat_age_s"] = round(age_s, 3)
        if self._gpus is not None:
            uses = self._gpus.read()
            found["gpus"] = [each and [each.busy_percent, each.memory_bytes] for each in uses]
        return found

    def close(self) -> None:
        """Give the GPUs' driver back."""
        gpus, self._gpus = self._gpus, None
        if gpus is not None:
            gpus.close()
