"""What this node tells the others of itself that should be the same on all nodes of a job."""

from __future__ import annotations

import os
import sys

from ...rendezvous.api.handler import NodeProfile
from ...rendezvous.errors import RendezvousConnectionError
from ...rendezvous.logs import Log
from ...rendezvous.protocol.differences import ARGUMENTS, SCRIPT
from ..workers.interpreter import is_python, program_of
from ..workers.versions import interpreter_facts, version_on
from .facts import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from signal import Signals
    from typing import Any

    from ..workers.worker import WorkerSpec
    from .facts import AgentFacts

log = Log(__name__)

_READ_S = 15.0
_MOST_CHARS = 80
_SHUTDOWN_TIMEOUT_S = 30
_RUNS_A_PATH = "run_script_path"


class NodeTraits:
    """Describes the node to the rendezvous, and says once how the nodes of a round differ.

    Args:
        ask: Calls, in a thread, what may take long; so many seconds at most.
    """

    def __init__(
        self, facts: AgentFacts, ask: Callable[[Callable[[], Any], float | None], Any]
    ) -> None:
        self._facts = facts
        self._ask = ask
        self._traits: dict[str, str] | None = None
        self._notice = ""

    def describe(self) -> None:
        """Tell the rendezvous what this node brings to its next round."""
        if self._traits is None:
            try:
                self._traits = self._ask(lambda: traits_of(self._facts), _READ_S)
            except RendezvousConnectionError:
                log.info("the versions of this node's packages can't be read within %g s", _READ_S)
                self._traits = {}
        spec = self._facts.group.spec
        profile = NodeProfile(spec.local_world_size, spec.role, spec.max_restarts, self._traits)
        self._facts.rounds.describe(profile)

    def say_differences(self, notice: str) -> None:
        """Say how the nodes of a round differ, unless that was said of the round before."""
        if notice and notice != self._notice:
            log.warning("run %r: %s", self._facts.rounds.get_run_id(), notice)
        self._notice = notice


def traits_of(facts: AgentFacts) -> dict[str, str]:
    """Return the traits of a node, as short texts by the names that people give them."""
    spec = facts.group.spec
    traits = {
        **_of_packages(spec.entrypoint, facts.environ),
        **_of_program(spec, facts.environ),
        **_of_options(facts.supervision, facts.shutdown_timeout_s),
    }
    return {name: _short(value) for name, value in traits.items() if value}


def _of_packages(entrypoint: object, environ: Mapping[str, str]) -> dict[str, str]:
    traits = {"elrun": version_on(sys.path, "elrun")}
    program = entrypoint if isinstance(entrypoint, str) else sys.executable
    if _is_python(program, environ):
        facts = interpreter_facts(program, environ)
        if facts is not None:
            version, path = facts
            traits |= {"Python": version, "torch": version_on(path, "torch")}
    return traits


def _is_python(program: str, environ: Mapping[str, str]) -> bool:
    try:
        return is_python(program, environ.get("PATH", os.defpath))
    except OSError:
        return False


def _of_program(spec: WorkerSpec, environ: Mapping[str, str]) -> dict[str, str]:
    words = [str(each) for each in spec.args if isinstance(each, (str, int, float))]
    if not isinstance(spec.entrypoint, str):
        name = spec.get_entrypoint_name()
        if name == _RUNS_A_PATH and words:
            return {SCRIPT: os.path.basename(words[0]), ARGUMENTS: _digest(words[1:])}
        return {SCRIPT: name, ARGUMENTS: _digest(words)}
    command = [spec.entrypoint, *words]
    try:
        count = len(program_of(command, environ.get("PATH", os.defpath)))
    except (OSError, ValueError):  # another program than Python
        count = 1
    is_module = count > 1 and command[count - 2] == "-m"
    name = " ".join(command[count - 2 : count]) if is_module else command[count - 1]
    return {
        SCRIPT: name if is_module else os.path.basename(name),
        ARGUMENTS: _digest(command[count:]),
    }


def _digest(words: list[str]) -> str:
    """Return what tells lists of arguments apart; the arguments themselves may be secret."""
    import zlib  # jobs of several nodes

    data = "\0".join(words).encode("utf-8", "surrogatepass")
    return f"{zlib.crc32(data):08x}"


def _of_options(supervision: Supervision, shutdown_timeout_s: float) -> dict[str, str]:
    """Return those options that all nodes should have alike, where they are not the default."""
    given = {
        "--preempt-signal": _names(supervision.preempt_signals) or None,
        "--forward-signals": _names(supervision.forward_signals),
        "--signal-to": supervision.signal_to or None,
        "--grace": supervision.grace_s,
        "--hang-timeout": supervision.hang_timeout_s,
        "--hang-log-pattern": supervision.hang_log_pattern,
        "--timeout": supervision.timeout_s,
        "--shutdown-timeout": (
            None if shutdown_timeout_s == _SHUTDOWN_TIMEOUT_S else shutdown_timeout_s
        ),
    }
    return {
        name: f"{value:g}" if isinstance(value, (int, float)) else value
        for name, value in given.items()
        if value is not None
    }


def _names(signals: Sequence[Signals]) -> str:
    return ",".join(sorted(each.name for each in signals))


def _short(text: str) -> str:
    text = text if text.isprintable() else ascii(text)
    return text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS - 1]}…"
