"""`elrun status` of real jobs: what it shows, whom it answers, and what it costs the agent."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from elrun.agent.serving.local_sockets import connect_in
from job_kit import until
from watching_kit import WAITS, Watching

HANGS = WAITS.replace(
    "while ", "if os.environ['RANK'] == '7': import threading; threading.Event().wait()\nwhile "
)
NOBODY = 65534


@pytest.fixture(name="watching")
def _watching(elrun, tmp_path):
    return Watching(elrun, tmp_path / "runs")


def test_a_job_of_64_workers_is_shown(watching, script, tmp_path):
    """A row for each rank, with what its process uses and what it has printed last."""
    job = watching.start(
        "--standalone", "--nproc-per-node", 64, "--rdzv-id", "many", script(HANGS), ready=64
    )

    shown = watching.run("status")
    found = watching.status("many")
    (tmp_path / "go").touch()
    for pid in [rank["pid"] for rank in found["ranks"] if rank["rank"] == 7]:
        os.kill(pid, signal.SIGKILL)

    assert -signal.SIGKILL == job.finish()[0] - 128 - 2 * signal.SIGKILL
    assert (0, "") == (shown.returncode, shown.stderr)
    assert shown.stdout.startswith("run many (script.py): running for ")
    assert "round 0; 1 node; 64 ranks; restarts: 0 spent, 0 left\n" in shown.stdout
    row = r"^(\d+) +\S+ +\d+ +\S+ +\d+% +[\d.]+ MiB .* rank (\d+) is ready$"
    rows = re.findall(row, shown.stdout, re.MULTILINE)
    assert [(str(n), str(n)) for n in range(64)] == rows
    assert [*range(64)] == [rank["rank"] for rank in found["ranks"]]
    assert ("running", 0, 64) == (found["state"], found["round"], found["world_size"])


def test_two_agents_of_one_job_on_one_host_are_one_job(watching, script, tmp_path, vacant_endpoint):
    """Whichever of them is asked first."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script(WAITS)
    first = watching.start(*meeting, "--rdzv-id", "two", "--nproc-per-node", 2, path, ready=0)
    second = watching.start(*meeting, "--rdzv-id", "two", "--nproc-per-node", 2, path, ready=2)
    until(lambda: len(watching.status()["ranks"]) == 4)

    found = watching.status()
    (tmp_path / "go").touch()

    assert [0, 0] == [job.finish()[0] for job in (first, second)]
    assert [0, 1] == [node["group_rank"] for node in found["nodes"]]
    assert [0, 1, 2, 3] == [rank["rank"] for rank in found["ranks"]]


