"""Standard error that is a pipe or a file: carried as if nothing stood between, its end kept."""

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from job_kit import until

MANY = 300_000
SAY_MUCH = """
import os, sys
text = b"".join(b"%09d\\n" % number for number in range(30000))
with open("pid", "w") as file:
    file.write(str(os.getpid()))
while text:
    text = text[os.write(2, text):]
"""
FAIL = "\nsys.exit(3)"


def has_ended(path):
    """Return whether the process whose id the file has was there, and has gone."""
    try:
        return bool(path.read_text()) and not os.path.exists(f"/proc/{int(path.read_text())}")
    except FileNotFoundError:
        return False


@pytest.fixture(name="small")
def _small():
    """A pipe that takes little: its two ends."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


@pytest.fixture(name="run")
def _run(tmp_path, script, small):
    """Start a job of one worker whose standard error nobody reads yet."""
    jobs = []

    def run(source, *options, **streams):
        command = [sys.executable, "-m", "elrun", "--standalone", *map(str, options)]
        jobs.append(
            subprocess.Popen(
                [*command, script(source)],
                cwd=tmp_path,
                **{"stderr": small[1], "stdout": subprocess.DEVNULL, **streams},
            )
        )
        return jobs[-1]

    yield run
    for job in jobs:
        job.kill()
        job.wait()


def read_to_end(small):
    os.close(small[1])
    with open(small[0], "rb", closefd=False) as file:
        return file.read()


def numbers(count=30000):
    return b"".join(b"%09d\n" % number for number in range(count))


@pytest.mark.parametrize("options", [(), ("--tee", 3)], ids=["plain", "--tee"])
@pytest.mark.parametrize("end", ["", FAIL], ids=["success", "failure"])
def test_a_reader_that_pauses_at_the_end_misses_nothing(run, small, tmp_path, options, end):
    """What the worker wrote itself would not be lost: so elrun waits, however long it takes."""
    job = run(SAY_MUCH + end, *options)
    os.set_blocking(small[0], True)
    first = os.read(small[0], 1 << 16)
    # Without a log file, the worker can't end before all but a few pipes are read.
    while not options and len(first) < MANY - 100_000:
        first += os.read(small[0], 1 << 16)
    until(lambda: has_ended(tmp_path / "pid"))
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(9)  # longer than any console may be stuck, on a busy machine, too

    text = first + read_to_end(small)

    assert (3 if end else 0) == job.wait(60)
    mark = b"[default0]:" if options else b""
    lines = [line for line in text.splitlines() if not line.startswith(b"elrun: ")]
    assert [mark + line for line in numbers().splitlines()] == lines[:30000]
    assert (b"failed" in text) == bool(end)
    assert b"waiting until the console takes" in text


@pytest.mark.parametrize("options", [(), ("--tee", 3)], ids=["plain", "--tee"])
def test_a_signal_ends_the_wait_for_a_reader(run, small, tmp_path, options):
    """After ``--shutdown-timeout``."""
    job = run(SAY_MUCH, *options, "--shutdown-timeout", 0.5)
    text = b""
    while not options and len(text) < MANY - 100_000:
        text += os.read(small[0], 1 << 16)
    until(lambda: has_ended(tmp_path / "pid"))

    job.send_signal(signal.SIGTERM)

    assert 143 == job.wait(60)


def test_a_second_ctrl_c_ends_the_wait_for_a_reader_at_once(run, small, tmp_path):
    """However long ``--shutdown-timeout`` is."""
    job = run(SAY_MUCH, "--tee", 3, "--shutdown-timeout", 1000)
    until(lambda: has_ended(tmp_path / "pid"))
    job.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        job.wait(1)

    job.send_signal(signal.SIGINT)

    assert 130 == job.wait(60)


RESTARTED = """
import os, sys
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
os.write(2, f"attempt {attempt} {'x' * 3000}\\n".encode())
os.write(2, f"attempt {attempt} {'y' * 3000}\\n".encode())
open("attempt" + attempt, "w").close()
sys.exit(attempt == "0")
"""


def test_a_restart_waits_for_no_reader(run, small, tmp_path):
    """The next attempt runs, and what it prints comes after what the last one has printed."""
    job = run(RESTARTED, "--max-restarts", 1)
    until((tmp_path / "attempt1").exists)

    text = read_to_end(small)

    assert 0 == job.wait(60)
    lines = [line[:14] for line in text.splitlines() if line.startswith(b"attempt")]
    assert [b"attempt 0 xxxx", b"attempt 0 yyyy", b"attempt 1 xxxx", b"attempt 1 yyyy"] == lines


def test_last_words_reach_the_report_though_nobody_reads(run, tmp_path):
    """The report's file has them, before the console takes anything."""
    source = "import os, sys\nprint('ERROR: no license', file=sys.stderr)\nos._exit(9)"
    job = run(f"{SAY_MUCH.replace('30000', '4000')}\n{source}", "--report", "report.json")

    def root():
        report = json.loads((tmp_path / "report.json").read_text())
        return json.dumps(report) if "license" in json.dumps(report) else ""

    until(lambda: (tmp_path / "report.json").exists() and root())
    assert job.poll() is None


