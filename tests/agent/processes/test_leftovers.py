"""What workers started, and may have left behind: all of it ends with them, and nothing else."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import worker_kit
from elrun.agent.processes import leftovers
from worker_kit import EXIT_0, EXIT_3, HANG, Ear, start_shells

pytestmark = pytest.mark.integration

SLEEPER = "sh -c 'echo $$ > {ear}; exec sleep 1000'"


def runs(pid, program):
    """Return whether a process has executed a program by now."""
    return Path(f"/proc/{pid}/comm").read_text() == f"{program}\n"


def test_what_a_worker_runs_in_the_background_is_stopped(shells, ear):
    """Background commands are in the worker's process group."""
    context = shells(f"sleep 1000 & echo $! > {ear.path}; {HANG}")
    pids = ear.hear()

    context.close()

    assert worker_kit.have_ended(pids)


def test_what_a_worker_left_behind_is_stopped_when_another_fails(shells, ear, tmp_path):
    """Neither the failed worker leaves anything running, nor one that had succeeded."""
    ears = [ear, Ear(tmp_path, "another")]
    context = shells(
        f"sleep 1000 & echo $! > {ears[0].path}",
        f"sleep 1000 & echo $! > {ears[1].path}; exit 3",
    )
    pids = [pid for each in ears for pid in each.hear()]
    context.wait()

    context.close()

    assert worker_kit.have_ended(pids)


@pytest.mark.parametrize("child", ["{} &", "setsid {} &", "(setsid {} &) ;", "nohup {} &"])
def test_what_workers_leave_behind_lives_on_when_all_succeed(shells, ear, caplog, child):
    """It is named with its command and the rank that it comes from, and then left alone."""
    context = shells(
        f"trap '' HUP; {child.format(SLEEPER.format(ear=ear.path))} true; exit 0", EXIT_0
    )
    (pid,) = ear.hear()
    worker_kit.wait_until(lambda: runs(pid, "sleep"))
    result = context.wait()
    context.close()

    assert {0: None, 1: None} == result.return_values
    assert worker_kit.is_alive(int(pid))
    assert f"pid {pid} (sleep 1000) of rank 0" in caplog.text
    pidfds = worker_kit.hold(pid)
    worker_kit.kill(pid)
    assert worker_kit.all_end(pidfds)
    worker_kit.wait_until(lambda: int(pid) not in worker_kit.children())


def test_what_ends_at_once_is_not_worth_a_word(shells, caplog, monkeypatch):
    """A resource tracker of Python's outlives its worker by some milliseconds."""
    monkeypatch.setattr(leftovers, "MOMENT_S", worker_kit.PATIENCE_S)  # on a busy machine
    shells("sleep 0.05 & exit 0").wait()

    assert "" == caplog.text


@pytest.mark.parametrize("helper", ["resource_tracker", "forkserver"])
def test_a_helper_of_multiprocessing_is_not_worth_a_word(shells, ear, caplog, helper):
    """It ends with the last process that needs it; on a busy machine, not within a moment."""
    program = f"sleep 1000; : from multiprocessing.{helper} import main"
    shells(f"sh -c 'echo $$ > {ear.path}; {program}' & exit 0").wait()
    pids = ear.hear()
    pidfds = worker_kit.hold(*pids)
    for pid in pids:
        os.killpg(os.getpgid(int(pid)), signal.SIGKILL)

    assert "" == caplog.text
    assert worker_kit.all_end(pidfds)


def test_a_daemon_that_a_fork_server_forked_is_named(shells, ear, caplog, tmp_path):
    """It bears the command of the fork server, which is not worth a word, but is no helper."""
    detached = tmp_path / "detached"
    program = f"echo $$ > {ear.path}; sleep 1000; : from multiprocessing.forkserver import main"
    daemon = f"setsid sh -c 'touch {detached}; {program}' & "
    shells(daemon + f"until [ -e {detached} ]; do sleep 0.02; done; exit 0").wait()
    (pid,) = ear.hear()
    pidfds = worker_kit.hold(pid)
    os.killpg(int(pid), signal.SIGKILL)

    assert f"pid {pid} (sh -c " in caplog.text
    assert worker_kit.all_end(pidfds)


def test_many_leftovers_take_a_few_lines(shells, ear, caplog):
    """All live on."""
    context = shells(
        f"for i in $(seq 20); do sleep 1000 > /dev/null & echo $!; done > {ear.path}; exit 0"
    )
    pids = ear.hear()
    context.wait()
    pidfds = worker_kit.hold(*pids)
    assert not worker_kit.have_ended(pids)
    for pid in pids:
        worker_kit.kill(pid)

    assert worker_kit.all_end(pidfds)
    assert 9 == len(caplog.records)
    assert "left running, too: 12 more processes" in caplog.text


