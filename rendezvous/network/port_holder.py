"""Which process of this host listens on a port, as far as this user may see it."""

from __future__ import annotations

from contextlib import suppress

from ..light_typing import Any

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_LISTENING = "0A"
_MAX_COMMAND_CHARS = 60


def holder_of(port: int) -> str:
    """Return what holds a port, for a sentence: ``'python serve.py' (pid 1234)``.

    Returns:
        The process, with the beginning of its command; its user where that is another one; else
        ``another program``.
    """
    return _process_at(port) or _user_at(port) or "another program"


def pid_of_holder(port: int) -> int:
    """Return the process that listens on a port; 0: that can't be seen."""
    psutil = _psutil()
    if psutil is None:
        return 0
    with suppress(OSError, psutil.Error):  # there is no /proc to read
        for connection in psutil.net_connections("tcp"):
            is_it = connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
            if is_it and connection.pid:
                return int(connection.pid)
    return 0


def _process_at(port: int) -> str:
    psutil, pid = _psutil(), pid_of_holder(port)
    if psutil is None:
        return ""
    with suppress(OSError, psutil.Error):  # it has ended meanwhile
        if pid:
            process = psutil.Process(pid)
            command = " ".join(process.cmdline()) or process.name()
            return f"{_shortened(command)!r} (pid {pid})"
    return ""


def _psutil() -> Any:
    try:
        import psutil  # 20 ms; only where a port is taken
    except Exception:  # noqa: BLE001  it may have been removed or half replaced since elrun began
        return None
    return psutil


def _shortened(command: str) -> str:
    if len(command) <= _MAX_COMMAND_CHARS:
        return command
    return f"{command[:_MAX_COMMAND_CHARS]}…"


def _user_at(port: int) -> str:
    """Return whose process it is; psutil doesn't tell. The tables' columns are proc(5)'s."""
    for table in _TABLES:
        with suppress(OSError), open(table, encoding="utf-8") as file:
            next(file)
            for line in file:
                _, local, _, state, _, _, _, uid, *_ = line.split()
                if state == _LISTENING and int(local.rpartition(":")[2], 16) == port:
                    return f"a process of user {_user_of(int(uid))}"
    return ""


def _user_of(uid: int) -> str:
    import pwd  # only where a port is taken

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
