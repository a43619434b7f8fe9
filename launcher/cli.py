"""The command line: parse, compose, launch, and turn the outcome into an exit code."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

import click

from .command import parse
from .compose import Plan, compose
from .config import Environment
from .console import Console, logging_to
from .exit_codes import ExitCode, exit_code_of_signal, exit_code_of_worker
from .given import Refusal

if TYPE_CHECKING:
    from ..agent.failure import ChildFailedError


def main(args: list[str] | None = None) -> None:
    """Run the command line, as ``torch.distributed.run.main`` does.

    Args:
        args: What stands after ``elrun``; by default this process's arguments.

    Raises:
        SystemExit: Always, with elrun's exit code.
    """
    sys.exit(run(sys.argv[1:] if args is None else args))


def run(args: list[str]) -> int:
    """Run the command line.

    Args:
        args: What stands after ``elrun``.

    Returns:
        elrun's exit code; see ``ExitCode``.
    """
    console = Console()
    try:
        return _run(args, Environment.current(), console)
    except KeyboardInterrupt:
        console.say("interrupted")
        return exit_code_of_signal(signal.SIGINT)
    finally:
        console.settle()


def _run(args: list[str], environment: Environment, console: Console) -> int:
    try:
        given, notices = parse(args, environment)
        plan = compose(given, environment)
    except click.exceptions.Exit:  # --help and --version have said what they have to say
        return ExitCode.SUCCESS
    except (Refusal, click.ClickException) as error:
        console.say(
            error.format_message() if isinstance(error, click.ClickException) else str(error)
        )
        return ExitCode.BAD_USAGE
    for notice in (*notices, *plan.notices):
        console.say(notice)
    with logging_to(console, environment.log_level):
        return _launch(plan, console)


def _launch(plan: Plan, console: Console) -> int:
    from ..agent.failure import ChildFailedError  # noqa: PLC0415  `--help` needs none of them
    from ..agent.signals import SignalException  # noqa: PLC0415
    from ..rendezvous.handler import RendezvousError  # noqa: PLC0415
    from .launch import launch_agent  # noqa: PLC0415

    try:
        launch_agent(plan.config, plan.program.entrypoint, plan.program.args)
    except ChildFailedError as failed:
        return _tell_failure(failed, console)
    except SignalException as stopped:
        console.say(f"stopped by {stopped.sigval.name}, and so were its workers")
        return exit_code_of_signal(stopped.sigval)
    except RendezvousError as error:
        console.say(f"the rendezvous failed: {error}")
        return ExitCode.RENDEZVOUS_FAILED
    except Exception as error:  # noqa: BLE001  the last place where a fault can be told as such
        return _tell_fault(error, console)
    return ExitCode.SUCCESS


def _tell_failure(failed: ChildFailedError, console: Console) -> int:
    from ..agent.error_file import get_error_handler  # noqa: PLC0415
    from .summary import print_failure  # noqa: PLC0415  rich is for failures only

    failure = failed.get_first_failure()[1]
    print_failure(failed, console)
    if failure.traceback is not None:
        # elrun may be a worker itself, whose launcher reads the same kind of file.
        get_error_handler().dump_error_file(failure.error_file, failure.exitcode)
    return exit_code_of_worker(failure.exitcode)


def _tell_fault(error: Exception, console: Console) -> int:
    import traceback  # noqa: PLC0415

    if type(error) is ValueError:
        console.say(str(error))
        return ExitCode.BAD_USAGE
    console.write("".join(traceback.format_exception(error)))
    console.say(
        f"this is a fault in elrun itself; please report it with the lines above: {error!r}"
    )
    return ExitCode.FAULT
