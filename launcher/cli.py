"""The command line: parse, compose, launch, and turn the outcome into an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys

from ..rendezvous.named_tuple import NamedTuple
from .commandline.arguments import Given, Refusal
from .commandline.environment import Environment
from .commandline.parse import Answered, parse
from .plan.plan import Plan, compose
from .terminal.console import Console, logging_to, printable
from .terminal.process_end import (
    ExitCode,
    exit_code_of_signal,
    exit_code_of_stop,
    exit_code_of_worker,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..agent.failures.failure import ChildFailedError
    from ..agent.system.signals import SignalException
    from .launch import Launch

_RECORD_S = 2.0
_IN_KUBERNETES = "KUBERNETES_SERVICE_HOST"  # in each container
_LAST_WORDS_S = 1.0
"""How long elrun, told to stop, waits for a console that takes nothing."""


def main(args: list[str] | None = None) -> None:
    """Run the command line, and return if it succeeds, as ``torch.distributed.run.main`` does.

    Args:
        args: What stands after ``elrun``; by default this process's arguments.

    Raises:
        SystemExit: The job failed, or could not be launched; it has elrun's exit code. It is a
            ``ChildFailedError``, too, where a worker failed, and a ``ValueError`` where the command
            can't be used: a program that catches what torch's ``main`` raises goes on as before.
    """
    end = _attempt(sys.argv[1:] if args is None else args, None)
    if end.code != ExitCode.SUCCESS:
        from .terminal.exits import exit_of  # most jobs succeed

        raise exit_of(end.code, end.cause) from end.cause


def run(args: list[str], launch: Launch | None = None) -> int:
    """Run the command line.

    Args:
        args: What stands after ``elrun``.
        launch: What runs the agent; by default ``launch_agent``.

    Returns:
        elrun's exit code; see ``ExitCode``.
    """
    return _attempt(args, launch).code


class _End(NamedTuple):
    """How it ended: elrun's exit code, and what led to it."""

    code: int
    cause: BaseException | None = None


def _attempt(args: list[str], launch: Launch | None) -> _End:
    console = Console()
    try:
        return _run(args, Environment.current(), console, launch)
    except KeyboardInterrupt as interrupt:
        _leave_record(interrupt)
        console.patience_s = _LAST_WORDS_S
        console.say("interrupted")
        return _End(exit_code_of_signal(signal.SIGINT), interrupt)
    except Exception as error:  # noqa: BLE001  the last place where a fault can be told as such
        _leave_record(error)
        return _End(_tell_fault(error, console), error)
    finally:
        console.settle()


def _run(
    args: list[str], environment: Environment, console: Console, launch: Launch | None
) -> _End:
    given, verb = None, ""
    try:
        verb = _verb_in(args, console)
        if verb == "doctor":
            return _examine(args[1:], environment, console, launch)
        if verb not in ("", "run"):
            return _look(verb, args[1:], environment, console)
        args = args[1:] if verb else args
        given, notices = parse(args, environment)
        _set_form(console, given)
        _require_use_of_form(given)
        with logging_to(console, environment.log_level):  # a folder for logs may take long
            plan = compose(given, environment, is_rehearsal=given["dry_run"])
    except Answered:
        return _End(ExitCode.SUCCESS)
    except Refusal as refusal:
        meant = given or refusal.given if verb in ("", "run") else None
        _set_form(console, meant)
        return _refuse(refusal, meant, environment, console)
    for notice in notices:
        console.notice(notice)
    if given["dry_run"]:
        return _show(plan, environment)
    return _launch(plan, environment, console, launch)


def _require_use_of_form(given: Given) -> None:
    if given.is_given("format") and not given["dry_run"]:
        raise Refusal(
            f"{given.said('format')}: it is for --dry-run and for verbs; give --log-format to have "
            "elrun's own lines as JSON"
        )


def _set_form(console: Console, given: Given | None) -> None:
    """Let elrun speak as the user wants, as far as that could be read."""
    if given is None:
        return
    console.is_quiet = given["quiet"]
    if given["log_format"] == "json":
        from .terminal.json_lines import JsonLines  # few jobs

        run_id = given["rdzv_id"] if given.is_given("rdzv_id") else ""
        console.json_lines = JsonLines(run_id)


