"""Whether a fresh interpreter finds a function, known before one is started.

Functions reach a new process by name: it imports the function's module and looks there. A program's
own module is run there once more, under another name, so what stands under ``if __name__ ==
"__main__":`` is missing; a notebook, an interpreter that is typed into and standard input have no
file that could be run again. Left alone, each worker would end with a traceback of
``multiprocessing``.
"""

from __future__ import annotations

import copyreg
import functools
import os
import sys
import types
from collections.abc import Callable, Sequence
from multiprocessing import process
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ast

MAIN = "__main__"
_MAIN_OF_SPAWNED = "__mp_main__"
_STANDARD_INPUT = "<stdin>"
_CONDITIONS = {"If", "While", "Try", "TryStar", "Match"}


def require_importable(function: Callable[..., Any], start_method: str) -> None:
    """Make sure that a new process can find a function.

    Args:
        function: The function; anything that can be called.
        start_method: spawn, fork or forkserver.

    Raises:
        ValueError: It can't; the sentence says why, and what to do.
    """
    if start_method == "fork":
        return
    reason = _why_not(_named_part(function)) or _why_no_server(start_method)
    if reason:
        name = getattr(function, "__qualname__", None) or repr(function)
        raise ValueError(
            f"{name} can't be sent to a new process (start_method={start_method!r}): {reason}; "
            "give a function from the top level of a module, or start_method='fork'"
        )


def is_main_imported() -> bool:
    """Return whether a new process runs this program's main module once more."""
    main = sys.modules[MAIN]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return spec.name != MAIN and not spec.name.endswith(f".{MAIN}")
    return main_file() is not None


def main_file() -> str | None:
    """Return the path of this program's main module, if it has one that can be read again."""
    path = getattr(sys.modules[MAIN], "__file__", None)
    if path is None:
        return None
    path = os.path.join(process.ORIGINAL_DIR or "", path)  # type: ignore[attr-defined]
    return path if os.path.isfile(path) else None


def require_guard(start_method: str, caller: types.FrameType | None) -> None:
    """Make sure that a new process, which runs the main module again, won't launch again.

    Args:
        start_method: spawn, fork or forkserver.
        caller: What launches; a function may have reasons to do so that can't be seen from here.

    Raises:
        ValueError: It stands at the top of the main module, under no condition.
    """
    if start_method == "fork" or caller is None or caller.f_code.co_name != "<module>":
        return
    path = main_file()
    if caller.f_globals is not vars(sys.modules[MAIN]) or path is None or not is_main_imported():
        return
    around = _statements_around(path, caller.f_lineno)
    if around and not any(type(each).__name__ in _CONDITIONS for each in around):
        raise ValueError(
            f"each new process (start_method={start_method!r}) runs this program's top level and "
            f'would launch again; launch under "if __name__ == {MAIN!r}:"'
        )


def _named_part(function: Any) -> Any:
    """Return that part of a callable which is looked up by its name; None where none is known."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.MethodType):
        function = function.__self__
    elif isinstance(function, types.BuiltinFunctionType):
        how = function.__reduce__()
        if isinstance(how, tuple):  # a method in C: an attribute of its object or class
            function = how[1][0]
    if isinstance(function, (type, types.FunctionType, types.BuiltinFunctionType)):
        return function
    kind = type(function)
    is_special = kind in copyreg.dispatch_table or any(
        name in vars(each) for each in kind.__mro__[:-1] for name in ("__reduce__", "__reduce_ex__")
    )
    return None if is_special else kind


def _why_not(named: Any) -> str:
    module, name = getattr(named, "__module__", None), getattr(named, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        return ""
    if "<lambda>" in name:
        return "it is a lambda"
    if "<locals>" in name:
        return "it is defined inside another function"
    if module == MAIN:
        return _why_not_of_main(named)
    if module == _MAIN_OF_SPAWNED:  # this process was itself spawned; its children know the name
        return ""
    if not _is_module_found(module):
        return f"no new process finds the module {module}"
    found: Any = sys.modules.get(module, named)
    for part in name.split(".") if found is not named else ():
        found = getattr(found, part, None)
    return "" if found is named else f"{module}.{name} is something else"


def _why_not_of_main(named: Any) -> str:
    if not is_main_imported():
        main = sys.modules[MAIN]
        if getattr(main, "__spec__", None) is not None:
            return f"a package's {MAIN}.py is not imported there"
        if getattr(main, "__file__", None) == _STANDARD_INPUT:
            return "the program was read from standard input"
        return "it is defined in a notebook, or was typed into an interpreter"
    while hasattr(named, "__wrapped__"):
        named = named.__wrapped__
    code, path = getattr(named, "__code__", None), main_file()
    if code is None or path is None or os.path.abspath(code.co_filename) != os.path.abspath(path):
        return ""
    if any(map(_is_guard, _statements_around(path, code.co_firstlineno))):
        return f"it is defined under if __name__ == {MAIN!r}, which does not run there"
    return ""


def _is_guard(statement: ast.stmt) -> bool:
    """Return whether it asks for the name of the module."""
    import ast  # functions of main modules only

    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def _statements_around(path: str, line: int) -> Sequence[ast.stmt]:
    """Return the statements of a file that a line is in, the outermost first; none if it has none.

    Args:
        line: Number of the line, from 1.
    """
    import ast  # functions of main modules only

    try:
        with open(path, "rb") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return ()
    found: list[ast.stmt] = []
    while inner := [each for each in body if each.lineno <= line <= (each.end_lineno or 0)]:
        found.append(inner[0])
        body = [each for each in ast.iter_child_nodes(inner[0]) if isinstance(each, ast.stmt)]
    return found


def _why_no_server(start_method: str) -> str:
    """Say why the server of forks would fail, whatever the function: it runs the main module."""
    main = sys.modules[MAIN]
    has_no_file = getattr(main, "__file__", None) is not None and main_file() is None
    if start_method == "forkserver" and getattr(main, "__spec__", None) is None and has_no_file:
        return "the program has no file that could be run again"
    return ""


def _is_module_found(name: str) -> bool:
    if name in sys.builtin_module_names:
        return True
    package, _, _ = name.rpartition(".")
    path = getattr(sys.modules.get(package), "__path__", None) if package else None
    if package and path is None:
        return True  # a module within a module: whoever made it knows how
    for finder in sys.meta_path:
        find_spec = getattr(finder, "find_spec", None)
        if find_spec is not None and find_spec(name, path) is not None:
            return True
    return False