@pytest.mark.parametrize(
    "child",
    [
        pytest.param(f"setsid {SLEEPER} &", id="a session of its own, known by its parents"),
        pytest.param(f"(setsid {SLEEPER} &) ;", id="a daemon, which still carries the mark"),
        pytest.param(f"setsid env -i {SLEEPER} &", id="no mark, but its parents were seen"),
    ],
)
def test_a_descendant_that_left_the_session_is_stopped(shells, ear, child):
    """Whatever it did to be on its own."""
    context = shells(f"{child.format(ear=ear.path)} {HANG}")
    pids = ear.hear()

    context.close()

    assert worker_kit.have_ended(pids)


def test_a_daemon_is_found_while_it_executes_a_program(shells, ear, tmp_path):
    """In that moment it has no environment that could carry a mark."""
    endless = tmp_path / "endless"
    endless.write_text('exec sh "$0"')
    context = shells(f"(setsid sh -c 'echo $$ > {ear.path}; exec sh {endless}' &); exit 3")
    pids = ear.hear()
    context.wait()

    context.close()

    assert worker_kit.have_ended(pids)


@pytest.mark.parametrize("worker", [HANG, "exit 3"])
def test_what_is_left_and_deaf_is_killed_at_the_deadline_and_named(shells, ear, caplog, worker):
    """Whether the worker runs or has failed before."""
    deaf = f"trap '' TERM; echo \\$\\$ > {ear.path}; exec sleep 1000"
    context = shells(f'setsid sh -c "{deaf}" & {worker}')  # fmt: skip
    (pid,) = ear.hear()
    worker_kit.wait_until(lambda: runs(pid, "sleep"))
    if worker != HANG:
        worker_kit.wait_until_ended(context, 1)

    context.close(timeout=0.2)

    assert worker_kit.have_ended([pid])
    assert "SIGTERM did not end all in 0.2 s: killed: " in caplog.text
    assert f"pid {pid} (sleep 1000) of rank 0" in caplog.text


@pytest.mark.parametrize("worker", [HANG, "exit 3"])
@pytest.mark.parametrize("start", ["{} &", "setsid {} &", "(setsid {} &) ;"])
def test_what_is_left_has_the_whole_time(shells, ear, tmp_path, worker, start):
    """It may be saving a checkpoint, in whatever session it is."""
    saved = tmp_path / "saved"
    saver = tmp_path / "saver"
    saver.write_text(
        f"trap 'sleep 0.7; echo > {saved}; exit' TERM; echo $$ > {ear.path}\n"
        "while :; do sleep 0.05; done\n"
    )
    context = shells(f"{start.format(f'bash {saver}')} {worker}")
    ear.hear()

    context.close(timeout=60)

    assert saved.exists()


def test_what_a_worker_manages_is_not_asked_before_the_worker_has_ended(shells, ear, tmp_path):
    """A launcher in a worker stops its own: it may have another way to do so than a signal."""
    log = tmp_path / "log"
    child = (
        f"trap 'echo child >> {log}; exit' TERM; echo $$ > {ear.path}; while :; do sleep 0.05; done"
    )
    context = shells(
        f"trap 'sleep 0.3; echo worker >> {log}; exit' TERM; setsid bash -c \"{child}\" & "
        "while :; do sleep 0.05; done"
    )  # fmt: skip
    ear.hear()

    context.close(timeout=60)

    assert ["worker", "child"] == log.read_text().split()


def test_a_program_behind_a_shell_has_the_whole_time(tmp_path, ear):
    """The shell ends at once; what it ran in its group may still save its work."""
    saved = tmp_path / "saved"
    program = tmp_path / "program.py"
    program.write_text(
        "import signal, sys, pathlib, os\n"
        f"signal.signal(signal.SIGTERM, lambda *_: open({ear.path!r}).read() and sys.exit())\n"
        "try:\n"
        f"    print('ready', file=open({ear.path!r}, 'w'))\n"
        "    while True: signal.pause()\n"
        "finally:\n"
        f"    pathlib.Path({str(saved)!r}).touch()\n"
    )
    context = start_shells(f"{sys.executable} {program}; true")
    ear.hear()
    pidfd = os.pidfd_open(context.pids()[0])

    def let_it_save():
        worker_kit.all_end([pidfd])
        ear.say("go on")

    thread = threading.Thread(target=let_it_save)
    thread.start()
    context.close(timeout=10_000)
    thread.join()

    assert saved.exists()
    assert -15 == context.exits[0].exitcode


def test_orphans_that_ended_are_reaped(shells, ear, tmp_path):
    """The agent adopts what its workers orphan, and lets no zombie stand."""
    gate = Ear(tmp_path, "gate")
    context = shells(f"(sh -c 'echo $$ > {ear.path}; read x < {gate.path}' &); {HANG}")
    (orphan,) = ear.hear()
    pidfds = worker_kit.hold(orphan)
    gate.say("end")
    worker_kit.all_end(pidfds)

    context.wait(0)

    assert int(orphan) not in worker_kit.children()


def test_the_users_own_children_are_left_to_the_user(shells):
    """Another child of this process is neither reaped nor killed."""
    ended = subprocess.Popen(["true"])
    running = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)

    context = shells(EXIT_3, HANG)
    context.wait()
    context.close()

    assert 0 == ended.wait()
    assert running.poll() is None
    running.kill()
    running.wait()
