"""The machine that the suite for GPUs runs on, and how a job is run there and judged."""

import os
import signal
import subprocess
import sys
from pathlib import Path

TIMEOUT_S = 120

HEAD = """
import os, signal, sys, time
import torch
import torch.distributed as dist
on = os.environ["SUITE_DEVICE"]
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
rank = int(os.environ["RANK"])
def say(*words):
    sys.stdout.write(" ".join(map(str, words)) + "\\n")
    sys.stdout.flush()
def sync():
    if on == "cuda":
        torch.cuda.synchronize()
"""


class Skip(Exception):
    """This machine can't show it; the text says what is missing."""


class Machine:
    """What there is, and how a job is run.

    Args:
        on: cuda or cpu.
        folder: For scripts.
    """

    def __init__(self, on, folder):
        self.on = on
        self.folder = Path(folder)
        self.env = {**os.environ, "SUITE_DEVICE": on}
        self.gpus = self._count()

    def _count(self):
        if self.on == "cpu":
            return 0
        asked = subprocess.run(
            [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"],
            capture_output=True,
            check=False,
            text=True,
        )
        return int(asked.stdout or 0)

    @property
    def collective(self):
        return "nccl" if self.on == "cuda" else "gloo"

    def need_cuda(self):
        if self.on != "cuda":
            raise Skip("needs a GPU")

    def start(self, script, *options, env=None):
        path = self.folder / f"job{len(list(self.folder.iterdir()))}.py"
        path.write_text(HEAD + script)
        return subprocess.Popen(
            [sys.executable, "-m", "elrun", *map(str, options), str(path)],
            env={**self.env, **(env or {})},
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, script, *options, env=None, code=0):
        job = self.start(script, *options, env=env)
        out, err = finish(job)
        expect(job.returncode == code, f"exit code {job.returncode}, expected {code}", out, err)
        return out, err


def finish(job):
    try:
        return job.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        job.send_signal(signal.SIGTERM)
        out, err = job.communicate(timeout=60)
        raise AssertionError(f"not done within {TIMEOUT_S} s\n{out}\n{err}") from None


def expect(is_so, what, *texts):
    if not is_so:
        raise AssertionError("\n".join([what, *texts]))