def _show(plan: Plan, environment: Environment) -> _End:
    from .verbs.dry_run import as_json, as_text, described  # few commands

    found = described(plan, environment)
    Console(sys.stdout).answer((as_json if plan.given["format"] == "json" else as_text)(found))
    return _End(ExitCode.SUCCESS)


def _verb_in(args: list[str], console: Console) -> str:
    """Return the verb that stands first; empty: the first word is an option or SCRIPT."""
    if not args or not args[0].isalpha():
        return ""
    from .commandline.verbs import VERBS  # few scripts are called like a verb

    if args[0] not in VERBS:
        return ""
    if not os.path.isfile(args[0]) and not os.path.exists(os.path.join(args[0], "__main__.py")):
        return args[0]
    console.say(f"{args[0]} is a file here, so it is what is run; the verb needs another folder")
    return ""


def _examine(
    args: list[str], environment: Environment, console: Console, launch: Launch | None
) -> _End:
    from ..agent.system.signals import SignalException  # few commands
    from .launch import launch_agent
    from .verbs import doctor

    try:
        return _End(doctor.run(args, environment, launch or launch_agent))
    except SignalException as stopped:
        return _end_of_stopped(stopped, console)


def _look(verb: str, args: list[str], environment: Environment, console: Console) -> _End:
    """Look at a job, or stop one, as a verb says."""
    from .report.refusal import VerbRefusal
    from .verbs.front import run_verb  # few commands

    try:
        return _End(run_verb(verb, args, environment.variables))
    except VerbRefusal as refusal:
        console.say_below(*refusal.lines)
        return _End(refusal.exit_code)


def _refuse(
    refusal: Refusal, given: Given | None, environment: Environment, console: Console
) -> _End:
    """Say why the command can't be used: to the user, and to those who wait for this node."""
    _leave_record(refusal)
    console.say(str(refusal), "error")
    if given is not None and given["report"]:
        from .reporting import report_refusal  # few jobs are reported

        report_refusal(given, str(refusal))
    if given is not None and given["nnodes"].maximum > 1:
        from .declining import decline  # most jobs are not refused

        with logging_to(console, environment.log_level):
            decline(given, environment, str(refusal), console.say)
    return _End(ExitCode.BAD_USAGE, refusal)


def _launch(plan: Plan, environment: Environment, console: Console, launch: Launch | None) -> _End:
    from ..agent.failures.failure import ChildFailedError  # `--help` needs none of them
    from ..agent.system.signals import SignalException
    from ..rendezvous.errors import (
        InstallationChangedError,
        PortTakenError,
        RendezvousError,
        UnfitNodeError,
        UsageError,
    )
    from .launch import launch_agent, launch_plan

    try:
        launch_plan(plan, environment, console, launch or launch_agent)
    except ChildFailedError as failed:
        _leave_record(failed)
        return _End(_tell_failure(failed, console), failed)
    except SignalException as stopped:
        end = _end_of_stopped(stopped, console)
        if end.code == ExitCode.PREEMPTED and plan.given["requeue"]:
            _requeue(stopped, environment, console)
        return end
    except UnfitNodeError as error:
        _leave_record(error)
        console.say(f"this node does not take part: {error}", "error")
        if "\n" in error.output.strip():
            console.write(printable(f"the end of what the health check printed:\n{error.output}\n"))
        return _End(ExitCode.UNFIT_NODE, error)
    except RendezvousError as error:
        _leave_record(error)
        advice = _port_advice(plan.given) if isinstance(error, PortTakenError) else ""
        console.say(f"the rendezvous failed: {error}{advice}", "error")
        return _End(ExitCode.RENDEZVOUS_FAILED, error)
    except UsageError as error:
        _leave_record(error)
        console.say(str(error), "error")
        return _End(ExitCode.BAD_USAGE, error)
    except InstallationChangedError as error:
        _leave_record(error)
        console.say(str(error), "error")
        code = error.exitcode
        return _End(ExitCode.FAULT if code is None else exit_code_of_worker(code), error)
    return _End(ExitCode.SUCCESS)


def _port_advice(given: Given) -> str:
    option = given.said("rdzv_endpoint" if given["rdzv_endpoint"] else "master_port")
    if given["nnodes"].maximum > 1:
        return f"; give all nodes another port than that of {option}"
    return f"; give another port than that of {option}, or --standalone, which needs none"