def test_a_job_that_waits_for_nodes_is_shown(watching, script, vacant_endpoint):
    """It has no rank yet."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    job = watching.start(*meeting, "--rdzv-id", "alone", script(WAITS), ready=0)

    found = watching.status()
    job.signal(signal.SIGTERM)

    assert (143, "meeting", []) == (job.finish()[0], found["state"], found["ranks"])


def test_jobs_that_are_not_there_or_too_many_are_a_sentence(watching, script, tmp_path):
    """And what there is, a line each. Exit code 1, and 2 where it is unclear which one is meant."""
    none = watching.run("status")
    path = script(WAITS)
    jobs = [watching.start("--standalone", "--rdzv-id", "same", path) for _ in range(2)]

    wrong, unclear = watching.run("status", "other"), watching.run("status", "same")
    by_pid = watching.status(jobs[1].process.pid)
    (tmp_path / "go").touch()

    assert [0, 0] == [job.finish()[0] for job in jobs]
    assert [(1, 1), (1, 3), (2, 3)] == [
        (done.returncode, done.stderr.count("\n")) for done in (none, wrong, unclear)
    ]
    assert "no job of yours runs on this host" in none.stderr
    assert "there is no run 'other' of yours on this host\n  running: same" in wrong.stderr
    assert "several runs are meant; name one by its run id or its agent's" in unclear.stderr
    assert "\n  running: same (script.py, agent " in unclear.stderr
    assert "same" == by_pid["run_id"]


@pytest.mark.parametrize("ends_at_once", [False, True])
def test_the_path_of_a_script_names_its_run(watching, script, tmp_path, ends_at_once):
    """While it runs and later, from whichever folder; another script of that name has no run."""
    (tmp_path / "jobs").mkdir()
    path = script("import sys; sys.exit(3)" if ends_at_once else WAITS, "jobs/a.py")
    other = script("", "a.py")
    if ends_at_once:
        watching._elrun("--standalone", path, env=watching.env).finish()
    else:
        job = watching.start("--standalone", "jobs/a.py")

    found = watching.run("status", "../jobs/a.py", cwd=tmp_path / "jobs")
    wrong = watching.run("status", other)
    (tmp_path / "go").touch()
    if not ends_at_once:
        assert 0 == job.finish()[0]

    assert (0, True) == (found.returncode, "(a.py)" in found.stdout), found
    assert (1, True) == (wrong.returncode, "\n  did you mean a.py?\n" in wrong.stderr), wrong


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_run_that_has_ended_is_shown_from_its_report(watching, script, is_killed):
    """Also where its agent was killed, and its socket is still there."""
    job = watching.start("--standalone", "--rdzv-id", "over", script(WAITS))
    until(lambda: [*watching.folder.glob("*/report.json")])

    job.signal(signal.SIGKILL if is_killed else signal.SIGTERM)
    job.finish()

    done = watching.run("status", "over")
    words = "killed\n" if is_killed else "stopped, exit code 143, ended 20"
    assert (0, is_killed) == (done.returncode, bool(watching.sockets()))
    assert f"run over (script.py): {words}" in done.stdout, done


def test_a_killed_job_shows_what_its_log_files_end_with(watching, script, tmp_path):
    """The report does not know how its ranks ended, nor what they printed last."""
    logs = ("--log-dir", tmp_path / "logs", "--tee", 3)
    job = watching.start("--rdzv-id", "over", "--nproc-per-node", 2, *logs, script(WAITS), ready=0)
    until(lambda: [*watching.folder.glob("*/report.json")])
    until(
        lambda: len([each for each in tmp_path.glob("logs/**/stderr.log") if each.read_text()]) == 2
    )

    job.signal(signal.SIGKILL)
    job.finish()

    found = watching.status("over")
    assert "killed" == found["state"]
    assert 2 * ["killed with its agent"] == [each["state"] for each in found["ranks"]]
    assert {"ready", "rank 0 is ready", "rank 1 is ready"} > {
        each["last_line"] for each in found["ranks"]
    }


def test_a_short_success_leaves_no_folder(watching, script, tmp_path):
    """Though it could be asked while it ran."""
    job = watching.start("--standalone", script(WAITS))
    (tmp_path / "go").touch()
    code = job.finish()[0]

    left = [path.name for run in watching.folder.glob("*.run") for path in run.iterdir()]
    assert 0 == code
    assert left == [] or "report.json" in left  # a slow machine took it for a long one


def test_an_agent_that_is_stopped_is_named(watching, script):
    """It does not answer; the command ends all the same."""
    job = watching.start("--standalone", "--rdzv-id", "still", script(WAITS))
    job.signal(signal.SIGSTOP)

    done = watching.run("status")
    job.signal(signal.SIGCONT)
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    assert 1 == done.returncode
    assert "does not answer within 5 s: it is stopped (SIGSTOP" in done.stderr


def test_the_path_of_a_socket_may_be_long(elrun, script, tmp_path):
    """The kernel takes 107 bytes."""
    parent = tmp_path / ("long" * 30)
    parent.mkdir()
    watching = Watching(elrun, parent / ("longer" * 30))
    job = watching.start("--standalone", "--rdzv-id", "r" * 100, script(WAITS))

    found = watching.status()
    (tmp_path / "go").touch()

    assert (0, "r" * 100) == (job.finish()[0], found["run_id"])


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("file", "Not a directory"),
        ("a/b/c", "No such file or directory"),
        ("/proc/runs", "No such file or directory"),
        ("link", "No such file or directory"),
    ],
)
def test_a_job_whose_named_folder_can_not_be_had_says_so_and_runs(
    elrun, script, tmp_path, place, reason
):
    """In one line a second after its start, before anybody looks for it in vain."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    folder = os.path.join(tmp_path, place)
    job = elrun("--standalone", script(WAITS), env={"ELRUN_RUN_DIR": folder})

    line = next(line for line in job.process.stderr if line.startswith("elrun: "))
    (tmp_path / "go").touch()
    code, _, err = job.finish()

    assert (0, "") == (code, err)
    assert "elrun: this job can't be looked at, and its report and history are not kept: " in line
    assert f"nothing can be kept in {folder} (ELRUN_RUN_DIR): {reason}" in line


def test_a_job_without_a_folder_runs_without_a_word(elrun, script, tmp_path):
    """Nobody has named one."""
    env = {"ELRUN_RUN_DIR": "", "XDG_RUNTIME_DIR": "", "TMPDIR": str(tmp_path / "nowhere")}
    job = elrun("--standalone", script(WAITS), env=env)
    job.wait_for_line("ready")
    select_for_s(1.5)
    (tmp_path / "go").touch()

    code, _, err = job.finish()

    assert (0, []) == (code, [line for line in err.splitlines() if "can't be" in line])


def select_for_s(seconds):
    """Let a second pass: there is nothing to wait for where nothing happens."""
    signal.sigtimedwait([], seconds)


