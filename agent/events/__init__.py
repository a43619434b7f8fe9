"""What happened to a job and its workers, as records: torchrun's ``events`` by the same names."""

from ...rendezvous.lazy import names_elsewhere

_OF_THE_MODEL = (
    "Event EventMetadataValue EventSource NodeState RdzvEvent close "
    "construct_and_record_rdzv_event record record_rdzv_event"
)
_HOME_OF = {
    "get_logging_handler": ".handlers",
    **dict.fromkeys(_OF_THE_MODEL.split(), ".model"),
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  one list of names, not two

__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
