"""Run elrun's command line: ``elrun`` and ``python -m elrun`` are the same."""

import sys


def main() -> None:
    """Run the command line and exit with its code."""
    from .launcher.cli import run  # noqa: PLC0415  the console script's import of this module stays free

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
