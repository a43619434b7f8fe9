"""What happened to a job and its workers, as records: torchrun's ``events`` by the same names."""

from ...rendezvous.lazy import names_elsewhere

_HOME_OF = dict.fromkeys(
    (
        "Event",
        "EventMetadataValue",
        "EventSource",
        "NodeState",
        "RdzvEvent",
        "close",
        "construct_and_record_rdzv_event",
        "get_logging_handler",
        "record",
        "record_rdzv_event",
    ),
    ".model",
)

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  one list of names, not two

__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
