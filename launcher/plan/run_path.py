"""``--run-path``: the function that a worker runs instead of a new interpreter."""

from __future__ import annotations


def run_script_path(script: str, *args: str) -> None:
    """Run a Python script in this process as its main program.

    It finds the modules beside it, as it would under ``python SCRIPT``.
    """
    import os  # workers only
    import pkgutil
    import runpy
    import sys

    sys.argv = [script, *args]
    if pkgutil.get_importer(script) is None:  # else it is a folder or an archive, a path itself
        sys.path.insert(0, os.path.dirname(os.path.realpath(script)))
    runpy.run_path(script, run_name="__main__")
