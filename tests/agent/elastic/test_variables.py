"""Variables that torchrun's agent and launcher read or set, and elrun's do."""

import os
import signal

import pytest
from elrun.agent.elastic.local import LocalElasticAgent
from elrun.agent.system.signals import DEFAULT_SIGNALS
from elrun.agent.workers.worker import WorkerSpec
from elrun.launcher import LaunchConfig, cli, launch_agent
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.solo import create_standalone
from worker_kit import Logs


@pytest.fixture(name="agent")
def _agent():
    """Make an agent in an environment of its own."""
    handlers = []

    def make(environ, **options):
        handlers.append(create_standalone(RendezvousParameters("standalone", "", "run", 1, 1)))
        spec = WorkerSpec("trainer", 1, handlers[-1], entrypoint="true")
        return LocalElasticAgent(spec, Logs(), environ=environ, **options)

    yield make
    for handler in handlers:
        handler.shutdown()


SAID = {"TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGUSR1,SIGTERM"}


@pytest.mark.parametrize(
    ("environ", "options", "expected"),
    [
        (SAID, {}, {signal.SIGUSR1, signal.SIGTERM}),
        (SAID, {"signals_to_handle": "SIGUSR2"}, {signal.SIGUSR2}),
        ({}, {}, {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT}),
    ],
)
@pytest.mark.usefixtures("heeded_signals")
def test_an_agent_s_signals_may_stand_in_the_environment(agent, environ, options, expected):
    """For programs that make an agent themselves; what they say goes first."""
    made = agent(environ, **options)

    before = {number: signal.getsignal(number) for number in signal.Signals}
    with made.signals:
        handled = {each for each in signal.Signals if signal.getsignal(each) != before[each]}

    # These end nothing: one wakes it, to reap; the other asks where the ranks are.
    assert expected == handled - ({signal.SIGCHLD, signal.SIGUSR2} - expected)


@pytest.mark.parametrize(
    ("inherited", "options", "expected"),
    [
        ({}, {"signals_to_handle": "SIGTERM,SIGUSR1"}, "SIGTERM,SIGUSR1"),
        ({}, {}, DEFAULT_SIGNALS),
        ({}, {"signals_to_handle": ""}, DEFAULT_SIGNALS),
        (SAID, {"signals_to_handle": ""}, "SIGUSR1,SIGTERM"),
        (SAID, {}, DEFAULT_SIGNALS),
    ],
)
def test_a_launch_says_its_signals_to_agents_of_the_program_and_of_workers(
    tmp_path, monkeypatch, inherited, options, expected
):
    """What is started later, here or in a worker, goes by what the launch was told.

    Names that are empty say nothing, and what was inherited stands.
    """
    for name, value in inherited.items():
        monkeypatch.setenv(name, value)
    print_it = f'printf %s "$TORCHELASTIC_SIGNALS_TO_HANDLE" > {tmp_path}/said'

    launch_agent(LaunchConfig(1, 1, 1, **options), "sh", ["-c", print_it])

    said = (tmp_path / "said").read_text(), os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"]
    assert (expected, expected) == said


@pytest.mark.parametrize(("level", "is_told"), [("INFO", True), ("", False), ("ERROR", False)])
def test_loglevel_decides_what_elrun_says(monkeypatch, tmp_path, capfd, level, is_told):
    """Its own lines on standard error, as torchrun's; a success is silent by default."""
    monkeypatch.setenv("LOGLEVEL", level)
    (tmp_path / "x.py").write_text("")

    cli.main(["--standalone", str(tmp_path / "x.py")])

    assert is_told is ("group rank 0 of 1" in capfd.readouterr().err)
