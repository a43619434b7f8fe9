"""``--run-path``: the function that a worker runs instead of a new interpreter."""

from __future__ import annotations


def run_script_path(script: str, *args: str) -> None:
    """Run a Python script in this process as its main program.

    Args:
        script: Path of the script.
        *args: Its arguments.
    """
    import runpy  # noqa: PLC0415  workers only
    import sys  # noqa: PLC0415

    sys.argv = [script, *args]
    runpy.run_path(script, run_name="__main__")
