"""Begins a Python worker: keeps what ends it for its agent, and changes nothing else.

Python imports a module of this name in the middle of its start, when all is set up but for the
script. That is this file where PYTHONPATH begins with its folder, as it does for a worker that the
agent executes. It removes its traces from the environment and from the import path, runs the user's
own ``sitecustomize`` if there is one, and leaves three things behind (``keeper.py``; the last one
is in ``crash_stacks.py``):

- The hooks of ``sys`` and ``threading`` for an exception that ends a thread write the exception to
  a file of the worker's, then do what they did before.
- ``sys.exit``, ``exit`` and the SystemExit that ends the main thread keep the text that they are
  given, or the exception that is being handled when they are given a number; the end of the process
  writes it. ``os._exit`` writes the latter at once.
- ``faulthandler`` is enabled with a file of its own: a crash leaves all threads' stacks there. At a
  signal of the agent's it writes them to a pipe.

A start must cost next to nothing. So ``last_words.py``, which writes exceptions, is loaded when
there is one, and ``record_file.py`` with it, and no library is imported here: ``threading`` takes
its hook from ``_thread`` when the script imports it. Nothing else of elrun is imported either: the
interpreter may be another than the agent's, and the worker is the user's.

Where ELRUN_LEARN is set, the agent's ``learn.py`` watches what the script imports.

Where ELRUN_PRELOAD is set, this process becomes a fork server: the agent's ``fork_server.py`` takes
over, and the start goes on in the workers that are forked from it.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_WORKER_VARIABLE = "ELRUN_WORKER"
_PRELOAD_VARIABLE = "ELRUN_PRELOAD"
_LEARN_VARIABLE = "ELRUN_LEARN"
_FOLDER = os.path.dirname(__file__)
_OF_EACH_WORKER = ("keeper.py", "crash_stacks.py")

_loaded: "dict[str, dict[str, Any]]" = {}
"""What a fork server has loaded for its workers, by path."""


def _begin() -> "Exception | None":
    """Do what precedes the script.

    Returns:
        What the user's own ``sitecustomize`` raised, for ``site`` to deal with.
    """
    order = _remove_traces()
    preload = os.environ.pop(_PRELOAD_VARIABLE, None)
    problem: Exception | None
    if preload is None:
        learn = os.environ.pop(_LEARN_VARIABLE, "")
        _keep_last_words(order)
        problem = _run_own_customization()
        _learn_imports(learn)
        return problem
    program, _, settings = preload.partition("\n")
    for path in [os.path.join(_FOLDER, name) for name in _OF_EACH_WORKER]:
        _loaded[path] = _load(path)
    problem = _load(program)["serve"](settings, _run_own_customization)
    if _WORKER_VARIABLE in os.environ:  # a worker has been forked, with an environment of its own
        learn = os.environ.pop(_LEARN_VARIABLE, "")
        _keep_last_words(_remove_traces())
        _learn_imports(learn)
    return problem


def _learn_imports(order: str) -> None:
    if order:
        program, _, settings = order.partition("\n")
        _load(program)["learn"](settings)


def _remove_traces() -> str:
    """Make environment and import path those that the process would have without this file.

    Returns:
        The agent's process id and the worker's error file, with a space between them.
    """
    had_path, _, order = os.environ.pop(_WORKER_VARIABLE).partition(" ")
    python_path = os.environ["PYTHONPATH"].partition(os.pathsep)[2]
    if had_path == "1":
        os.environ["PYTHONPATH"] = python_path  # in its place: the order is seen, too
    else:
        del os.environ["PYTHONPATH"]
    if _FOLDER in sys.path:
        sys.path.remove(_FOLDER)
        sys.path_importer_cache.pop(_FOLDER, None)
    return order


def _run_own_customization() -> "Exception | None":
    """Import the module that this one stands in front of; most often there is none."""
    sys.modules.pop(__name__, None)
    try:
        __import__(__name__)
    except Exception as error:  # noqa: BLE001  this module raises it once more
        return error
    return None


def _load(path: str) -> "dict[str, Any]":
    """Run a file that is no module, unless that has been done, and return its names."""
    if path in _loaded:
        return _loaded[path]
    name = "elrun_hook"
    loader = sys.modules["_frozen_importlib_external"].SourceFileLoader(name, path)
    names = {"__name__": name, "__file__": path}
    exec(loader.get_code(name), names)  # noqa: S102  the file is ours
    return names


def _keep_last_words(order: str) -> None:
    agent, _, path = order.partition(" ")
    if not path or agent != str(os.getppid()):  # a program between took the environment along
        return
    begin = _load(os.path.join(_FOLDER, "keeper.py"))["begin"]
    begin(path, lambda name: _load(os.path.join(_FOLDER, name)))


_problem = _begin()
if _problem is not None:
    raise _problem
