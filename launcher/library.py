"""elrun as a library: the names by which programs drive ``torch.distributed.run``.

Such a program has a command line of its own, takes torchrun's parser or a namespace like those that
it makes, sets some of the attributes and runs it. It changes one import::

    from elrun.launcher import get_args_parser, parse_args, config_from_args, run

What such programs ask of torchrun's options, ``parse_min_max_nnodes`` and
``determine_local_world_size``, is here, too.

The parser is made from elrun's table of options, and a namespace goes the way of any command line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ..rendezvous.api.parameters import quoted
from ..rendezvous.errors import UsageError, UsageRuntimeError
from .commandline.arguments import Answer, Given, Origin, Refusal
from .commandline.converters import parse_nodes, parse_workers
from .commandline.environment import Environment
from .commandline.option import Option
from .commandline.options import COMPLETION, OPTIONS, SHELLS
from .commandline.parse import answer_to
from .launch import fault_behind, launch_plan
from .meeting import new_run_id
from .plan.config import ChosenText, LaunchConfig
from .plan.plan import Plan, compose
from .terminal.console import Console

_DEFAULTS = {"nnodes": "1:1", "rdzv_endpoint": "", "log_line_prefix_template": ""}
"""What stands for an option in torch's namespace, where its text differs from elrun's."""

_OF_OLD = "use_env"
"""``torch.distributed.launch`` adds this option to the parser by itself."""

_LOCAL_RANK = "--local-rank=${local_rank}"


class _DefaultText(str):
    """The text of an option that nobody gave: a namespace's plain text may be meant."""

    __slots__ = ()


class _DefaultNumber(int):
    """The same for a number."""

    __slots__ = ()


_PLACES = {"master_addr": _DefaultText, "node_rank": _DefaultNumber}
"""What says where static nodes meet, and which is which: a default is right on one node at most."""


def get_args_parser() -> argparse.ArgumentParser:
    """Return a parser of torchrun's command line, and of elrun's own options.

    Its namespace has torch's names, types and defaults; ``PET_…`` variables are defaults, too. It
    can be extended, and its actions can be added to another parser.

    Raises:
        ValueError: The variable of a flag is neither a yes nor a no.
    """
    parser = argparse.ArgumentParser(
        description="Run a script as the workers of a distributed job on this node."
    )
    environment = Environment.current()
    for option in OPTIONS:
        if option.name != _OF_OLD:
            parser.add_argument(*_spellings(option), **_settings(option, environment))
    parser.add_argument(
        *_spellings(COMPLETION),
        action=_PrintCompletion,
        choices=SHELLS,
        help=COMPLETION.help,
    )
    parser.add_argument("training_script", type=str, help="What each worker runs.")
    parser.add_argument("training_script_args", nargs=argparse.REMAINDER)
    return parser


def parse_args(args: Sequence[str] | None) -> argparse.Namespace:
    """Return the namespace of a command line.

    Args:
        args: What would stand after ``torchrun``; None: this process's arguments.
    """
    return get_args_parser().parse_args(args)


def config_from_args(
    args: argparse.Namespace,
) -> tuple[LaunchConfig, Callable[..., Any] | str, list[str]]:
    """Return how to launch, what, and with which arguments.

    Args:
        args: A namespace; of options that it lacks, the default stands. It is not changed.

    Raises:
        ValueError: It can't be launched; the sentence names the option.
    """
    plan, _ = _plan_of(args, has_program=False)
    if plan.variables:
        chosen = " ".join(f"{name}={value}" for name, value in plan.variables.items())
        raise UsageError(f"--gpus: a LaunchConfig can't carry it; call run, or set {chosen}")
    return plan.config, plan.program.entrypoint, plan.program.args


def parse_min_max_nnodes(nnodes: str) -> tuple[int, int]:
    """Return the fewest and the most nodes that ``--nnodes`` stands for.

    Args:
        nnodes: ``N`` or ``MIN:MAX``.

    Raises:
        ValueError: It is neither, below 1, or upside down; it is a RuntimeError as well.
    """
    try:
        nodes = parse_nodes(str(nnodes))
    except ValueError as error:
        raise UsageRuntimeError(f"nnodes={quoted(str(nnodes))}: {error}") from error
    return nodes.minimum, nodes.maximum