@pytest.mark.parametrize("code", [0, 4])
def test_a_job_does_not_wait_for_what_a_shell_left_running(elrun, script, tmp_path, code):
    """After a success that lives on, and can go on to print; after a failure it is killed."""
    go = tmp_path / "go"
    os.mkfifo(go)
    late = "(trap '' TERM; read line < go; echo uploaded >&2) &"
    shell = script(f"{late} echo said >&2; exit {code}", "x.sh")
    job = elrun("--standalone", "--shutdown-timeout", 1, "--no-python", "bash", shell)
    assert code == job.process.wait(60)

    if code == 0:
        go.write_text("now\n")
    err = job.process.stderr.read()

    assert ("said" in err, "uploaded" in err) == (True, code == 0)


def test_a_file_that_may_not_grow_costs_no_worker(script, tmp_path):
    """It would have got the error itself; elrun says nothing where nothing can be said."""
    path = script(f"{SAY_MUCH}\nopen('done', 'w').close()")
    command = f"ulimit -f 8; exec {sys.executable} -m elrun --standalone {path} 2> log"

    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False)

    assert (0, True) == (done.returncode, (tmp_path / "done").exists())
    assert numbers().startswith((tmp_path / "log").read_bytes()[:4096])


def test_a_reader_that_leaves_is_gone_for_the_worker(script, tmp_path):
    """As without elrun: it gets SIGPIPE, or the error where that is ignored, as in Python."""
    path = script(SAY_MUCH.replace("30000", "300000"))
    command = f"{sys.executable} -m elrun --standalone {path} 2> >(head -c 10 > head)"

    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, check=False)

    assert 1 == done.returncode


def test_streams_that_a_worker_asks_about(elrun, script, tmp_path):
    """No terminal, as before; a pipe, which can't be sought; both closed by it without harm."""
    source = """
import os, stat, sys
print(sys.stderr.isatty(), stat.S_ISFIFO(os.fstat(2).st_mode), sys.stderr.seekable())
sys.stdout.flush()
os.close(2)
os.close(1)
"""
    code, out, err = elrun("--standalone", script(source)).finish()

    assert (0, "False True False\n", "") == (code, out, err)


def test_a_flood_without_a_line_costs_the_agent_no_memory(script, tmp_path):
    """200 MB of zeros: they pass."""
    shell = script("head -c 200000000 /dev/zero >&2", "x.sh")
    job = subprocess.Popen(
        [sys.executable, "-m", "elrun", "--standalone", "--no-python", "sh", shell],
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    seen = 0
    while chunk := os.read(job.stderr.fileno(), 1 << 20):
        seen += len(chunk)
        if seen >= 199_000_000:
            break
    status = Path("/proc", str(job.pid), "status").read_text()
    peak_kb = int(status.partition("VmHWM:")[2].split()[0])
    rest = job.stderr.read()
    job.stderr.close()

    assert (0, 200_000_000) == (job.wait(60), seen + len(rest))
    assert peak_kb < 60_000


@pytest.mark.parametrize("is_same", [True, False])
def test_the_summary_follows_no_unfinished_line(run, small, is_same):
    """A progress bar has none; what a worker has printed stays as it is."""
    source = "import os; os.write(2, b'step 1\\rstep 2'); os._exit(3)"
    job = run(source, **({"stdout": small[1]} if is_same else {}))
    os.close(small[1])

    with open(small[0], closefd=False, newline="") as printed:
        shown = printed.read()

    assert 3 == job.wait(60)
    assert shown.startswith("step 1\rstep 2\nelrun: script.py failed: rank 0 "), shown
