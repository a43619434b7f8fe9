"""Run elrun's command line: ``elrun`` and ``python -m elrun`` are the same."""

import os
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    from .launcher.cli import run  # noqa: PLC0415  the console script's import of this module stays free

    code = run(sys.argv[1:])
    # All is closed and flushed by now. A thread may still block inside torch's store for an answer
    # that nobody wants any more; taking the interpreter down around it aborts the process.
    os._exit(code)


if __name__ == "__main__":
    main()