def as_nobody(*command):
    return [
        shutil.which("setpriv"),
        "--reuid",
        str(NOBODY),
        "--regid",
        str(NOBODY),
        "--clear-groups",
        *command,
    ]


needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user"
)
CONNECT = """
import socket, sys
client = socket.socket(socket.AF_UNIX)
try:
    client.connect(sys.argv[1])
    client.sendall(b"GET /status HTTP/1.1\\r\\n\\r\\n")
    print(client.recv(100))
except OSError as error:
    print(error.strerror)
"""


@needs_root
def test_another_user_gets_nothing(watching, script, tmp_path):
    """Neither from the folder nor, were that open, from the socket."""
    job = watching.start("--standalone", "--rdzv-id", "mine", script(WAITS))
    (path,) = watching.sockets()

    def connect_as_nobody():
        # From nearby, since a socket's path may have 107 bytes.
        command = as_nobody(sys.executable, "-c", CONNECT, f"{path.parent.name}/{path.name}")
        nearby = {"cwd": path.parents[1], "capture_output": True, "text": True}
        return subprocess.run(command, check=False, **nearby).stdout

    closed = connect_as_nobody()
    for each in (path, *path.parents[:-2]):
        each.chmod(0o777)
    opened = connect_as_nobody()
    found = watching.status()
    (tmp_path / "go").touch()

    assert (0, "mine") == (job.finish()[0], found["run_id"])
    assert "Permission denied\n" == closed
    assert opened in ("b''\n", "Connection reset by peer\n", "Broken pipe\n")


def held_by(pid):
    """Return how many descriptors and threads a process has, and its memory in KiB."""
    process = Path(f"/proc/{pid}")
    memory = int(re.search(r"VmRSS:\s+(\d+)", (process / "status").read_text())[1])
    return len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())), memory


def hear(client):
    heard = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 16):
            heard += data
    return heard


def test_what_asks_too_much_costs_the_agent_nothing_that_stays(watching, script, tmp_path):
    """A flood, garbage, half-open connections, and a reader that never reads."""
    job = watching.start("--standalone", "--nproc-per-node", 8, script(WAITS), ready=8)
    folder = str(watching.sockets()[0].parent)
    request = b"GET /status HTTP/1.1\r\n\r\n"

    def ask(data=request):
        with contextlib.closing(connect_in(folder, "control", 60)) as client:
            with contextlib.suppress(ConnectionError):
                client.sendall(data)
            return hear(client)

    ask()
    until(lambda: [*watching.folder.glob("*/report.json")])
    before = held_by(job.process.pid)
    with contextlib.ExitStack() as mute:
        for _ in range(200):
            client = mute.enter_context(contextlib.closing(connect_in(folder, "control", 60)))
            with contextlib.suppress(ConnectionError):
                client.sendall(request[:5])
        answers = [ask() for _ in range(1_000)]
        for garbage in (os.urandom(5_000), b"\0" * 100_000, b"POST / HTTP/1.1\r\n\r\n", b"\n"):
            ask(garbage)
    until(lambda: held_by(job.process.pid)[:2] <= before[:2])
    grown_kib = held_by(job.process.pid)[2] - before[2]
    (tmp_path / "go").touch()

    code, out, err = job.finish()
    assert (0, 8) == (code, out.count("ready")), err
    assert {b"HTTP/1.1 200 OK"} == {answer.partition(b"\r\n")[0] for answer in answers}
    assert grown_kib < 2048


ENDS_BADLY = f"{WAITS}os._exit(7)"


def test_a_worker_s_end_is_noticed_under_a_flood(watching, script, tmp_path):
    """Requests are answered beside the loop."""
    job = watching.start("--standalone", script(ENDS_BADLY))
    folder = str(watching.sockets()[0].parent)
    (tmp_path / "go").touch()

    with contextlib.suppress(OSError), contextlib.ExitStack() as clients:
        while job.process.poll() is None:
            client = clients.enter_context(contextlib.closing(connect_in(folder, "control", 5)))
            client.sendall(b"GET /status HTTP/1.1\r\n\r\n")

    assert 7 == job.finish()[0]


def test_watching_ends_with_the_job(watching, script, tmp_path):
    """The last thing that is shown is how it has ended."""
    job = watching.start("--standalone", "--rdzv-id", "seen", script(WAITS))
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "status", "--watch", "--format", "json"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **watching.env},
    ) as watch:
        first = json.loads(watch.stdout.readline())
        until(lambda: [*watching.folder.glob("*/report.json")])
        job.signal(signal.SIGTERM)
        job.finish()
        last = json.loads(watch.stdout.read().splitlines()[-1])

    assert (0, "running", "stopped") == (watch.returncode, first["state"], last["state"])
