"""Preloading as the agent sees it: which commands, which interpreters, and what goes wrong."""

import errno
import io
import os
import resource
import signal
import socket
import sys
from pathlib import Path

import pytest
import worker_kit
from elrun.agent.preload import fork_server_process, preload
from elrun.agent.preload.executor import PreloadedExecutor
from elrun.agent.preload.hook import imports
from elrun.agent.preload.lessons import Learnt
from elrun.agent.preload.preload import Preloading, begin_preloading
from elrun.agent.processes.guardian import Guardian
from elrun.agent.processes.slot import Slot
from elrun.agent.system.pidfd import wait_briefly

PYTHON = sys.executable
PATIENCE_S = 30


def test_the_fork_server_is_installed():
    """It is no module of the package, and would be forgotten first."""
    assert Path(fork_server_process.__file__).with_name("hook").joinpath("fork_server.py").is_file()


@pytest.fixture(name="guardian")
def _guardian():
    guardian = Guardian.start()
    yield guardian
    guardian.release()


@pytest.fixture(name="preloading")
def _preloading(guardian, tmp_path):
    """Start a preloading process for a script."""
    started = []

    def start(text, modules=("json",), slot=None):
        path = tmp_path / "script.py"
        path.write_text(text)
        started.append(Preloading(modules, [PYTHON, str(path)], dict(os.environ), guardian, slot))
        worker_kit.wait_until(started[-1].is_settled)
        return started[-1]

    yield start
    for each in started:
        each.close()


def environment_of(guardian):
    return {**os.environ, "ELRUN_AGENT": guardian.mark, "PATH": os.environ["PATH"]}


@pytest.mark.integration
def test_a_forked_worker_is_a_child_like_any_other(preloading, guardian):
    """It is waited for, has an exit code, and is reaped."""
    origin = preloading("import sys; sys.exit(int(sys.argv[1]))")

    worker = origin.fork([*origin.program, "5"], environment_of(guardian), {0: 0, 1: 1, 2: 2})
    worker_kit.wait_until(worker.look)
    pid, exitcode = worker.pid, worker.exitcode
    assert pid in worker_kit.children()
    worker.let_go()

    assert 5 == exitcode
    assert pid not in worker_kit.children()


@pytest.mark.integration
def test_workers_that_are_forked_together_are_children_like_any_other(preloading, guardian):
    """Each has what it is to run of its own."""
    origin = preloading("import sys; sys.exit(int(sys.argv[1]))")
    streams = {0: 0, 1: 1, 2: 2}

    with origin.forking(3, ()):
        workers = [
            origin.fork([*origin.program, code], environment_of(guardian), streams)
            for code in ("5", "6", "7", "8")  # one more than were forked
        ]
    for each in workers:
        worker_kit.wait_until(each.look)
    assert {each.pid for each in workers} <= worker_kit.children()
    for each in workers:
        each.let_go()

    assert [5, 6, 7, 8] == [each.exitcode for each in workers]


@pytest.mark.integration
def test_those_are_forked_together_that_do_not_wait_already(preloading, guardian):
    """One that waits does not make each of the others a fork of its own."""
    origin = preloading("import sys; sys.exit(int(sys.argv[1]))")
    origin.waiting.keep(1)
    worker_kit.wait_until(lambda: origin.waiting.tick() or origin.waiting.ready_count)
    streams = {0: 0, 1: 1, 2: 2}

    with origin.forking(4, ()):
        ahead = len(origin._ahead)
        workers = [
            origin.fork([*origin.program, code], environment_of(guardian), streams)
            for code in ("5", "6", "7", "8")
        ]
    for each in workers:
        worker_kit.wait_until(each.look)
        each.let_go()

    assert (3, [5, 6, 7, 8]) == (ahead, [each.exitcode for each in workers])


