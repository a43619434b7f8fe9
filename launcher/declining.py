"""Tells the other nodes of a job why this one can't take part, where elrun refuses its command."""

from __future__ import annotations

from ..rendezvous.api.handler import RoundHandler
from ..rendezvous.api.parameters import RendezvousParameters
from ..rendezvous.backends.registry import get_rendezvous_handler
from ..rendezvous.errors import RendezvousError, UsageError
from ..rendezvous.logs import Log
from .commandline.arguments import Given
from .commandline.environment import Environment
from .meeting import leave, tell_refusal
from .plan.meeting_point import choose_meeting, is_own
from .plan.plan import with_scheduler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

log = Log(__name__)


def decline(
    given: Given,
    environment: Environment,
    reason: str,
    say: Callable[[str], object],
) -> None:
    """Tell the other nodes why this one can't take part, if the options say where they meet.

    Args:
        given: The options.
        environment: For what the scheduler says.
        reason: Why, as a sentence.
        say: Shows a line to the user.
    """
    handler = _handler_by(given, environment)
    if handler is not None:
        tell_refusal(handler, reason, say)
        leave(handler)


def _handler_by(given: Given, environment: Environment) -> RoundHandler | None:
    try:
        given, _ = with_scheduler(given, environment)
        if given["nnodes"].maximum == 1 or not is_own(given["rdzv_backend"]):
            return None
        meeting = choose_meeting(given)
        handler = get_rendezvous_handler(
            RendezvousParameters(
                backend=meeting.backend,
                endpoint=meeting.endpoint,
                run_id=meeting.run_id,
                min_nodes=given["nnodes"].minimum,
                max_nodes=given["nnodes"].maximum,
                local_addr=given["local_addr"],
                **{**environment.secret_setting(), **meeting.settings},
            )
        )
    except (UsageError, RendezvousError, ValueError) as error:  # nor could the job have met
        log.info("the other nodes can't be told: %s", error)
        return None
    return handler if isinstance(handler, RoundHandler) else None
