"""Run elrun's command line: ``elrun`` and ``python -m elrun`` are the same."""

from __future__ import annotations

import gc
import os
import sys
import time

TYPE_CHECKING = False  # typing takes longer than all else before SIGINT is handled
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any, NoReturn

    from .launcher.plan.config import LaunchConfig


_LAST_WORDS_S = 1.0
_SWITCH_S = 0.0002


class _SignalsAroundTheAgent:
    """Handles the signals that end a program before the agent does so, and after it has ended.

    Before, there is nothing to stop: at SIGINT the process says so in one line and is gone,
    wherever it is; an exception would unwind through whatever is being imported. The others keep
    their default, which ends it even while a file system does not answer. (The kernel keeps that
    from a container's first process, which therefore handles all.) Afterwards nothing is left to
    stop, and what repeats the signal that stopped the agent must not cut the report off.
    """

    def __init__(self) -> None:
        self._previous: dict[int, Any] = {}
        self._is_looking = False

    def take(self) -> None:
        """Handle what ends this process before an agent does."""
        import select  # noqa: F401  for the handler
        import signal  # this module's import stays free

        others = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT) if os.getpid() == 1 else ()
        for number in (signal.SIGINT, *others):
            current = signal.getsignal(number)
            if current in (signal.SIG_DFL, signal.default_int_handler):  # else it is ignored
                self._previous[number] = current
                signal.signal(number, _leave)
        if signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL:
            signal.signal(signal.SIGUSR2, _overlook)

    def leave_all_but(self, names: str) -> None:
        """Give back the signals that the agent will not handle."""
        import signal

        from .agent.system.signals import parse_signals  # `--help` needs none

        for number in self._previous.keys() - set(parse_signals(names)):
            signal.signal(number, self._previous.pop(number))

    def ignore(self) -> None:
        """Let signals change nothing any more."""
        import signal

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler, _leave):
                signal.signal(number, self.end_if_nobody_reads)

    def end_if_nobody_reads(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal after the agent: end this process only if its report can't be written."""
        if self._is_looking:  # signals that come fast must not pile this up on the stack
            return
        self._is_looking = True
        if not _is_console_ready(_LAST_WORDS_S):
            os._exit(128 + number)
        self._is_looking = False


def _overlook(_number: int, _frame: FrameType | None) -> None:
    """Handle what asks an agent where its workers are, while there is no agent: do nothing."""


def _leave(number: int, _frame: FrameType | None = None) -> NoReturn:
    # All that is imported here has been imported whole before the handler stood: it may run in the
    # middle of any import.
    import signal

    name = signal.Signals(number).name
    said = "interrupted" if number == signal.SIGINT else f"stopped by {name}"
    try:  # noqa: SIM105  nothing may be imported now
        _leave_record(f"SignalException: elrun was {said}")
    except OSError:  # there is no place for it
        pass
    try:
        if _is_console_ready(0):
            os.write(2, f"elrun: {said}\n".encode())
    except OSError:  # nobody hears it
        pass
    os._exit(128 + number)


def _leave_record(message: str) -> None:
    """Leave the reason in this process's own error file; nothing may be imported for that now."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        extra = f'{{"timestamp": "{int(time.time())}"}}'
        text = f'{{"message": {{"message": "{message}", "extraInfo": {extra}}}}}'
        os.write(os.open(path, flags, 0o666), text.encode())


def _is_console_ready(timeout_s: float) -> bool:
    import select

    console = select.poll()
    console.register(2, select.POLLOUT)
    return bool(console.poll(timeout_s * 1000))


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    gc.disable()  # a start makes no garbage: looking for it was a fifteenth of the time
    signals = _SignalsAroundTheAgent()
    try:
        signals.take()
        from .own_modules import find_own_modules_first  # this module's import stays free

        find_own_modules_first()
        from .launcher.cli import run
        from .launcher.terminal.process_end import end_process
    except KeyboardInterrupt:  # before the handler stood
        _leave(2)

    def launch(
        config: LaunchConfig, entrypoint: Callable[..., Any] | str, args: list[Any]
    ) -> dict[int, Any]:
        signals.leave_all_but(config.signals_to_handle)
        try:
            return _launch(config, entrypoint, args, signals.end_if_nobody_reads)
        finally:
            signals.ignore()

    end_process(run(sys.argv[1:], launch))


def _launch(
    config: LaunchConfig,
    entrypoint: Callable[..., Any] | str,
    args: list[Any],
    handler_afterwards: Callable[[int, FrameType | None], None],
) -> dict[int, Any]:
    from .agent.system.prctl import OrphanAdoption  # `--help` needs none
    from .launcher.launch import launch_agent

    OrphanAdoption.of_this_process().is_of_agent_alone = True
    gc.freeze()
    gc.enable()
    if config.start_method != "fork":  # such workers would keep it
        # What workers print goes through two threads: while the main thread loads modules, each
        # would wait 5 ms for the interpreter.
        sys.setswitchinterval(_SWITCH_S)
    return launch_agent(config, entrypoint, args, signal_handler_afterwards=handler_afterwards)


if __name__ == "__main__":
    main()
