"""What happened to a job and its workers, as records: torchrun's ``events`` by the same names."""

from ...rendezvous.lazy import names_elsewhere

TYPE_CHECKING = False  # for type checkers, which can't see names that are loaded late
if TYPE_CHECKING:
    from .handlers import get_logging_handler as get_logging_handler
    from .model import Event as Event
    from .model import EventMetadataValue as EventMetadataValue
    from .model import EventSource as EventSource
    from .model import NodeState as NodeState
    from .model import RdzvEvent as RdzvEvent
    from .model import close as close
    from .model import construct_and_record_rdzv_event as construct_and_record_rdzv_event
    from .model import record as record
    from .model import record_rdzv_event as record_rdzv_event

_OF_THE_MODEL = (
    "Event EventMetadataValue EventSource NodeState RdzvEvent close "
    "construct_and_record_rdzv_event record record_rdzv_event"
)
_HOME_OF = {
    "get_logging_handler": ".handlers",
    **dict.fromkeys(_OF_THE_MODEL.split(), ".model"),
}

__all__ = list(_HOME_OF)  # one list of names, not two

if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