@pytest.mark.integration
def test_no_zombie_is_left_of_a_group_if_one_of_it_can_not_be_watched(preloading, monkeypatch):
    """There may be no descriptor for its pidfd: all of the group end, and are reaped."""
    origin = preloading("")
    before = worker_kit.children()
    opened = []

    def open_two(pid):
        opened.append(pid)
        if len(opened) > 2:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return os.pidfd_open(pid)

    with monkeypatch.context() as patch:
        patch.setattr("elrun.agent.processes.process._open_pidfd", open_two)
        with origin.forking(8, ()):
            assert [] == origin._ahead

    assert (3, before) == (len(opened), worker_kit.children())
    with origin.forking(2, ()):
        assert 2 == len(origin._ahead)


@pytest.mark.integration
def test_those_that_are_forked_together_and_never_begin_are_ended(preloading):
    """They have run nothing of the script, and are reaped."""
    origin = preloading("")
    before = worker_kit.children()

    with origin.forking(3, ()):
        between = worker_kit.children()

    assert 3 == len(between - before)
    assert before == worker_kit.children()


@pytest.mark.integration
def test_a_fork_that_fails_leaves_no_descriptor_open(preloading, monkeypatch, tmp_path):
    """All workers that are forked later would inherit it."""
    tmp_path.joinpath("ignores.py").write_text(
        "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    origin = preloading("", modules=("ignores",))
    folder = f"/proc/{origin.pid}/fd"
    before = len(os.listdir(folder))

    for _ in range(3):
        with origin.forking(2, ()):
            assert [] == origin._ahead

    assert before == len(os.listdir(folder))


@pytest.mark.integration
def test_where_there_are_no_descriptors_for_a_group_none_is_left_of_it(preloading, guardian):
    """Each is forked by itself then, as far as that is possible."""
    origin = preloading("")
    before, open_before = worker_kit.children(), os.listdir("/proc/self/fd")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, open_before))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 5, limits[1]))
    try:
        with origin.forking(8, ()):
            worker = origin.fork(origin.program, environment_of(guardian), {0: 0, 1: 1, 2: 2})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    worker_kit.wait_until(worker.look)
    worker.let_go()

    assert 0 == worker.exitcode
    assert before == worker_kit.children()
    assert len(open_before) == len(os.listdir("/proc/self/fd"))


@pytest.mark.integration
def test_no_worker_runs_without_the_agent_s_word(preloading, guardian, monkeypatch, tmp_path):
    """If the agent can't hear of it, it ends before its first line."""
    origin = preloading(f"open({str(tmp_path / 'ran')!r}, 'w')")
    before = worker_kit.children()
    monkeypatch.setattr(fork_server_process, "read_answer", _hear_nothing)

    with pytest.raises(ConnectionResetError):
        origin.fork(origin.program, environment_of(guardian), {0: 0, 1: 1, 2: 2})

    worker_kit.wait_until(lambda: worker_kit.children() - before)
    (orphan,) = worker_kit.children() - before
    os.waitpid(orphan, 0)
    assert not (tmp_path / "ran").exists()
    assert not origin.is_usable


def _hear_nothing(_):
    raise ConnectionResetError


@pytest.mark.integration
def test_a_process_that_is_to_hurry_forks_as_before(preloading, guardian):
    """What ends the pauses of an import is no request, and is not answered."""
    origin = preloading("")

    origin.hurry()
    worker = origin.fork(origin.program, environment_of(guardian), {0: 0, 1: 1, 2: 2})
    worker_kit.wait_until(worker.look)

    assert 0 == worker.exitcode
    worker.let_go()


