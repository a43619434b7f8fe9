"""Draw elrun's failure report of a real job: ``make docs`` writes ``docs/pictures/failure.svg``.

The job is ``examples/broken.py``. Host, process ids, times and folders differ from run to run; they
are replaced, so that the picture changes only when the report does.

    python docs/pictures/failure.py [TARGET]
"""

import html
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

from elrun.agent import DefaultLogsSpecs, Std
from elrun.agent.failures.failure import ChildFailedError
from elrun.agent.failures.report import JobReport, RankState
from elrun.launcher import LaunchConfig, launch_agent
from elrun.launcher.terminal.summary import failure_summary, report_of
from rich.console import CONSOLE_SVG_FORMAT, Console

HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "broken.py"
WORKERS = 3
COLUMNS = 100
COMMAND = f"elrun --nproc-per-node {WORKERS} --redirects 3 --log-dir logs broken.py"

NODE, FIRST_PID, NOON = "node1", 4711, 1_795_694_400
OWN_FRAME = re.compile(r'  File "[^"]*/elrun/[^"]*", line .*\n(?:    .*\n)+')
INDENTED = re.compile(
    r'x="(?P<x>[\d.]+)"(?P<y> y="[\d.]+" )textLength="(?P<width>[\d.]+)"(?P<more>[^>]*)>'
    r"(?P<spaces>(?:&#160;)+)(?P<rest>[^<\n]+)\n?<"
)
MARKS = re.compile(r"^ +[\^~]+ *\n", re.MULTILINE)  # each version of Python has its own


def report_of_broken_job(folder: Path) -> JobReport:
    """Run the example and return how it failed."""
    script = shutil.copy(EXAMPLE, folder)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=WORKERS,
        rdzv_backend="standalone",
        run_id="nightly",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=str(folder / "logs"), redirects=Std.ALL),
    )
    try:
        launch_agent(config, sys.executable, [script])
    except ChildFailedError as error:
        return report_of(error)._replace(name=script)
    sys.exit(f"{script} should fail, and has not")


def settle(report: JobReport, folder: Path) -> JobReport:
    """Return a report without what differs from run to run."""

    def place(path: str) -> str:
        inside = path.removeprefix(f"{folder}{os.sep}")
        return re.sub(r"nightly_[0-9a-z]+", "nightly_79c0", inside)

    root = report.root
    pids = {rank.pid: FIRST_PID + rank.global_rank for rank in report.ranks}
    traceback = MARKS.sub("", OWN_FRAME.sub("", root.traceback)).replace(f"{folder}{os.sep}", "")
    ranks = tuple(
        rank._replace(
            node=NODE,
            pid=pids[rank.pid],
            after_s=0.0 if rank.state is RankState.FAILED else 0.05,
            file=place(rank.file),
        )
        for rank in report.ranks
    )
    root = root._replace(
        node=NODE, pid=pids[root.pid], timestamp=NOON, traceback=traceback, file=place(root.file)
    )
    return report._replace(root=root, ranks=ranks)


def draw(report: JobReport) -> str:
    """Return a report as SVG; the browser chooses the font."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            file=nowhere, width=COLUMNS, record=True, force_terminal=True, markup=False,
            emoji=False, highlight=False, color_system="truecolor",
        )  # fmt: skip
        console.print(f"$ {COMMAND}")
        for part in failure_summary(report, console):
            console.print(part)
    no_download = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="elrun", code_format=no_download, unique_id="failure")
    return INDENTED.sub(_moved, svg)


def _moved(text: re.Match[str]) -> str:
    """Return a line whose place, not its first spaces, indents it: some viewers drop these."""
    spaces = text["spaces"].count("&#160;")
    left, width = float(text["x"]), float(text["width"])
    step = width / (spaces + len(html.unescape(text["rest"])))
    x, length = left + spaces * step, width - spaces * step
    return f'x="{x:g}"{text["y"]}textLength="{length:g}"{text["more"]}>{text["rest"]}<'


def main() -> None:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "failure.svg"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        target.write_text(draw(settle(report_of_broken_job(folder), folder)))
    print(f"drew {target}")


if __name__ == "__main__":
    main()
