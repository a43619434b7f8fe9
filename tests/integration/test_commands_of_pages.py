"""The commands in the README and in the pages of `docs/` work: `page_kit.py` says which are run."""

import contextlib
import shutil
import signal
import subprocess

import pytest
from job_kit import until
from page_kit import BLOCKS
from page_stage import stage

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

RUN = [block for block in BLOCKS if block.is_run and "slurm" not in block.words]
# This process becomes the shell: what it is asked for at its end is the block's.
BASH = ("-c", "import os, sys; os.execvp('bash', ['bash', '-e', *sys.argv[1:]])")
END_S = 20
"""How long the job of a page has to end, once it is told."""
PROGRAMS = ("curl", "mpirun", "openssl")


@contextlib.contextmanager
def running(elrun, environment):
    """Run a job that can be looked at, and that a command of the page stops."""
    options = ("--standalone", "--rdzv-id", "job7", "--log-dir", "logs", "--tee", 3)
    job = elrun(*options, "train.py", env=environment | {"LONG": "1"})

    def is_seen():
        assert job.process.poll() is None, job.finish()
        return 0 == elrun("status", "job7", env=environment).finish()[0]

    try:
        job.wait_for_line("[default0]:rank")
        until(is_seen)  # its worker is there sooner than its socket
        yield
        assert 143 == job.finish(END_S)[0], "a command of the page stops it"
    finally:
        if job.process.poll() is None:
            job.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):  # then it is killed
                job.finish(END_S)


@pytest.mark.parametrize("block", RUN, ids=str)
def test_a_command_of_a_page_works(elrun, tmp_path, vacant_port, block):
    """It exits as the page says and prints what the page shows."""
    missing = [name for name in PROGRAMS if name in block.body and not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    command = BASH if block.language == "bash" else ()
    expected = set(map(int, block.value("exit", "0").split(",")))
    with contextlib.ExitStack() as around:
        script, environment = around.enter_context(stage(block, tmp_path, vacant_port))
        if "job" in block.words:
            around.enter_context(running(elrun, environment))
        count = int(block.value("nodes", 1))
        started = [elrun("-c", script, command=command, env=environment) for _ in range(count)]

        ends = [each.finish() for each in started]

        assert set() == {code for code, _, _ in ends} - expected, ends
        assert set(block.output) <= {line for _, out, _ in ends for line in out.splitlines()}


def test_the_pages_have_commands():
    """The blocks are found: the test above can fail."""
    assert len(RUN) > 30
    assert sum(bool(block.output) for block in RUN) > 2
