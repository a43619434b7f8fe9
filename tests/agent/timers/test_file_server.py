"""The server of a named pipe, with real pipes and processes."""

import contextlib
import os
import pickle
import re
import signal
import stat
import subprocess
import sys
import threading
import time

import pytest
from elrun.agent.system.process_tree import read_process
from elrun.agent.timers import file_server as file_timer_server
from elrun.agent.timers.file_client import FileTimerClient, FileTimerRequest
from elrun.agent.timers.file_server import FileTimerServer, descends_from
from worker_kit import PATIENCE_S, children, is_alive, open_fds, wait_until

pytestmark = pytest.mark.integration

STUCK = """
import signal, sys
from elrun.agent import timers
timers.configure(timers.FileTimerClient(sys.argv[1], signal=int(sys.argv[2])))
with timers.expires(after=0.05, scope="all-reduce"):
    while True:
        signal.pause()
"""
STUCK_BUT_HANDLES_TERM = "import signal; signal.signal(signal.SIGTERM, lambda *_: None)" + STUCK
TORCHS = """
import sys, time
import torch.distributed.elastic.timer as timer
timer.configure(timer.FileTimerClient(sys.argv[1]))
with timer.expires(after=60, scope="released in time"):
    pass
with timer.expires(after=0.2, scope="all-reduce"):
    time.sleep(1000)
"""


@pytest.fixture(name="serve")
def _serve(tmp_path):
    servers = []

    def start(path=tmp_path / "timers", **options):
        servers.append(FileTimerServer(str(path), "job", **options))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(name="run")
def _run():
    with contextlib.ExitStack() as stack:

        def start(program, *args):
            process = subprocess.Popen([sys.executable, "-c", program, *map(str, args)])
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture(name="sleeper")
def _sleeper(run):
    """A child of the server's process."""
    return run("import signal; signal.pause()")


def send(server, *requests):
    with open(server.file_path, "w") as pipe:
        pipe.writelines(request.to_json() + "\n" for request in requests)


def expired(pid, scope="all-reduce", number=signal.SIGKILL):
    return FileTimerRequest(pid, scope, time.time() - 1, number)


@pytest.mark.parametrize("program", [STUCK, TORCHS], ids=["elrun's client", "torch's client"])
def test_a_process_that_is_stuck_is_ended_by_the_signal_that_it_chose(serve, run, program):
    """SIGKILL, unless it says otherwise."""
    server = serve()

    process = run(program, server.file_path, signal.SIGKILL)

    assert -signal.SIGKILL == process.wait(PATIENCE_S * 3)


def test_another_signal_may_be_chosen(serve, run):
    """One that a program handles, to leave last words."""
    assert -signal.SIGUSR1 == run(STUCK, serve().file_path, signal.SIGUSR1).wait(PATIENCE_S)


def test_a_process_that_survives_its_signal_is_killed(serve, run, monkeypatch):
    """Stuck in C code, it will never come to handle it."""
    monkeypatch.setattr(file_timer_server, "LAST_WORDS_S", 0.1)

    process = run(STUCK_BUT_HANDLES_TERM, serve().file_path, signal.SIGTERM)

    assert -signal.SIGKILL == process.wait(PATIENCE_S)


def test_without_a_signal_it_is_only_told(serve, sleeper, caplog):
    """The client asked for none."""
    server = serve()
    send(server, expired(sleeper.pid, number=0))

    wait_until(lambda: caplog.messages)

    assert re.search(r" for \d+\.\d s; no signal was asked for$", caplog.messages[0])
    assert is_alive(sleeper.pid)


def test_events_are_told(serve, sleeper):
    """With the names that torch gives them; a listener that raises stops nothing."""
    told = []

    def listen(name, request):
        told.append((name, request and request.scope_id))
        raise OSError

    server = serve(log_event=listen)
    send(server, expired(sleeper.pid))
    sleeper.wait(PATIENCE_S)
    server.stop()

    assert [
        ("watchdog started", None),
        ("timer expired", "all-reduce"),
        ("kill worker process", "all-reduce"),
        ("watchdog stopped", None),
    ] == told