def _end_of_stopped(stopped: SignalException, console: Console) -> _End:
    _leave_record(stopped)
    console.patience_s = _LAST_WORDS_S
    from ..agent.system.signals import Preempted  # few jobs are stopped

    if isinstance(stopped, Preempted):
        for sentence in stopped.failures:
            console.say(sentence)
        console.say(f"{stopped}; none of its workers is left")
        return _End(ExitCode.PREEMPTED, stopped)
    console.say(f"{_sentence_about(stopped)}; none of its workers is left")
    return _End(exit_code_of_stop(stopped), stopped)


def _requeue(stopped: SignalException, environment: Environment, console: Console) -> None:
    from ..agent.system.signals import Preempted  # few jobs
    from .requeue import requeue

    if isinstance(stopped, Preempted):
        requeue(stopped, environment.variables, console.say)


def _sentence_about(cause: BaseException) -> str:
    """Return why elrun ends, in one line."""
    from ..agent.failures.failure import ChildFailedError  # failures only
    from ..agent.failures.record import sentence_of
    from ..agent.system.signals import (
        Preempted,
        SignalException,
        StopRequested,
        TimeIsUp,
    )
    from ..rendezvous.errors import ElrunError

    if isinstance(cause, ChildFailedError):
        name = os.path.basename(cause.name) or "the job"
        reason = cause.get_first_failure()[1].summary
        return f"{name} failed: {cause.report.root.reason if cause.report else reason}"
    if isinstance(cause, Preempted):
        return "; ".join([str(cause), *cause.failures])
    if isinstance(cause, SignalException) and not isinstance(cause, (StopRequested, TimeIsUp)):
        return f"stopped by {cause.sigval.name}"
    return str(cause) if isinstance(cause, ElrunError) else sentence_of(cause)


def _leave_record(cause: BaseException) -> None:
    """Leave the reason in this process's own error file, if it has one.

    A launcher whose worker this is reads it, or Kubernetes (``/dev/termination-log``). It is left
    before anything is said: a console that nobody reads must not keep it back, and a file system
    that does not answer must not keep back the rest.
    """
    from ..agent.failures.failure import ERROR_FILE_VARIABLE, ChildFailedError

    variables = Environment.current().variables
    own_file, is_in_pod = variables.get(ERROR_FILE_VARIABLE, ""), variables.get(_IN_KUBERNETES)
    if not own_file and not is_in_pod:
        return
    from ..agent.failures.record import get_error_handler
    from ..rendezvous.threads import Call

    def leave() -> None:
        if is_in_pod:
            from .termination_log import leave_last_sentence  # rarely

            leave_last_sentence(_sentence_about(cause), variables, own_file)
        if not own_file:
            return
        handler = get_error_handler()
        if isinstance(cause, ChildFailedError):
            handler.record_failure(cause)
        else:
            handler.record_exception(cause)

    with contextlib.suppress(ImportError, SyntaxError):  # elrun was removed while it ran
        Call(leave, "elrun-record", or_here=True).wait(_RECORD_S)


def _tell_failure(failed: ChildFailedError, console: Console) -> int:
    try:
        from .terminal.summary import print_failure  # rich is for failures only

        print_failure(failed, console)
    except Exception:  # noqa: BLE001  how a failure is shown must not change what is reported
        try:
            text = failed.format_msg()
        except (ImportError, SyntaxError):
            text = f"{failed.name} failed: {failed.get_first_failure()[1].summary}"
        console.write(printable(f"{text}\n"))
    return exit_code_of_worker(failed.get_first_failure()[1].exitcode)


def _tell_fault(error: Exception, console: Console) -> int:
    from ..rendezvous.errors import InstallationChangedError  # not the rule

    if InstallationChangedError.is_behind(error):
        console.say(str(InstallationChangedError(error)), "error")
        return ExitCode.FAULT
    from .terminal.os_errors import shortage_behind  # not the rule

    if shortage := shortage_behind(error):
        console.say(f"the system refused what elrun needs: {shortage}", "error")
        return ExitCode.FAULT
    import traceback

    console.write(printable("".join(traceback.format_exception(error))))
    if isinstance(error, OSError):
        console.say(f"the system refused what elrun needs: {error}", "error")
        return ExitCode.FAULT
    console.say(
        f"this is a fault in elrun itself; please report it with the lines above: {error!r}",
        "error",
    )
    return ExitCode.FAULT
