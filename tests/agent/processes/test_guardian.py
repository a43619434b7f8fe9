"""The process that outlives its agent."""

import logging
import os
import signal
import subprocess
import sys

import pytest
import worker_kit
from elrun.agent.processes.guardian import Guardian
from elrun.agent.system.process_states import signals_in
from elrun.agent.system.process_tree import read_process
from worker_kit import Ear

pytestmark = pytest.mark.integration

FOLDER = os.path.dirname(worker_kit.__file__)
EXECUTE_ITSELF = 'exec sh "$0"'  # a process has no environment while it executes a program


@pytest.fixture(name="guardian")
def _guardian():
    guardian = Guardian.start()
    worker_kit.wait_until(lambda: has_settled(guardian))
    yield guardian
    guardian.release()


def has_settled(guardian):
    """Return whether it has closed all but what the test below names."""
    return 6 == len(os.listdir(f"/proc/{guardian.pid}/fd"))


@pytest.fixture(name="agent")
def _agent():
    """Start a program that plays the agent; it is killed at the end if it still runs."""
    agents = []

    def start(*lines):
        code = "\n".join(
            ["import os, signal, sys", f"sys.path.insert(0, {FOLDER!r})",
             "import worker_kit, worker_functions", *lines]
        )  # fmt: skip
        agents.append(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE))
        return agents[-1]

    yield start
    for agent in agents:
        agent.kill()
        agent.wait()
        agent.stdout.close()


def guardian_of(agent):
    """Return the pid of an agent's guardian."""
    for name in filter(str.isdecimal, os.listdir("/proc")):
        process = read_process(int(name))
        if process and process.parent == agent.pid:
            with open(f"/proc/{name}/comm") as file:
                if file.read() == "elrun-guardian\n":
                    return int(name)
    raise AssertionError("it has none")


@pytest.mark.parametrize(
    "script",
    [
        "echo $$ > {ear}; exec sleep 1000",
        "sleep 1000 & echo $$ $! > {ear}; wait",
        "trap '' TERM HUP INT; sleep 1000 & echo $$ $! > {ear}; wait",
        "setsid sh -c 'echo $$ > {ear}; exec sleep 1000' & wait",
        "(setsid sh -c 'echo $$ > {ear}; exec sleep 1000' &); exec sleep 1000",
        "(sh -c 'echo $$ > {ear}; exec sleep 1000' &); exit 0",
        "echo $$ > {ear}; kill -STOP $$",
        "(setsid sh -c 'echo $$ > {ear}; exec sh {endless}' &); exec sleep 1000",
    ],
    ids=[
        "worker",
        "background",
        "deaf",
        "session",
        "daemon",
        "left behind",
        "suspended",
        "executing",
    ],
)
def test_nothing_survives_an_agent_that_was_killed(agent, ear, script, tmp_path):
    """Workers, their children, and what they left behind end with the agent."""
    endless = tmp_path / "endless"
    endless.write_text(EXECUTE_ITSELF)
    script = script.format(ear=ear.path, endless=endless)
    process = agent(f"context = worker_kit.start_shells({script!r})", "signal.pause()")
    pidfds = worker_kit.hold(*ear.hear())
    guardian = worker_kit.hold(guardian_of(process))

    process.kill()

    assert worker_kit.all_end(pidfds)
    assert worker_kit.all_end(guardian)


def test_a_guardian_that_was_suspended_outlives_no_agent(agent, ear):
    """All of a job is stopped (a scheduler's suspension), and then its agent is killed."""
    process = agent(
        f"context = worker_kit.start_shells('echo $$ > {ear.path}; exec sleep 1000')",
        "signal.pause()",
    )
    worker = worker_kit.hold(*ear.hear())
    guardian = guardian_of(process)
    held = worker_kit.hold(guardian)
    os.kill(guardian, signal.SIGSTOP)

    process.kill()

    assert worker_kit.all_end(worker)
    assert worker_kit.all_end(held)


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
@pytest.mark.parametrize("function", ["tell_and_hang", "leave_daemon_and_hang"])
def test_no_function_survives_an_agent_that_was_killed(agent, ear, function, method):
    """However it was started, with the daemons that it forked."""
    process = agent(
        "from elrun.agent.processes.start import start_processes",
        f"start_processes('t', worker_functions.{function}, {{0: ({ear.path!r},)}}, {{0: {{}}}},"
        f" worker_kit.Logs(), start_method={method!r})",
        "signal.pause()",
    )
    pidfds = worker_kit.hold(*ear.hear())

    process.kill()

    assert worker_kit.all_end(pidfds)


def test_nothing_survives_an_agent_that_just_leaves(agent, ear, tmp_path):
    """An agent that ends without closing its workers is as good as dead."""
    started = Ear(tmp_path, "started").path
    script = f"sleep 1000 & echo $$ $! > {ear.path}; echo > {started}; wait"
    agent(f"worker_kit.start_shells({script!r})", f"open({started!r}).read()", "os._exit(0)")
    pidfds = worker_kit.hold(*ear.hear())

    assert worker_kit.all_end(pidfds)


def test_nothing_survives_an_agent_that_becomes_another_program(agent, ear, tmp_path):
    """The process lives on, but it is no agent any more."""
    started = Ear(tmp_path, "started").path
    script = f"echo $$ > {ear.path}; echo > {started}; exec sleep 1000"
    agent(
        f"context = worker_kit.start_shells({script!r})",
        f"open({started!r}).read()",
        "os.execvp('sleep', ['sleep', '1000'])",
    )
    pidfds = worker_kit.hold(*ear.hear())

    assert worker_kit.all_end(pidfds)