@pytest.mark.parametrize("pid_of", [os.getppid, os.getpid], ids=["a stranger", "the server"])
def test_nobody_but_a_descendant_is_ever_signalled(serve, caplog, pid_of):
    """Whoever may write to the pipe could ask for any process's end."""
    send(serve(), expired(pid_of()))

    wait_until(lambda: caplog.messages)

    (message,) = caplog.messages
    assert message.startswith(f"timers: process {pid_of()} was stuck in the timer scope")
    assert message.endswith("says a request, but it is none of ours")


def test_a_timer_of_a_process_that_is_gone_hits_nobody(serve, sleeper, run):
    """Its id may be another's by now: the start time is compared."""
    server = serve()
    earlier = read_process(sleeper.pid).start - 1
    server._table.take(expired(sleeper.pid), earlier, time.monotonic(), time.time())
    other = run("import signal; signal.pause()")

    send(server, expired(other.pid))

    assert -signal.SIGKILL == other.wait(PATIENCE_S)
    assert is_alive(sleeper.pid)


def test_noise_never_stops_the_server(serve, sleeper, caplog):
    """Half a request, a huge one, other formats; one warning, whatever comes."""
    server = serve()
    noise = [b"{" * 100_000, b"\n\0\xff\n[1]\n", b'{"version": 1, "pi', b"x" * 1_000_000, b"\n"]
    with open(server.file_path, "wb") as pipe:
        for piece in noise:
            pipe.write(piece)
            pipe.flush()
    send(server, expired(sleeper.pid))

    assert -signal.SIGKILL == sleeper.wait(PATIENCE_S)
    assert 1 == sum("can't be understood" in message for message in caplog.messages)


def test_many_workers_share_a_pipe(serve, run, tmp_path):
    """No request is torn or lost among those of others, nor when its process ended meanwhile."""
    server = serve()
    program = """
import sys
from elrun.agent import timers
client = timers.FileTimerClient(sys.argv[1])
for number in range(300):
    with timers.expires(after=1000, scope="x" * number, client=client):
        pass
"""
    processes = [run(program, server.file_path) for _ in range(3)]

    assert [0, 0, 0] == [process.wait(PATIENCE_S) for process in processes]
    wait_until(lambda: not server._table.timers)
    assert not server._warned


def test_the_pipe_is_the_user_s_alone_and_leaves_no_trace(tmp_path):
    """Mode 0600, gone after the end, and no descriptor is left."""
    path = tmp_path / "timers"
    before = open_fds()
    server = FileTimerServer(str(path), "job")
    server.start()

    mode = path.stat().st_mode
    server.stop()

    assert (True, 0o600) == (stat.S_ISFIFO(mode), stat.S_IMODE(mode))
    assert not path.exists()
    assert open_fds() <= before  # another test's may have been collected meanwhile


def test_an_abandoned_pipe_is_replaced(serve, tmp_path, sleeper):
    """An agent that was killed left it; nobody reads it."""
    path = tmp_path / "timers"
    os.mkfifo(path)

    send(serve(path), expired(sleeper.pid))

    assert -signal.SIGKILL == sleeper.wait(PATIENCE_S)


def test_another_server_s_pipe_is_left_alone(serve, tmp_path):
    """Two agents of a host that were told the same path."""
    server = serve()

    with pytest.raises(FileExistsError, match="another timer server reads the pipe there"):
        FileTimerServer(server.file_path, "job2")

    assert os.path.exists(server.file_path)


def test_a_file_is_never_removed(tmp_path):
    """The user named it by mistake."""
    path = tmp_path / "data"
    path.write_text("dear")

    with pytest.raises(FileExistsError, match="what stands there is no pipe"):
        FileTimerServer(str(path), "job")

    assert "dear" == path.read_text()


