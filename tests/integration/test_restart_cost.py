"""A restart loads nothing: whatever it needs was loaded while the workers ran."""

import os
import subprocess
import sys

NOTE_IMPORTS = """
import os, sys, time
if "ELRUN_AGENT" not in os.environ:  # the agent alone
    out = os.open("imports", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    sys.addaudithook(
        lambda event, args: event == "import"
        and os.write(out, f"{time.monotonic()} {args[0]}\\n".encode())
    )
"""
WORKER = """
import os, signal, sys, time

def rests():
    with open(f"/proc/{os.getppid()}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"

if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    open(os.environ["RANK"], "w").write(str(time.monotonic()))
elif os.environ["RANK"] == "1":
    signal.pause()
else:
    seen = ""
    # What it loads at last, a second after its start, is in there, and it waits again.
    while "control.companion" not in seen or seen != open("imports").read() or not rests():
        seen = open("imports").read()
        time.sleep(0.2)
    open("death", "w").write(str(time.monotonic()))
    sys.exit(1)
"""


def test_a_restart_loads_no_module(tmp_path):
    """Between the death of a worker and the first line of the new attempt's last one."""
    (tmp_path / "sitecustomize.py").write_text(NOTE_IMPORTS)
    (tmp_path / "work.py").write_text(WORKER)
    words = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1", "work.py"]

    done = subprocess.run(
        [sys.executable, "-m", "elrun", *words],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )

    death, *starts = (float((tmp_path / name).read_text()) for name in ("death", "0", "1"))
    imports = [line.split() for line in (tmp_path / "imports").read_text().splitlines()]
    late = [name for at, name in imports if death < float(at) < max(starts)]
    assert [] == late
    assert "restart" in done.stderr
