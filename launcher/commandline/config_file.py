"""Options from a file: ``--config FILE.toml``, or ``[tool.elrun]`` of the folder's pyproject.toml.

A file of another name may have that table, too. Names are the options', with dashes or underscores.
What is typed goes before it, and a ``PET_…`` variable, too; the scheduler's word comes after it.
"""

from __future__ import annotations

import errno
import itertools
import os
import re
import stat

from ...rendezvous.api.parameters import quoted
from .arguments import Refusal, nearest_option
from .converters import whole_number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from .option import Option

PROJECT_FILE = "pyproject.toml"
_MOST_BYTES = 4 << 20
_HEADING = re.compile(
    rb"""^\s*(\[\s*)?["']?tool["']?\s*\.\s*["']?elrun["']?(?![\w-])|^\s*["']?elrun["']?\s*[.=]""",
    re.MULTILINE,
)
"""The beginning of ``[tool.elrun]``, whatever is wrong behind it."""

_LIBRARY_OF_OLD_PYTHONS = "tomli"

_NOTHING = ("", "null", "~")

# Keys of accelerate's configuration for several machines, and the options that say the same.
_OF_MACHINES = {
    "num_machines": "--nnodes",
    "machine_rank": "--node-rank",
    "main_process_ip": "--master-addr",
    "main_process_port": "--master-port",
    "rdzv_backend": "--rdzv-backend",
}


def read_config(path: str | None, options: Sequence[Option]) -> tuple[Mapping[str, str], str]:
    """Return the text of each option that a file gives, and the file's name.

    Args:
        path: The file; None: ``[tool.elrun]`` of this folder's ``pyproject.toml``, if it is there.

    Raises:
        Refusal: The file can't be read, or names what is no option.
    """
    is_project = path is None
    if path is None:
        if not _names_elrun(PROJECT_FILE):
            return {}, ""
        path = PROJECT_FILE
    data = _load(path, is_project=is_project)
    if is_project or os.path.basename(path) == PROJECT_FILE or _is_like_a_project(data, options):
        data = data.get("tool", {})
        data = data.get("elrun", {}) if isinstance(data, dict) else {}  # `tool` is not ours
    if not isinstance(data, dict):
        raise Refusal(f"{quoted(path)}: [tool.elrun] is no table; give names and values")
    texts = _texts(data, options, path)
    names = [name for name, _ in texts]
    for name in names:
        if names.count(name) > 1:
            both = f"{name} and {name.replace('_', '-')}"
            raise Refusal(f"{quoted(path)}: {both} are the same option; give it once")
    return {name: text for name, text in texts if text}, path


def _is_like_a_project(data: Mapping[str, Any], options: Sequence[Option]) -> bool:
    """Return whether the options stand in ``[tool.elrun]``, as in a ``pyproject.toml``."""
    names = [option.name for option in options]
    tools = data.get("tool")
    has_table = isinstance(tools, dict) and "elrun" in tools
    return has_table and not any(key.replace("-", "_") in names for key in data)


def _names_elrun(path: str) -> bool:
    try:
        return b"elrun" in _bytes_of(path)
    except OSError:
        return False


