"""Cases of starts alone: what the hook adds to a worker's, and the instructions of an agent's."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping

from elrun.agent.workers.environment import with_hook
from jobs import workplace
from rows import FailedError, Figures, Launcher, Plan

LIMIT_S = 60.0
TURNS = 20
IMPORTS = """
import elrun.__main__, gc
from elrun.own_modules import find_own_modules_first
gc.disable()  # as main does, and the next
find_own_modules_first()
import elrun.launcher.cli, elrun.launcher.launch
"""


def start_hooked(_launcher: Launcher, _plan: Plan) -> Figures:
    """Time interpreters that do nothing, with and without the hook, in turns."""
    with workplace() as place:
        hooked = with_hook(os.environ, str(place.folder / "error.json"))
        took_s: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(TURNS):
            for is_hooked, taken_s in took_s.items():
                variables = hooked if is_hooked else {}
                job = place.spawn([sys.executable, "-c", ""], variables, quiet=True)
                taken_s.append(job.finish(LIMIT_S).taken_s)
    added_s = min(took_s[True]) - min(took_s[False])  # what others do only adds
    return {"P16": added_s * 1e3}


def count_instructions(_launcher: Launcher, _plan: Plan) -> Figures:
    """Count what the agent's imports take; the same at whatever load."""
    nothing = _instructions("")
    return {"P1 instructions": _instructions(IMPORTS), "P1 nothing": nothing}


def count_hooked(_launcher: Launcher, _plan: Plan) -> Figures:
    """Count what the hook adds to the start of a worker that does nothing."""
    hooked = with_hook(os.environ, "error.json")
    return {"P16 instructions": _instructions("", hooked) - _instructions("")}


def _instructions(program: str, variables: Mapping[str, str] = os.environ) -> float:
    if shutil.which("valgrind") is None:
        raise FailedError("no valgrind here")
    with workplace() as place:
        out = f"--callgrind-out-file={place.folder / 'counts'}"
        done = subprocess.run(
            ["valgrind", "--tool=callgrind", out, sys.executable, "-c", program],
            env={**variables, "PYTHONHASHSEED": "0"},
            cwd=place.folder,
            capture_output=True,
            text=True,
            check=True,
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if found is None:
        raise FailedError("valgrind counts nothing here")
    return int(found[1]) / 1e6