def test_a_fork_of_the_agent_keeps_nothing_alive(agent, ear, tmp_path):
    """A child that the user's program forked holds the guardian's pipe, and outlives the agent."""
    fork, gate = Ear(tmp_path, "fork"), Ear(tmp_path, "gate")
    process = agent(
        f"context = worker_kit.start_shells('setsid sleep 1000 & echo $$ $! > {ear.path}; wait')",
        "if os.fork() == 0:",
        f"    open({fork.path!r}, 'w').close()",
        f"    open({gate.path!r}).read()",
        "    os._exit(0)",
        "signal.pause()",
    )
    pidfds = worker_kit.hold(*ear.hear())
    fork.hear()

    process.kill()

    assert worker_kit.all_end(pidfds)
    gate.say("end")


def test_a_stranger_with_the_mark_is_left_alone(agent, ear):
    """A batch job that a worker submitted carries its environment, but isn't the agent's."""
    process = agent(
        f"context = worker_kit.start_shells('echo $ELRUN_AGENT $$ > {ear.path}; exec sleep 1000')",
        "signal.pause()",
    )
    mark, worker = ear.hear()
    pidfds = worker_kit.hold(worker, guardian_of(process))
    stranger = subprocess.Popen(
        ["sleep", "1000"], env={**os.environ, "ELRUN_AGENT": mark}, start_new_session=True
    )

    process.kill()

    assert worker_kit.all_end(pidfds)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_guardian_that_is_released_is_gone():
    """No process, no descriptor, no zombie; a second release does nothing."""
    fds, children = worker_kit.open_fds(), worker_kit.children()
    guardian = Guardian.start()
    assert {guardian.pid} == worker_kit.children() - children

    guardian.release()
    guardian.release()

    assert worker_kit.open_fds() <= fds  # others' may have been collected meanwhile
    assert worker_kit.children() <= children


def test_the_agent_adopts_orphans_only_while_it_has_a_guardian(ear):
    """Afterwards the user's program is as it was."""
    guardian = Guardian.start()
    guardian.release()
    subprocess.run(["sh", "-c", f"(sh -c 'echo $$ > {ear.path}; exec sleep 1000' &)"], check=True)
    (orphan,) = ear.hear()

    assert int(orphan) not in worker_kit.children()
    worker_kit.kill(orphan)


def test_what_is_sent_to_the_agents_group_does_not_end_the_guardian(guardian):
    """It is a session of its own, and deaf to what ends an agent."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        worker_kit.kill(guardian.pid, number)

    seen = read_process(guardian.pid)
    assert (False, guardian.pid, guardian.pid) == (seen.ended, seen.session, seen.group)


def test_the_guardian_holds_little_of_the_agents(guardian):
    """Of its descriptors the pipe, standard error, and a pidfd of the agent are left."""
    names = [
        os.readlink(f"/proc/{guardian.pid}/fd/{fd}")
        for fd in sorted(os.listdir(f"/proc/{guardian.pid}/fd"), key=int)
    ]

    assert ["/dev/null"] * 3 == names[:3]
    assert 3 == len(names[3:])
    assert any(name.startswith("pipe:") for name in names)
    assert os.readlink("/proc/self/fd/2") in names[3:]


def test_an_agent_whose_guardian_was_killed_is_warned(caplog):
    """The workers run on, less well guarded."""
    guardian = Guardian.start()
    worker_kit.kill(guardian.pid)
    os.waitid(os.P_PID, guardian.pid, os.WEXITED | os.WNOWAIT)

    with caplog.at_level(logging.WARNING):
        guardian.watch(1, 1)
        guardian.watch(2, 1)
        guardian.forget(1)

    assert 1 == caplog.text.count("does not listen (Broken pipe)")
    guardian.release()


def test_a_release_in_a_forked_child_does_nothing(guardian):
    """The guardian is the agent's, not its copies'."""
    child = os.fork()
    if child == 0:
        guardian.release()
        os._exit(0)
    os.waitpid(child, 0)

    assert not read_process(guardian.pid).ended


def test_a_witness_that_was_killed_wakes_nobody():
    """Its pipe is at its end, and stays readable for ever."""
    guardian = Guardian.start(witnessed=[signal.SIGUSR1])
    try:
        os.kill(guardian.pid, signal.SIGKILL)
        os.waitid(os.P_PID, guardian.pid, os.WEXITED | os.WNOWAIT)
        worker_kit.wait_until(lambda: guardian.take_witnessed() == b"" and guardian.witness_fd < 0)
    finally:
        guardian.release()


WITNESS = """
import os, signal
from elrun.agent.processes import guardian
heard, told = os.pipe2(os.O_NONBLOCK)
take = signal.signal

def take_and_get(number, handler):
    take(number, handler)
    signal.raise_signal(number)

signal.signal = take_and_get
guardian._witness(told, [signal.SIGUSR1, signal.SIGUSR2])
assert [signal.SIGUSR1, signal.SIGUSR2] == [*os.read(heard, 10)]
"""


def test_a_witness_misses_no_signal_that_comes_as_it_begins():
    """A cluster's signal may come to all processes of a step in that moment."""
    subprocess.run([sys.executable, "-c", WITNESS], check=True)


def test_a_witness_tells_of_each_signal_that_comes_to_it():
    """Of those that it was asked for; it dies of none."""
    guardian = Guardian.start(witnessed=[signal.SIGUSR1])
    heard = []
    try:
        worker_kit.wait_until(lambda: signal.SIGUSR1 in signals_in(guardian.pid, b"SigCgt:"))
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGUSR1):
            os.kill(guardian.pid, number)
        worker_kit.wait_until(lambda: heard.extend(guardian.take_witnessed()) or heard)
        assert [signal.SIGUSR1] == heard
    finally:
        guardian.release()