def _bytes_of(path: str) -> bytes:
    """Return what is in a file; a pipe might never end, and a device neither.

    Raises:
        OSError: It can't be read, or is something else.
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "no path has a NUL character")
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        kind = os.fstat(fd).st_mode
        if not stat.S_ISREG(kind):
            is_folder = stat.S_ISDIR(kind)
            what = os.strerror(errno.EISDIR) if is_folder else "it is no regular file"
            raise OSError(errno.EINVAL, what)
        parts = iter(lambda: os.read(fd, _MOST_BYTES), b"")
        data = b"".join(itertools.islice(parts, 2))
    finally:
        os.close(fd)
    if len(data) > _MOST_BYTES:
        raise OSError(errno.EFBIG, "it is too large for options")
    return data


def _load(path: str, *, is_project: bool) -> dict[str, Any]:
    try:
        data = _bytes_of(path)
    except OSError as error:
        raise Refusal(f"--config {quoted(path)}: it can't be read: {error.strerror}") from error
    if path.endswith((".yaml", ".yml")):
        raise Refusal(_about_yaml(path, data.decode(errors="replace")))
    parse = _parser()
    try:
        found: dict[str, Any] = parse(data.decode())
    except ValueError as error:  # of the encoding, or of TOML
        if is_project and not _HEADING.search(data):  # it is another tool's, and names elrun
            return {}
        raise Refusal(f"{quoted(path)}: it is no TOML: {error}") from error
    return found


def _parser() -> Any:
    try:
        import tomllib  # few jobs have a file
    except ImportError:  # Python 3.10
        import importlib

        try:
            return importlib.import_module(_LIBRARY_OF_OLD_PYTHONS).loads
        except ImportError:
            raise Refusal("a config file needs Python 3.11, or tomli for an older one") from None
    return tomllib.loads


def _about_yaml(path: str, text: str) -> str:
    lines = (line.partition("#")[0].partition(":") for line in text.splitlines())
    values = {key.strip(): value.strip().strip("'\"") for key, _, value in lines}
    options = _options_like_accelerate(values)
    if not options:
        return f"--config {quoted(path)}: give a TOML file with the options' names and values"
    return (
        f"--config {quoted(path)}: this is accelerate's configuration, which elrun does not read; "
        f"give these options instead: {' '.join(options)}"
    )


def _options_like_accelerate(values: Mapping[str, str]) -> list[str]:
    options = []
    machines, processes = values.get("num_machines", "1"), values.get("num_processes", "")
    count, among = whole_number(processes), whole_number(machines)
    if count is not None and among is not None:  # accelerate counts those of all machines
        options.append(f"--nproc-per-node {count // max(1, among) or 1}")
    if machines != "1":
        known = ((option, values.get(key, "")) for key, option in _OF_MACHINES.items())
        options += [f"{option} {value}" for option, value in known if value not in _NOTHING]
    if values.get("gpu_ids", "all") not in ("all", *_NOTHING):
        options.append(f"--gpus {values['gpu_ids']}")
    if values.get("max_restarts", "0") not in ("0", *_NOTHING):
        options.append(f"--max-restarts {values['max_restarts']}")
    return options


def _texts(data: Mapping[str, Any], options: Sequence[Option], path: str) -> list[tuple[str, str]]:
    by_name = {option.name: option for option in options}
    found = []
    for key, value in data.items():
        name = key.replace("-", "_")
        option = by_name.get(name)
        if option is None:
            match = _option_meant(name.lower(), list(by_name)).replace("_", "-")
            hint = f"; did you mean {match}?" if match else ""
            raise Refusal(f"{quoted(path)}: {quoted(key)} is no option of elrun{hint}")
        found.append((name, _text_of(option, value, f"{quoted(path)}: {key}")))
    return found


def _option_meant(name: str, known: list[str]) -> str:
    """Return the option that a key may mean: a file has no abbreviations."""
    begun = [each for each in known if each.startswith(name) and len(name) > 1]
    return begun[0] if len(begun) == 1 else nearest_option(name, known)


def _text_of(option: Option, value: Any, place: str) -> str:
    """Return a value as it would be typed: lists with commas, tables as ``key=value,…``."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise Refusal(f"{place} is a flag; give true or false")
        return "1" if value else "0"
    if isinstance(value, bool) or not isinstance(value, (str, int, float, list, dict)):
        raise Refusal(f"{place}: give {option.metavar} as a text or a number")
    if isinstance(value, dict):
        return ",".join(f"{key}={_plain(each, place)}" for key, each in value.items())
    if isinstance(value, list):
        return ",".join(_plain(each, place) for each in value)
    return str(value)


def _plain(value: Any, place: str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, (str, int, float)):
        raise Refusal(f"{place}: give plain values in it")
    text = str(value)
    if "," in text:  # it would part two values, and there is no way to write it otherwise
        raise Refusal(f"{place}: {quoted(text)} has a comma, which parts values here")
    return text
