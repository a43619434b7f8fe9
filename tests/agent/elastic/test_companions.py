"""Companions beside the agent's loop: when each is called, and what it can bring about."""

import os

import pytest
from elrun.agent.elastic.companions import COMPANIONS, Companions
from elrun.agent.elastic.local import LocalElasticAgent
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.processes.companion import Companion, Trouble, Wakes
from elrun.agent.workers.worker import WorkerSpec, WorkerState
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.solo import create_standalone
from worker_kit import Logs

pytestmark = pytest.mark.integration

FAIL_ONCE = '[ "$PLANTED" = yes ] || exit 3; [ $TORCHELASTIC_RESTART_COUNT = 1 ]'
# It runs until the companion has been woken by its descriptor, and has answered.
ASK = "echo > $ASKS; read x < $ANSWERS"
RUN_FIRST = "[ $TORCHELASTIC_RESTART_COUNT = 1 ] || sleep 1000"


class Planted(Companion):
    """Writes down how it is called."""

    def __init__(self):
        self.calls = []
        self.workers = None
        self.fds = ()
        self.troubles = []

    def environment(self):
        return {"PLANTED": "yes"}

    def prepare(self, info, *, is_last):
        self.calls.append(f"prepare round {info.placement.round}, last: {is_last}")

    def begin_attempt(self, workers):
        self.workers = workers
        self.calls.append(f"begin with {len(workers.pids())} workers")

    def wakes(self):
        return Wakes(self.fds, 0.05 if self.troubles else None)

    def tick(self):
        self.calls.append("tick")
        runs = self.workers is not None and self.workers.running_pids()
        return self.troubles.pop() if runs and self.troubles else None

    def end_attempt(self):
        self.workers = None
        self.calls.append("end attempt")

    def end(self):
        self.calls.append("end")


@pytest.fixture(name="run")
def _run():
    """Run an agent of one worker with a companion of its own; return its result."""
    handlers = []

    def run(companion, command, max_restarts=1):
        class Agent(LocalElasticAgent):
            _companion_kinds = (*COMPANIONS, lambda *_: companion)

        parameters = RendezvousParameters("standalone", "", "run", 1, 1)
        handlers.append(create_standalone(parameters))
        args = ("-c", command)
        spec = WorkerSpec("trainer", 1, handlers[-1], None, "bash", args, max_restarts)
        return Agent(spec, Logs()).run()

    yield run
    for handler in handlers:
        handler.shutdown()


def test_a_companion_sees_each_step_of_each_attempt(run):
    """Its variables reach the workers, and it ends with the agent; the other tests show ticks."""
    companion = Planted()

    result = run(companion, FAIL_ONCE)

    assert WorkerState.SUCCEEDED is result.state
    assert [
        "end attempt",
        "prepare round 0, last: False",
        "begin with 1 workers",
        "end attempt",
        "prepare round 1, last: True",
        "begin with 1 workers",
        "end",
    ] == [call for call in companion.calls if call != "tick"]


def test_a_companion_s_descriptor_wakes_the_loop(run, tmp_path, monkeypatch):
    """The loop has no other reason to turn: the worker waits for the companion's answer."""
    asks, answers = tmp_path / "asks", tmp_path / "answers"
    for pipe in (asks, answers):
        os.mkfifo(pipe)
    monkeypatch.setenv("ASKS", str(asks))
    monkeypatch.setenv("ANSWERS", str(answers))

    class Answering(Planted):
        def __init__(self):
            super().__init__()
            self.fds = (os.open(asks, os.O_RDWR | os.O_NONBLOCK),)
            self.answers = os.open(answers, os.O_RDWR | os.O_NONBLOCK)

        def tick(self):
            try:
                os.read(self.fds[0], 100)
            except BlockingIOError:
                return
            os.write(self.answers, b"go on\n")

        def end(self):
            os.close(self.fds[0])
            os.close(self.answers)

    assert WorkerState.SUCCEEDED is run(Answering(), ASK).state


def test_what_the_workers_have_lost_costs_a_restart(run, caplog):
    """The reason that a companion gives is the one that people read."""
    companion = Planted()
    companion.troubles = [Trouble("the coffee is cold")]

    result = run(companion, RUN_FIRST)

    assert WorkerState.SUCCEEDED is result.state
    assert "the coffee is cold; restarting all workers (restart 1 of 1)" in caplog.text


def test_a_worker_that_a_companion_finds_broken_is_the_failure(run):
    """Where the node is not fit any more, there is no restart, whatever is left."""
    companion = Planted()
    failure = ProcessFailure(0, 4711, 5, "")
    failure.message = "it is made of cheese"
    companion.troubles = [Trouble("cheese", {0: failure}, is_node_unfit=True)]

    result = run(companion, RUN_FIRST, max_restarts=1)

    assert WorkerState.FAILED is result.state
    assert (5, "it is made of cheese") == (
        result.failures[0].exitcode,
        result.report.root.message,
    )


def test_all_companions_end_even_if_one_can_t():
    """The last one first; what was raised is raised once the others have ended."""
    ended = []

    class Ending(Companion):
        def __init__(self, name):
            self.name = name

        def end(self):
            ended.append(self.name)
            if self.name == "second":
                raise OSError("no")

    companions = Companions()
    names = ["first", "second", "third"]
    companions.begin([lambda *_, name=name: Ending(name) for name in names], None, None)

    with pytest.raises(OSError, match="no"):
        companions.end()
    companions.end()

    assert ["third", "second", "first"] == ended