@pytest.mark.integration
def test_a_process_that_is_to_hurry_before_it_has_begun_keeps_its_priority(preloading, tmp_path):
    """An attempt may end when its agent has just asked for an import behind it."""
    policy = os.sched_getscheduler(0)
    if not imports._may_return_to(policy, os.sched_getparam(0)):
        pytest.skip("no process may leave the lowest priority here: none takes it")
    origin = preloading("")
    seen, module = tmp_path / "seen", tmp_path / "own.py"
    text = (
        "import os\nwith open({!r}, 'w') as file:\n    print(os.sched_getscheduler(0), file=file)"
    )
    module.write_text(text.format(str(seen)))
    os.kill(origin.pid, signal.SIGSTOP)
    origin.import_more([Learnt("own", str(module), ())], (), out_of_the_way=True)

    origin.hurry()
    os.kill(origin.pid, signal.SIGCONT)
    worker_kit.wait_until(origin.is_settled)

    assert f"{policy}\n" == seen.read_text()
    assert origin.is_usable


@pytest.fixture(name="many_descriptors")
def _many_descriptors():
    """Hold as many descriptors as the agent of some hundred workers does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    except ValueError:
        pytest.skip("a process may not have that many descriptors here")
    fds = []
    while not fds or fds[-1] < 1024:
        fds.append(os.open(os.devnull, os.O_RDONLY))
    yield
    for fd in fds:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.integration
def test_modules_are_imported_behind_any_number_of_workers(
    many_descriptors, preloading, guardian, tmp_path
):
    """The number of the line to the process may be above 1023, which `select` doesn't take."""
    (tmp_path / "own.py").touch()
    origin = preloading("")

    origin.import_more([Learnt("own", str(tmp_path / "own.py"), ())], (), out_of_the_way=True)
    worker_kit.wait_until(origin.is_settled)

    assert origin.is_usable


@pytest.mark.integration
@pytest.mark.parametrize("text", [b"", b"12", b"odd words here"])
def test_a_process_whose_waits_are_not_told_has_not_waited(preloading, monkeypatch, text):
    """The agent's loop asks for it, and a job is not to end by it."""
    origin = preloading("")
    monkeypatch.setattr(preload, "open", lambda *_: io.BytesIO(text), raising=False)

    assert 0.0 == origin.waited_s()


@pytest.mark.integration
def test_the_line_of_a_waiting_worker_ends_with_it(preloading):
    """So one that was killed costs a restart no time: nobody waits for its answer."""
    waiting = preloading("").waiting
    waiting.keep(1)
    waiting.tick()
    while fds := waiting.filenos():  # none once it is there: then nothing wakes a wait
        wait_briefly(fds, PATIENCE_S)
        waiting.tick()
    (ready,) = waiting._ready

    os.kill(ready.process.pid, signal.SIGKILL)

    assert wait_briefly([ready.fileno()], PATIENCE_S)
    assert waiting.take(()) is None


@pytest.mark.integration
def test_a_descriptor_that_a_module_holds_is_not_taken_from_it(preloading, guardian, tmp_path):
    """The worker is executed instead, and the next may be forked again."""
    (tmp_path / "holder.py").write_text("import os; os.dup2(os.open('/dev/null', 0), 77)")
    origin = preloading("import os; os.fstat(77)", modules=("holder",))
    fds = {0: 0, 1: 1, 2: 2}

    with pytest.raises(OSError, match="a module holds descriptor 77"):
        origin.fork(origin.program, environment_of(guardian), {**fds, 77: 0})
    worker = origin.fork(origin.program, environment_of(guardian), fds)
    worker_kit.wait_until(worker.look)

    assert 0 == worker.exitcode
    worker.let_go()


@pytest.mark.integration
def test_descriptors_get_the_numbers_that_are_asked_for(preloading, guardian):
    """In whatever order they arrive."""
    ours, theirs = socket.socketpair()
    origin = preloading(
        "import os\nfor fd in range(3, 9): os.write(fd, b'%d ' % fd)\nos.write(1, b'end')"
    )
    fds = {fd: theirs.fileno() for fd in (8, 1, 7, 6, 3, 5, 4, 2, 0)}

    worker = origin.fork(origin.program, environment_of(guardian), fds)
    worker_kit.wait_until(worker.look)
    worker.let_go()

    with ours, theirs:
        assert b"3 4 5 6 7 8 end" == ours.recv(100)


