"""Timers around code that may get stuck, with the names of torchrun's ``timer``; see ``api``."""

from ...rendezvous.lazy import names_elsewhere

TYPE_CHECKING = False  # for type checkers, which can't see names that are loaded late
if TYPE_CHECKING:
    from .api import RequestQueue as RequestQueue
    from .api import TimerClient as TimerClient
    from .api import TimerRequest as TimerRequest
    from .api import TimerServer as TimerServer
    from .api import configure as configure
    from .api import expires as expires
    from .file_client import FileTimerClient as FileTimerClient
    from .file_client import FileTimerRequest as FileTimerRequest
    from .file_server import FileTimerServer as FileTimerServer
    from .queue import LocalTimerClient as LocalTimerClient
    from .queue import LocalTimerServer as LocalTimerServer
    from .queue import MultiprocessingRequestQueue as MultiprocessingRequestQueue

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

__all__ = list(_HOME_OF)  # one list of names, not two

if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
