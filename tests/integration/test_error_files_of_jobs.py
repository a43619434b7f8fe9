"""What workers leave in their error files, and what elrun leaves in its own."""

import json
import os
import signal
import stat
import sys

import pytest

pytestmark = pytest.mark.integration

LEAVE = """
import os, socket, sys
path = os.environ["TORCHELASTIC_ERROR_FILE"]
{leave}
sys.exit(3)
"""
ODD_ERROR_FILES = [
    pytest.param("os.mkfifo(path)", id="a pipe"),
    pytest.param("os.mkdir(path)", id="a folder"),
    pytest.param("os.symlink('/dev/zero', path)", id="an endless device"),
    pytest.param("os.symlink(os.ttyname(0) if os.isatty(0) else '/dev/tty', path)", id="a tty"),
    pytest.param("os.mkfifo(path + '.p'); os.symlink(path + '.p', path)", id="a link to a pipe"),
    pytest.param("socket.socket(socket.AF_UNIX).bind(os.path.relpath(path))", id="a socket"),
    pytest.param("open(path, 'w').truncate(10 << 30)", id="ten gigabytes of nothing"),
]
LONG_EXCEPTION = """
from elrun import record

@record
def main():
    raise ValueError("no such shard: " + "x" * 600_000)

main()
"""
LONG_TORCH_RECORD = LONG_EXCEPTION.replace(
    "from elrun import", "from torch.distributed.elastic.multiprocessing.errors import"
)
FAIL_WITHOUT_A_WORD = "import sys; sys.exit(7)"
FAIL_WITH_TRACEBACK = "raise ValueError('no such shard')"
JOIN = ("--rdzv-conf", "join_timeout=1", "--rdzv-id", "x")
HANG = "import signal, sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); signal.pause()"


def message_in(path):
    return json.loads(path.read_text())["message"]


@pytest.mark.parametrize("leave", ODD_ERROR_FILES)
def test_an_odd_error_file_holds_nobody_up(elrun, script, leave):
    """The job ends by the worker's exit code, and says what is wrong with the file."""
    code, _, err = elrun(script(LEAVE.format(leave=leave))).finish()

    assert 3 == code
    assert "rank 0 exited with code 3" in err


def test_a_log_file_that_became_a_pipe_holds_nobody_up(elrun, script, tmp_path):
    """Its end is read for the summary."""
    leave = (
        "log = os.path.join(os.path.dirname(path), 'stderr.log'); os.unlink(log); os.mkfifo(log)"
    )

    job = elrun("--redirects", 3, "--log-dir", tmp_path, script(LEAVE.format(leave=leave)))

    assert 3 == job.finish()[0]


@pytest.mark.parametrize("program", [LONG_EXCEPTION, LONG_TORCH_RECORD], ids=["elrun", "torch"])
def test_a_very_long_exception_is_told(elrun, script, program):
    """Its beginning is; our own ``record`` and torch's write as much as they want."""
    code, _, err = elrun(script(program)).finish()

    assert 1 == code
    assert "ValueError: no such shard: xxx" in err.split("Traceback")[-1]
    assert "left no error file" not in err