@pytest.mark.integration
def test_a_large_environment_arrives(preloading, guardian):
    """Larger than what a socket holds at once, with bytes that are no text."""
    large = {f"LARGE_{i}": "x" * 100_000 for i in range(10)} | {"BYTES": "\udcff"}
    origin = preloading(
        "import os\nlengths = {len(v) for k, v in os.environ.items() if k.startswith('LARGE')}\n"
        "raise SystemExit(7 if lengths == {100_000} and os.environb[b'BYTES'] == b'\\xff' else 1)"
    )

    worker = origin.fork(origin.program, {**environment_of(guardian), **large}, {0: 0, 1: 1, 2: 2})
    worker_kit.wait_until(worker.look)
    worker.let_go()

    assert 7 == worker.exitcode


@pytest.mark.integration
def test_another_program_is_executed(preloading, guardian, caplog):
    """Only what was preloaded is forked; one warning says so."""
    origin = preloading("raise SystemExit(1)")
    executor = PreloadedExecutor(origin)
    for _ in range(2):
        worker = executor.execute(
            [PYTHON, "-c", "raise SystemExit(4)"], environment_of(guardian), None, None
        )
        worker_kit.wait_until(worker.look)
        worker.let_go()

        assert 4 == worker.exitcode

    assert 1 == caplog.text.count("is another program than was preloaded; workers start without")


@pytest.mark.integration
@pytest.mark.parametrize("size", [1, 1_000_000], ids=["unanswered", "unread"])
def test_a_suspended_process_is_given_up(preloading, guardian, caplog, size):
    """The agent waits for a bounded time, for an answer or for its order to be read."""
    large = {f"LARGE_{i}": "x" * (size // 10) for i in range(10)}
    origin = preloading("raise SystemExit(4)")
    os.kill(origin.pid, signal.SIGSTOP)
    origin._server._channel.settimeout(0.01)

    worker = PreloadedExecutor(origin).execute(
        list(origin.program), {**environment_of(guardian), **large}, None, None
    )
    worker_kit.wait_until(worker.look)
    worker.let_go()

    assert 4 == worker.exitcode
    assert "does not answer; workers start without" in caplog.text


@pytest.mark.integration
def test_an_import_that_does_not_end_is_given_up(guardian, tmp_path, caplog):
    """It has its time; then its process is ended, and workers are executed."""
    (tmp_path / "endless.py").write_text("import signal; signal.pause()")
    (tmp_path / "script.py").write_text("")
    command = [PYTHON, str(tmp_path / "script.py")]
    origin = Preloading(["endless"], command, dict(os.environ), guardian, patience_s=0)
    pidfds = worker_kit.hold(origin.pid)

    assert (0, True, False) == (origin.patience_left_s(), origin.is_settled(), origin.is_usable)
    assert "preloading endless: not imported within 0 s; workers start without" in caplog.text
    assert worker_kit.all_end(pidfds)
    origin.close()


@pytest.mark.integration
def test_nothing_is_left_open(guardian, tmp_path):
    """Neither where preloading works nor where it can't."""
    (tmp_path / "script.py").write_text("")
    before, children = worker_kit.open_fds(), worker_kit.children()

    begun = begin_preloading(
        ["json"], PYTHON, [str(tmp_path / "script.py")], "spawn", dict(os.environ), guardian
    )
    refused = begin_preloading(["json"], print, [], "fork", dict(os.environ), guardian)
    begun.close()

    assert refused is None
    assert worker_kit.open_fds() <= before
    assert worker_kit.children() <= children


def test_a_slot_keeps_its_number():
    """What is put there is let go afterwards, so that a pipe's reader sees its end."""
    slot = Slot()
    read_end, write_end = os.pipe()

    with slot.hold(write_end) as number:
        os.close(write_end)
        os.write(number, b"x")

    assert (slot.number, b"x", b"") == (number, os.read(read_end, 9), os.read(read_end, 9))
    os.close(read_end)
    slot.close()