def determine_local_world_size(nproc_per_node: str) -> int:
    """Return how many workers this node gets by ``--nproc-per-node``.

    Args:
        nproc_per_node: A number, or ``gpu``, ``xpu``, ``cpu`` or ``auto``.

    Raises:
        ValueError: It is none of them, or the node has no device of the kind.
    """
    try:
        workers = parse_workers(str(nproc_per_node))
        if isinstance(workers, str):
            from ..agent.hardware.devices import count_workers  # a number needs no counting

            workers = count_workers(workers, Environment.current().variables).workers
    except ValueError as error:
        raise UsageError(f"nproc_per_node={quoted(str(nproc_per_node))}: {error}") from error
    return workers


def run(args: argparse.Namespace) -> None:
    """Run a job to its end.

    Args:
        args: See ``config_from_args``. If the job gets a run id of its own, it is put into
            ``args.rdzv_id`` before the job starts; the next call makes another one.

    Raises:
        ChildFailedError: A worker failed and the restarts are spent.
        SignalException: A signal stopped this agent.
        RendezvousError: The nodes could not meet, or the store was lost.
        ValueError: It can't be launched; nothing was started.
    """
    plan, environment = _plan_of(args, has_program=True)
    if not plan.config.run_id:
        plan.config.run_id = new_run_id()
        args.rdzv_id = ChosenText(plan.config.run_id)
    try:
        launch_plan(plan, environment, Console())
    except Refusal as refusal:
        raise UsageError(str(refusal)) from fault_behind(refusal)


class _PrintCompletion(argparse.Action):
    """Prints the script that completes elrun's options, and exits."""

    def __call__(self, parser: Any, _namespace: Any, values: Any, _option: Any = None) -> None:
        from .commandline.completion import completion_script  # rarely

        Console(sys.stdout).answer(completion_script(values))
        parser.exit()


def _spellings(option: Option) -> list[str]:
    *short, long = option.opts
    with_underscores = f"--{option.name}"
    return [*short, long, *([with_underscores] if with_underscores != long else [])]


def _settings(option: Option, environment: Environment) -> dict[str, Any]:
    """Return what ``add_argument`` takes; what variables say is read as if it had been typed."""
    shown = option.help.replace("%", "%%")
    check = option.parse
    if check is None:
        try:
            is_set = answer_to(option, {}, environment).value
        except Refusal as refusal:
            raise UsageError(str(refusal)) from fault_behind(refusal)
        return {"action": "store_true", "default": is_set, "help": shown}
    default = _default_of(option)

    def read(text: str) -> Any:
        if isinstance(text, _DefaultText):
            return text
        if not text and not option.takes_empty:
            return default
        try:
            if option.kind is not str:
                check(text)
            return option.kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    said = environment.default_of(option.name)
    return {"type": read, "default": said or default, "metavar": option.metavar, "help": shown}


def _default_of(option: Option) -> Any:
    text = _DEFAULTS.get(option.name, option.default)
    kind = _PLACES.get(option.name, option.kind)
    return text if text is None else kind(text)


def _plan_of(args: argparse.Namespace, *, has_program: bool) -> tuple[Plan, Environment]:
    environment = Environment.current()
    try:
        given = _given(args, environment)
        return compose(given, environment, is_checked=has_program), environment
    except Refusal as refusal:
        raise UsageError(str(refusal)) from fault_behind(refusal)


def _given(args: argparse.Namespace, environment: Environment) -> Given:
    answers = {option.name: _answer(option, args, environment) for option in OPTIONS}
    if answers["rdzv_backend"].value == "static" and answers["nnodes"].value.maximum > 1:
        for name, default in _PLACES.items():
            value = getattr(args, name, None)
            is_given = _text_of(value) and not isinstance(value, default)
            if is_given and not answers[name].is_given:
                answers[name] = answers[name]._replace(origin=Origin.COMMAND_LINE)
    own = list(getattr(args, "training_script_args", None) or ())
    if not getattr(args, _OF_OLD, True):
        own.insert(0, _LOCAL_RANK)
    return Given(answers, (str(args.training_script), *map(str, own)))


def _answer(option: Option, args: argparse.Namespace, environment: Environment) -> Answer:
    default = answer_to(option, {}, environment)
    if not hasattr(args, option.name):
        return default
    value = getattr(args, option.name)
    if isinstance(value, ChosenText):
        return default
    if option.is_flag:
        return Answer(bool(value), Origin.COMMAND_LINE if value else Origin.DEFAULT)
    text = _text_of(value)
    if not text and not option.takes_empty:
        return answer_to(option, {}, Environment({}))
    answer = answer_to(option, {option.name: text}, environment)
    return default if answer.value == default.value else answer


def _text_of(value: object) -> str:
    """Return a value as it would be typed."""
    if isinstance(value, (list, tuple)):
        return ",".join(str(word).replace(",", ",,") for word in value)
    return "" if value is None else str(value)
