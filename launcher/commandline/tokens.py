"""From options as people type them to options as they are declared.

Both spellings (``--nproc-per-node``, ``--nproc_per_node``), beginnings that fit one option only
(``--nnode``) and ``-r=3`` become the declared form; the value and whatever follows SCRIPT stay as
they are.
"""

from __future__ import annotations

from ...rendezvous.api.parameters import quoted
from ...rendezvous.named_tuple import NamedTuple
from .arguments import Refusal, listed, nearest, nearest_option

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Spelled(NamedTuple):
    """A command line in declared form.

    Args:
        options: Each option that was typed with its value, empty for one that takes none.
        command: SCRIPT and its arguments.
        notices: What was taken for what, a sentence each.
    """

    options: list[tuple[str, str]]
    command: list[str]
    notices: tuple[str, ...]


# What mpirun, srun, accelerate and deepspeed call the same.
_OF_OTHERS = {
    "-n": "--nproc-per-node",
    "-np": "--nproc-per-node",
    "--np": "--nproc-per-node",
    "--ntasks-per-node": "--nproc-per-node",
    "--num-gpus": "--nproc-per-node",
    "--num-processes": "--nproc-per-node",
    "-N": "--nnodes",
    "--nodes": "--nnodes",
    "--num-nodes": "--nnodes",
    "--num-machines": "--nnodes",
    "--machine-rank": "--node-rank",
    "--main-process-ip": "--master-addr",
    "--main-process-port": "--master-port",
    "--gpu-ids": "--gpus",
}


def spell_out(args: Sequence[str], takes_value: Mapping[str, bool]) -> Spelled:
    """Return a command line in declared form.

    Args:
        args: As the user typed it.
        takes_value: Every option (``--redirects`` and ``-r``), and whether a value follows.

    Raises:
        Refusal: An option is unknown or ambiguous, or its value is missing.
    """
    waiting = list(args)
    options: list[tuple[str, str]] = []
    notices: list[str] = []
    while waiting and waiting[0] not in ("-", "--") and waiting[0].startswith("-"):
        typed, has_value, value = waiting.pop(0).partition("=")
        if typed.startswith("--"):
            option = _declared(typed, takes_value)
            if len(option) != len(typed):
                notices.append(f"{typed} is taken as {option}")
        else:
            option, attached = _short(typed, takes_value)
            options += [(f"-{flag}", "") for flag in option[1:-1]]
            option = f"-{option[-1]}"
            if attached:
                has_value, value = "=", attached + has_value + value
        if not takes_value[option]:
            if has_value:
                raise Refusal(f"{option} takes no value, but was given {quoted(value)}")
        elif not has_value:
            value = _next_value(option, waiting, takes_value)
        options.append((option, value))
    command = waiting[1:] if waiting[:1] == ["--"] else waiting
    return Spelled(options, command, tuple(notices))


def _next_value(option: str, waiting: list[str], takes_value: Mapping[str, bool]) -> str:
    if not waiting:
        raise Refusal(f"{option} needs a value after it")
    follower = waiting.pop(0)
    if follower == "--" or follower.partition("=")[0].replace("_", "-") in takes_value:
        raise Refusal(f"{option} needs a value, but {quoted(follower)} follows it")
    return follower


def _declared(typed: str, takes_value: Mapping[str, bool]) -> str:
    wanted = typed.replace("_", "-")
    if wanted in takes_value:
        return wanted
    long_options = [option for option in takes_value if option.startswith("--")]
    candidates = [each for each in long_options if each.startswith(wanted) and wanted != "--"]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        raise Refusal(f"{quoted(typed)} could be {listed(candidates)}; write it out")
    match = _OF_OTHERS.get(wanted) or nearest_option(wanted, long_options)
    hint = f"; did you mean {match}?" if match else "; elrun --help lists the options"
    raise Refusal(f"{quoted(typed)} is no option of elrun{hint}")


def _short(typed: str, takes_value: Mapping[str, bool]) -> tuple[str, str]:
    """Return the short options of ``-mr3`` up to the first that takes a value, and that value."""
    for position, letter in enumerate(typed[1:] or "-", start=1):
        option = f"-{letter}"
        if option not in takes_value:
            long_options = [each for each in takes_value if each.startswith("--")]
            meant = _OF_OTHERS.get(typed)
            hint = f"; did you mean {meant}?" if meant else ""
            hint = hint or nearest(f"-{typed.replace('_', '-')}", long_options)
            hint = hint or "; elrun --help lists the options"
            raise Refusal(f"{quoted(typed)} is no option of elrun{hint}")
        if takes_value[option]:
            return typed[: position + 1], typed[position + 1 :]
    return typed, ""
