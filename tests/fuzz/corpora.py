"""The inputs that are kept: a file for each surface, with a literal of Python on each line."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
NAMES = tuple(sorted(path.stem for path in (HERE / "targets").glob("try_*.py")))
SURFACES = tuple(name.removeprefix("try_") for name in NAMES)


def target_of(surface: str) -> ModuleType:
    """Import a target: the module that has ``attempt``, and what a mutator should know."""
    return importlib.import_module(f"try_{surface}")


def attempt_of(surface: str) -> Callable[[bytes], None]:
    return target_of(surface).attempt


def file_of(surface: str) -> Path:
    return CORPUS / f"{surface}.txt"


def inputs_of(surface: str) -> list[bytes]:
    """Return the kept inputs; lines with a # are remarks."""
    path = file_of(surface)
    lines = path.read_text().splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


def keep(surface: str, inputs: Iterable[bytes]) -> int:
    """Add inputs that are not there yet, in their order; return how many."""
    there = set(inputs_of(surface))
    new = [each for each in inputs if each not in there]
    with file_of(surface).open("a") as file:
        file.writelines(f"{each!r}\n" for each in new)
    return len(new)
