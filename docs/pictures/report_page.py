"""Draws the pictures of the report's page from a real job of two agents: ``make screenshots``."""

import base64
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from browser_kit import PROGRAM, Browser

HERE = Path(__file__).parent
SIZE = (1000, 1130)
MOST_BYTES = 150_000
TRAIN = """
import os, sys, time

rank, attempt = int(os.environ["RANK"]), os.environ["TORCHELASTIC_RESTART_COUNT"]
batches = []
for step in range(22):
    until = time.monotonic() + 0.2 + 0.15 * rank
    while time.monotonic() < until:
        pass
    batches.append(bytes(1 << 20))
    print(f"step {step} loss {2.3 / (step + 1):.3f}", file=sys.stderr, flush=True)
    if (attempt, rank, step) == ("0", 2, 11):
        raise ValueError("shard 2, batch 11: label 1000 is out of range")
    time.sleep(0.8 - 0.15 * rank)
"""


def run_job(folder):
    """Run a job that restarts once, and return the page of it."""
    (folder / "train.py").write_text(TRAIN)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{probe.getsockname()[1]}"
    elrun = [sys.executable, "-m", "elrun"]
    meeting = ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    options = [*meeting, "--rdzv-id", "resnet", "--nproc-per-node", "2", "--max-restarts", "3"]
    env = {**os.environ, "ELRUN_RUN_DIR": str(folder / "runs")}
    quiet = {"env": env, "cwd": folder, "stderr": subprocess.PIPE}
    jobs = [subprocess.Popen([*elrun, *options, "train.py"], **quiet) for _ in range(2)]
    for job in jobs:
        job.communicate()
    subprocess.run([*elrun, "report", "resnet", "-o", "report.html"], **quiet, check=True)
    page = folder / "report.html"
    page.write_text(page.read_text().replace(str(folder), "/home/me"))
    return page


def draw(page, name, *, is_dark):
    """Write a picture of the page's beginning."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile, SIZE, is_dark=is_dark)
        browser.call("Emulation.setScrollbarsHidden", hidden=True)
        browser.open(page)
        clip = {"x": 0, "y": 0, "width": SIZE[0], "height": SIZE[1], "scale": 1}
        shot = browser.call("Page.captureScreenshot", format="png", clip=clip)
        browser.close()
    data = base64.b64decode(shot["data"])
    if len(data) > MOST_BYTES:
        sys.exit(f"{name} has {len(data)} bytes: {MOST_BYTES} are wanted at most")
    (HERE / name).write_bytes(data)
    print(f"{HERE / name}: {len(data)} bytes")


def main():
    if PROGRAM is None:
        sys.exit("there is no chromium on this machine (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory() as folder:
        page = run_job(Path(folder))
        draw(page, "report-light.png", is_dark=False)
        draw(page, "report-dark.png", is_dark=True)


if __name__ == "__main__":
    main()
