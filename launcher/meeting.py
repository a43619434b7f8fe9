"""The rendezvous of a job: how a launch config makes it, how a node declines it, and leaves it."""

from __future__ import annotations

import os

from ..rendezvous.api.handler import RendezvousHandler, RoundHandler
from ..rendezvous.api.parameters import RendezvousParameters
from ..rendezvous.backends.registry import get_rendezvous_handler
from ..rendezvous.logs import Log
from ..rendezvous.network.addresses import Endpoint
from ..rendezvous.threads import Call, NoThreadError
from .commandline.environment import Environment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .plan.config import LaunchConfig

log = Log(__name__)

_LEAVE_TIMEOUT_S = 10.0
_SILENT_S = 1.0


def run_id_of(config: LaunchConfig) -> str:
    """Return the name of a job, a new one if it has none.

    Args:
        config: How to launch.

    Raises:
        ValueError: It has none, and other nodes would have to know it.
    """
    if not config.run_id and config.min_nodes > 1:
        raise ValueError("run_id: the nodes of a job find each other by it; give all the same one")
    if not config.run_id and config.max_nodes > 1:
        log.warning(
            "no run_id was given, and the nodes of a job find each other by it: no other node can "
            "join this one"
        )
    return config.run_id or new_run_id()


def meet(config: LaunchConfig, run_id: str) -> tuple[RendezvousHandler, str | None, int | None]:
    """Return the handler of the job's rendezvous, which has joined no round yet.

    Args:
        config: How to launch.

    Returns:
        The handler, and the address and the port at which the workers meet, where the user wants
        fixed ones: only the backend ``static`` takes them.

    Raises:
        ValueError: The backend refuses a setting.
    """
    parameters = RendezvousParameters(
        backend=config.rdzv_backend,
        endpoint=config.rdzv_endpoint,
        run_id=run_id,
        min_nodes=config.min_nodes,
        max_nodes=config.max_nodes,
        local_addr=config.local_addr,
        **{**Environment.current().secret_setting(), **config.rdzv_configs},
    )
    handler = get_rendezvous_handler(parameters)
    if parameters.backend != "static" or not parameters.endpoint:
        return handler, None, None
    host, port = parameters.endpoints(Endpoint("127.0.0.1", 0))[0]
    return handler, host, port or None


def new_run_id() -> str:
    """Return a name for a job that was given none."""
    return os.urandom(8).hex()


def tell_refusal(handler: RendezvousHandler, reason: str, say: Callable[[str], object]) -> None:
    """Tell the other nodes why this one can't take part, unless it has been in a round.

    Args:
        handler: The rendezvous of the job; the caller shuts it down afterwards.
        reason: Why, as a sentence.
        say: Shows a line to the user, where the other nodes are slow to take the message.
    """
    if not isinstance(handler, RoundHandler) or handler.answers_at_once:
        return
    try:
        call = Call(lambda: handler.decline(reason), "elrun-refusal", or_here=False)
    except NoThreadError:
        return
    if not call.wait(_SILENT_S):
        say(
            f"telling the other nodes of run {handler.get_run_id()!r} that this one can't take "
            "part (--rdzv-conf refusal_timeout=...)"
        )
        call.wait(float("inf"))


def leave(handler: RendezvousHandler) -> None:
    """Shut the handler down within 10 s: a store whose host has frozen never answers."""

    def shut_down() -> None:
        try:
            handler.shutdown()
        except Exception as error:  # noqa: BLE001  a plug-in's; the job's own outcome matters more
            log.warning("the rendezvous was not left in order: %s", error)

    if isinstance(handler, RoundHandler) and handler.answers_at_once:
        shut_down()
        return
    Call(shut_down, "elrun-leave", or_here=True).wait(_LEAVE_TIMEOUT_S)