def test_a_client_outlives_the_name_of_its_pipe(serve, sleeper):
    """Whoever cleans up temporary files removes names, not what is open."""
    server = serve()
    client = FileTimerClient(server.file_path)
    client.acquire("a", time.time() + 1000)
    os.unlink(server.file_path)

    client.release("a")

    wait_until(lambda: not server._table.timers)


def test_a_pipe_that_vanishes_is_one_warning(serve, caplog):
    """It may be made anew; the end of the server doesn't stumble over it."""
    server = serve()
    os.unlink(server.file_path)

    server._restore_pipe()
    client = FileTimerClient(server.file_path)
    client.acquire("a", time.time() + 1000)
    server._wake.notify()
    wait_until(lambda: server._table.timers)
    os.unlink(server.file_path)
    server.stop()

    assert [f"timers: the pipe {server.file_path} was removed; it is made anew"] == [
        record.getMessage() for record in caplog.records if record.levelname == "WARNING"
    ]


def test_a_client_without_a_server_says_so(tmp_path):
    """Whether there is no pipe or nobody reads it; it doesn't wait."""
    lonely = tmp_path / "lonely"
    os.mkfifo(lonely)

    for path in (tmp_path / "missing", lonely):
        with pytest.raises(BrokenPipeError, match=f"no timer server reads this pipe.*{path.name}"):
            FileTimerClient(str(path)).acquire("a", time.time())


def test_a_client_finds_a_server_that_was_started_anew(tmp_path):
    """Its pipe has the same name, and is another."""
    path = str(tmp_path / "timers")
    client = FileTimerClient(path)
    for _ in range(2):
        server = FileTimerServer(path, "job")
        server.start()
        client.acquire("a", time.time() + 1000)
        wait_until(lambda server=server: server._table.timers)
        server.stop()


def test_a_client_waits_for_room_in_the_pipe(tmp_path):
    """A server that is slow loses nothing."""
    path = str(tmp_path / "timers")
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    client = FileTimerClient(path)
    client.release("first")
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(client._fd, b"\n" * 4_096)

    writing = threading.Thread(target=client.release, args=("last",))
    writing.start()
    heard = b""
    os.set_blocking(reader, True)
    while b'"last"' not in heard[-200:]:
        heard += os.read(reader, 1 << 16)
    writing.join()
    os.close(reader)


def test_a_scope_with_too_long_a_name_is_refused(serve):
    """A write of more than PIPE_BUF bytes could be torn."""
    client = FileTimerClient(serve().file_path)

    with pytest.raises(ValueError, match="a request has 4096 bytes at most"):
        client.acquire("x" * 4_096, time.time())


def test_a_client_may_be_sent_to_another_process(tmp_path):
    """It has neither the descriptors nor the stack of the first one."""
    client = pickle.loads(pickle.dumps(FileTimerClient("path", signal.SIGTERM)))

    assert ("path", signal.SIGTERM, -1, None) == (
        client._file_path, client._signal, client._fd, client._stack,
    )  # fmt: skip


def test_a_server_sleeps_while_nothing_happens(serve):
    """It waits for requests without a time-out."""
    assert float("inf") == serve()._next_deadline()


def test_a_grandchild_descends_from_us(run, tmp_path):
    """A worker may be a shell script that starts the program; our parent is no descendant."""
    dies_with_its_parent = "__import__('ctypes').CDLL(None).prctl(1, signal.SIGKILL)"
    run(f"import os, signal; os.fork() or {dies_with_its_parent}; signal.pause()")
    wait_until(lambda: any(descends_from(pid, children()) for pid in map(int, pids())))

    assert not descends_from(os.getppid(), {os.getpid()})
    assert not descends_from(os.getpid(), {os.getpid()})


def pids():
    return filter(str.isdecimal, os.listdir("/proc"))
