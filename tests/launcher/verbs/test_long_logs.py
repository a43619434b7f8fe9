"""``elrun logs`` of long log files: they are read and shown piece by piece."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

LINES = 80_000
MOST_KIB = 120 << 10


@pytest.fixture(name="runs", scope="module")
def _runs(tmp_path_factory):
    """The folder of a run whose ranks have printed 80 MB each."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "x.run").mkdir()
    ranks = []
    for rank in range(2):
        path = folder / f"{rank}.log"
        with path.open("wb") as file:
            for _ in range(LINES // 1_000):
                file.write(((b"%d" % rank) * 999 + b"\n") * 1_000)
        ranks.append({"rank": rank, "local_rank": rank, "stdout": str(path), "stderr": ""})
    record = {"version": 1, "run_id": "long", "attempts": [{"ranks": ranks}]}
    (folder / "x.run" / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    ("options", "count"), [("", 2 * LINES + 3), ("--merge", 2 * LINES), ("--grep x", 0)]
)
def test_logs_longer_than_memory_are_shown(runs, options, count):
    """A job may have printed for days."""
    command = f"ulimit -d {MOST_KIB}; exec {sys.executable} -m elrun logs long {options}"

    done = subprocess.run(
        ["/bin/bash", "-c", f"set -o pipefail; ({command}) | wc -l"],
        env={"PATH": "/usr/bin:/bin", "ELRUN_RUN_DIR": str(runs)},
        capture_output=True,
        timeout=300,
        check=False,
    )

    assert (0, b"%d\n" % count) == (done.returncode, done.stdout), done.stderr[-2_000:]