@pytest.fixture(name="termination_log")
def _termination_log(tmp_path):
    """An empty file, as Kubernetes mounts it."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("program", "code", "message"),
    [
        (FAIL_WITHOUT_A_WORD, 7, "exited with code 7"),
        (FAIL_WITH_TRACEBACK, 1, "ValueError: no such shard"),
        (LONG_EXCEPTION, 1, "ValueError: no such shard: xxx"),
    ],
)
def test_the_root_cause_stands_in_elrun_s_own_error_file(
    elrun, script, termination_log, program, code, message
):
    """Within the 4096 bytes that Kubernetes shows, and in the shape that torchrun gives it."""
    job = elrun(script(program), env={"TORCHELASTIC_ERROR_FILE": str(termination_log)})

    assert code == job.finish()[0]
    found = message_in(termination_log)
    assert (True, code) == (message in found["message"], found["errorCode"])
    assert termination_log.stat().st_size <= 4096


def test_a_stop_stands_in_elrun_s_own_error_file(elrun, script, termination_log):
    """The file is written before elrun says so on a console that nobody may read."""
    job = elrun(script(HANG), env={"TORCHELASTIC_ERROR_FILE": str(termination_log)})
    job.wait_for_line("ready")
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    assert "SignalException: elrun was stopped by SIGTERM" == message_in(termination_log)["message"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--no-python", "./no-program"], 2, "Refusal: ./no-program"),
        (["--no-python", "./no-interpreter"], 127, "'./no-interpreter' can't be executed"),
        (
            ["--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-endpoint", "{}", *JOIN, "x.py"],
            75,
            "RendezvousTimeoutError: ",
        ),
    ],
)
def test_what_never_started_stands_there_too(
    elrun, tmp_path, termination_log, vacant_endpoint, args, code, message
):
    """A program that is missing, an interpreter that is missing, nodes that never came."""
    (tmp_path / "x.py").touch()
    (tmp_path / "no-interpreter").write_text("#!/nowhere/sh\n")
    (tmp_path / "no-interpreter").chmod(0o755)
    args = [vacant_endpoint if each == "{}" else each for each in args]

    job = elrun(*args, env={"TORCHELASTIC_ERROR_FILE": str(termination_log)})

    assert code == job.finish()[0]
    assert message in message_in(termination_log)["message"]


@pytest.mark.parametrize("path", ["/dev/full", "/nowhere/error.json", "pipe", "."])
def test_an_error_file_that_takes_nothing_changes_nothing(elrun, script, tmp_path, path):
    """A full disk, no such folder, a pipe that nobody reads: the exit code stays, in good time."""
    os.mkfifo(tmp_path / "pipe")

    code, _, err = elrun(
        script(FAIL_WITHOUT_A_WORD), env={"TORCHELASTIC_ERROR_FILE": path}
    ).finish()

    assert 7 == code
    assert f"{path}: the error file can't be written" in err
    assert "rank 0 exited with code 7" in err


def test_a_mounted_file_is_written_in_its_place(tmp_path):
    """As in a container, where it can't be replaced by another file."""
    mounted, seen = tmp_path / "mounted", tmp_path / "seen"
    mounted.write_text("of an earlier run")
    seen.touch()
    command = f"mount --bind {mounted} {seen} || exit 77; exec {sys.executable} -m elrun x.py"
    (tmp_path / "x.py").write_text(FAIL_WITHOUT_A_WORD)
    environment = {**os.environ, "TORCHELASTIC_ERROR_FILE": str(seen)}

    code = os.waitstatus_to_exitcode(
        os.wait4(
            os.posix_spawnp(
                "unshare",
                ["unshare", "-rm", "sh", "-c", f"cd {tmp_path}; {command} 2>{tmp_path}/err"],
                environment,
            ),
            0,
        )[1]
    )

    if code != 7:
        pytest.skip("nothing can be mounted here")
    assert 7 == message_in(mounted)["errorCode"]


EARLY_SIGNAL = """
import os, signal, sys

class Finder:
    def find_spec(name, path=None, target=None):
        if name == "elrun.launcher.cli":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Finder)
"""


def test_a_stop_before_anything_has_begun_stands_there_too(elrun, script, termination_log):
    """In the middle of an import, say, where nothing more may be imported."""
    folder = script(EARLY_SIGNAL, "sitecustomize.py").parent
    variables = {"TORCHELASTIC_ERROR_FILE": str(termination_log), "PYTHONPATH": str(folder)}

    code, _, err = elrun(script(HANG), env=variables).finish()

    assert (130, "elrun: interrupted\n") == (code, err)
    assert "SignalException: elrun was interrupted" == message_in(termination_log)["message"]


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("streams", [("--tee", 3), ("--redirects", 3)])
def test_a_reason_outlives_the_log_folder(elrun, script, tmp_path, streams, levels):
    """The folder was removed while the job ran; the restart has a folder of its own."""
    source = f"""
import os, shutil
folder = os.environ["TORCHELASTIC_ERROR_FILE"]
for _ in range({levels}):
    folder = os.path.dirname(folder)
while os.path.exists(folder):  # elrun may just put a file there
    shutil.rmtree(folder, ignore_errors=True)
raise ValueError("no such shard")
"""
    options = ("--standalone", "--max-restarts", 1, "--log-dir", tmp_path / "logs", *streams)

    code, _, err = elrun(*options, script(source)).finish()

    assert 1 == code
    assert "rank 0 on " in err
    assert " failed: ValueError: no such shard; restarting all workers" in err
    head = err.partition("elrun: script.py failed: ")[2].partition("\n\n")[0]
    assert "ValueError: no such shard" in head
    (made_again,) = (tmp_path / "logs").glob("*/attempt_1/0")
    assert 0o700 == stat.S_IMODE(made_again.stat().st_mode)
