"""Timers around code that may get stuck, with the names of torchrun's ``timer``; see ``api``."""

from ...rendezvous.lazy import names_elsewhere

_HOME_OF = {
    **dict.fromkeys(
        ("RequestQueue", "TimerClient", "TimerRequest", "TimerServer", "configure", "expires"),
        ".api",
    ),
    "FileTimerClient": ".file_client",
    "FileTimerRequest": ".file_client",
    "FileTimerServer": ".file_server",
    "LocalTimerClient": ".queue",
    "LocalTimerServer": ".queue",
    "MultiprocessingRequestQueue": ".queue",
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  one list of names, not two

__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
