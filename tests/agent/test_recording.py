"""What the agent's loop records: events and metrics, under the names that torchrun gives them."""

import json
import logging
import os
import threading

import pytest
from agent_kit import HEALTHY, SUCCEEDED, InMemoryAgent, ScriptedRounds, failed
from elrun.agent import SignalException, WorkerState, metrics, recording
from elrun.agent.events import Event, EventSource, close
from elrun.agent.failure import ProcessFailure
from elrun.agent.metrics import MetricHandler
from elrun.agent.worker import RunResult
from elrun.rendezvous.handler import (
    RendezvousGracefulExitError,
    RendezvousTimeoutError,
    Verdict,
    VerdictKind,
)

STATUS = "torchelastic.worker.status."
BEGINNING = (
    "rendezvous.join INIT",
    "AGENT RENDEZVOUS",
    "rendezvous.joined RUNNING",
    "WORKER0 START",
    "WORKER1 START",
)
GOOD_END = ("rendezvous.ended SUCCEEDED", "WORKER0 SUCCEEDED", "WORKER1 SUCCEEDED")


@pytest.fixture(name="log")
def _log(tmp_path):
    """Return what was recorded under the name ``log.name``, as JSON values."""

    def read():
        close(read.name, 30)
        return [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]

    read.name = f"file:{tmp_path / 'events'}"
    yield read
    close(read.name, 30)


@pytest.fixture(name="published")
def _published(monkeypatch):
    """What agents publish, as pairs of name and value."""

    class Memory(MetricHandler):
        def emit(self, metric_data):
            assert "torchelastic" == metric_data.group_name
            seen.append((metric_data.name, metric_data.value))

    seen = []
    monkeypatch.setattr(metrics, "_handlers", metrics._Handlers())
    metrics.configure(Memory())
    return seen


def told(line):
    """Return an event in short: its source and state, and whose."""
    if "node_state" in line:
        return f"{line['name']} {line['node_state']}"
    rank = line["metadata"]["global_rank"]
    who = line["source"] + ("" if rank is None else str(rank))
    assert line["name"] == STATUS + line["metadata"]["state"]
    return f"{who} {line['metadata']['state']}"


def agent_with(results=(SUCCEEDED,), **options):
    return InMemoryAgent(options.pop("rounds", None) or ScriptedRounds(), list(results), **options)


def worker_failure(tmp_path, rank, exitcode, message=None):
    file = tmp_path / f"error{rank}.json"
    if message is not None:
        file.write_text(json.dumps({"message": {"message": message, "extraInfo": {}}}))
    return ProcessFailure(rank, 1000 + rank, exitcode, str(file))


# Events.


def test_an_agents_event_tells_all_that_torchruns_does():
    """Each field of the metadata, by its name."""
    agent = agent_with()
    agent.run()
    event = agent.get_event_succeeded()

    assert (STATUS + "SUCCEEDED", EventSource.AGENT) == (event.name, event.source)
    assert event.timestamp > 1_700_000_000_000
    assert {
        "run_id": "job",
        "global_rank": None,
        "group_rank": 0,
        "worker_id": None,
        "role": "trainer",
        "hostname": os.uname().nodename,
        "state": "SUCCEEDED",
        "total_run_time": 0,
        "rdzv_backend": "scripted",
        "raw_error": None,
        "metadata": '{"group_world_size": 1, "entry_point": "job"}',
        "agent_restarts": 0,
        "duration_ms": None,
    } == event.metadata


def test_the_event_of_a_failed_agent_has_the_traceback():
    """That of the exception that is being handled."""
    agent = agent_with()
    try:
        raise RuntimeError("lost the store")
    except RuntimeError:
        event = agent.get_event_failed()

    assert "FAILED" == event.metadata["state"]
    assert event.metadata["raw_error"].endswith("RuntimeError: lost the store\n")


def test_a_workers_event_tells_its_ranks():
    """In lists of one, as readers of torchrun's events expect them."""
    agent = agent_with()
    agent.run()
    worker = agent.get_worker_group().workers[1]
    event = agent._construct_event(
        "FAILED", EventSource.WORKER, worker, raw_error="{}", exit_code=3, worker_pid=77
    )

    assert (1, 0, "w1", "{}") == tuple(
        event.metadata[name] for name in ("global_rank", "group_rank", "worker_id", "raw_error")
    )
    assert {
        "group_world_size": 1,
        "entry_point": "job",
        "local_rank": [1],
        "role_rank": [1],
        "role_world_size": [2],
        "exit_code": [3],
        "worker_pid": [77],
    } == json.loads(event.metadata["metadata"])


def test_a_worker_that_did_not_fail_has_no_exit_code():
    """Nor a process id of its failure."""
    agent = agent_with()
    agent.run()
    event = agent._construct_event(
        "SUCCEEDED", EventSource.WORKER, agent.get_worker_group().workers[0]
    )

    more = json.loads(event.metadata["metadata"])
    assert ([None], [None], None) == (
        more["exit_code"],
        more["worker_pid"],
        event.metadata["raw_error"],
    )


def test_an_event_may_have_a_duration(log):
    """However what it measures ends."""
    agent = agent_with(events=log.name)
    with pytest.raises(ZeroDivisionError), agent.record_duration("THINK"):
        _ = 1 / 0

    (line,) = log()
    assert "AGENT THINK" == told(line)
    assert line["metadata"]["duration_ms"] >= 0


def test_the_story_of_a_job_without_accidents(log):
    """In order, and each line is an event that can be read back."""
    agent_with([HEALTHY, SUCCEEDED], events=log.name).run()

    lines = log()
    assert [*BEGINNING, *GOOD_END] == [told(line) for line in lines]
    assert Event.deserialize(json.dumps(lines[1])).metadata["duration_ms"] >= 0


def test_the_story_of_a_restart(log, tmp_path):
    """The attempt that failed is told, too: who failed, and whom the agent stopped."""
    failure = worker_failure(tmp_path, 1, 7, "out of memory")
    ended = RunResult(WorkerState.FAILED, failures={1: failure})
    agent_with([HEALTHY, ended, SUCCEEDED], events=log.name).run()

    lines = log()
    bad_end = ["rendezvous.ended RUNNING", "WORKER0 TERMINATED", "WORKER1 FAILED"]
    assert [*BEGINNING, *bad_end, *BEGINNING, *GOOD_END] == [told(line) for line in lines]
    restarts = [line["metadata"]["agent_restarts"] for line in lines if "source" in line]
    assert [0, 0, 0, 0, 0, 1, 1, 1, 1, 1] == restarts
    assert "the round ended: worker failed: rank 1 failed" == lines[5]["message"]
    error = json.loads(lines[7]["metadata"]["raw_error"])
    assert {"message": {"message": "out of memory", "extraInfo": {}}} == error


def test_an_error_file_of_any_depth_is_told(log, tmp_path):
    """What could just be read may be too deep to be written."""
    failure = worker_failure(tmp_path, 0, 1, "deep")
    for _ in range(100_000):
        failure.error_file_data = [failure.error_file_data]
    agent = agent_with(events=log.name)
    agent._record_worker_events(RunResult(WorkerState.FAILED, failures={-1: failure}))

    assert '{"message": "the error file is too deep"}' == log()[0]["metadata"]["raw_error"]


def test_the_story_of_a_job_that_fails(log):
    """The round's end says that no other follows; a worker without error file says its code."""
    agent_with([failed()], max_restarts=0, events=log.name).run()

    lines = log()[5:]
    assert ["rendezvous.ended FAILED", "WORKER0 FAILED", "WORKER1 TERMINATED"] == [
        told(line) for line in lines
    ]
    assert (
        '{"message": "exited with code 1 and left no error file"}'
        == (lines[1]["metadata"]["raw_error"])
    )


def test_the_story_of_a_membership_change(log):
    """The workers are stopped, and no restart is spent."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.NODE_WAITING, reason="node2 waits")})
    agent_with([HEALTHY, SUCCEEDED], rounds=rounds, events=log.name).run()

    lines = log()[5:]
    assert ["rendezvous.ended RUNNING", "WORKER0 TERMINATED", "WORKER1 TERMINATED"] == [
        told(line) for line in lines[:3]
    ]
    assert "the round ended: node waiting: node2 waits" == lines[0]["message"]
    assert {0} == {line["metadata"]["agent_restarts"] for line in lines if "source" in line}


def test_a_signal_ends_the_story_of_the_workers(log):
    """What ran then is told as terminated."""
    agent = agent_with([HEALTHY, SignalException("stopped", 15)], events=log.name)
    with pytest.raises(SignalException):
        agent.run()

    assert ["WORKER0 TERMINATED", "WORKER1 TERMINATED"] == [told(line) for line in log()[-2:]]


def test_workers_end_once_in_the_story(log):
    """Also when the agent is stopped on its way into the next round."""
    rounds = ScriptedRounds({0: Verdict(VerdictKind.NODE_WAITING)})
    agent = agent_with([HEALTHY], rounds=rounds, events=log.name)
    agent._stop_workers = lambda _group: setattr(agent, "_next_round", stop)

    def stop():
        raise SignalException("stopped", 15)

    with pytest.raises(SignalException):
        agent.run()

    assert 1 == [told(line) for line in log()].count("WORKER0 TERMINATED")


def test_workers_that_never_ran_have_no_end(log):
    """A rendezvous that fails tells why, with the traceback."""
    rounds = ScriptedRounds()
    rounds.next_rendezvous = lambda: (_ for _ in ()).throw(RendezvousTimeoutError("1 of 2 came"))
    with pytest.raises(RendezvousTimeoutError):
        agent_with(rounds=rounds, events=log.name).run()

    lines = log()
    assert ["rendezvous.join INIT", "AGENT RENDEZVOUS", "rendezvous.failed FAILED"] == [
        told(line) for line in lines
    ]
    assert "1 of 2 came" == lines[2]["message"]
    assert "RendezvousTimeoutError: 1 of 2 came" in lines[2]["error_trace"]


def test_a_node_that_was_not_needed_succeeds(log):
    """A spare is no failure."""
    rounds = ScriptedRounds()
    rounds.next_rendezvous = lambda: (_ for _ in ()).throw(RendezvousGracefulExitError("spare"))
    agent_with(rounds=rounds, events=log.name).run()

    assert "rendezvous.left SUCCEEDED" == told(log()[-1])


def test_a_step_of_the_rendezvous_tells_where_the_node_is(log):
    """Rank, round, and the address where its workers meet."""
    agent_with(events=log.name).run()

    joined = log()[2]
    del joined["timestamp"]
    assert {
        "name": "rendezvous.joined",
        "run_id": "job",
        "message": "this node is in round 0, as group rank 0 of 1",
        "hostname": os.uname().nodename,
        "pid": os.getpid(),
        "node_state": "RUNNING",
        "master_endpoint": "node1:29500",
        "rank": 0,
        "local_id": None,
        "error_trace": "",
    } == joined


def test_an_unknown_handler_is_refused_before_the_job_starts():
    """Not in the midst of it."""
    with pytest.raises(ValueError, match="there is no event log handler 'nope'"):
        agent_with(events="nope")


def test_worker_events_are_one_step_of_the_template(log):
    """A subclass that runs its own loop calls it with its result."""
    agent = agent_with(events=log.name)
    agent._record_worker_events(SUCCEEDED)

    assert ["WORKER-1 SUCCEEDED"] * 2 == [told(line) for line in log()]


# Metrics.


@pytest.mark.parametrize(
    ("remaining", "budget", "is_failed", "percent"),
    [
        (3, 3, False, 0),
        (2, 3, False, 25),
        (0, 3, False, 75),
        (1, 3, True, 100),
        (0, 0, False, 0),
        (0, 0, True, 100),
    ],
)
def test_flakiness_is_the_share_of_the_chances_that_were_used(
    published, remaining, budget, is_failed, percent
):
    """Of the restarts allowed, and the first attempt; a failed job has used all."""
    agent = agent_with(max_restarts=budget)
    agent._remaining_restarts = remaining
    agent._record_flakiness_metric(is_failed)

    assert [("workers.trainer.flakiness", percent)] == published


@pytest.mark.parametrize("state", [WorkerState.SUCCEEDED, WorkerState.FAILED])
@pytest.mark.parametrize("remaining", [3, 2])
def test_a_job_ends_in_one_of_four_ways(published, state, remaining):
    """Succeeded or failed, with retries or without: one of them is 1."""
    agent = agent_with()
    agent._remaining_restarts = remaining
    agent._record_metrics(RunResult(state))

    end = "success" if state is WorkerState.SUCCEEDED else "failed"
    retries = "with_retries" if remaining < 3 else "no_retries"
    ways = {
        f"workers.trainer.run_{this_end}_{this_retries}": int(
            (this_end, this_retries) == (end, retries)
        )
        for this_end in ("success", "failed")
        for this_retries in ("with_retries", "no_retries")
    }
    assert {"workers.trainer.run_total": 1, **ways} == {
        name: value for name, value in published if "flakiness" not in name
    }


def test_the_metrics_of_a_run(published):
    """The workers' state at each look, the restarts left, each step's outcome and duration."""
    agent_with([HEALTHY, failed(), SUCCEEDED]).run()

    looks = [name for name, _ in published if name.split(".")[-1] in ("healthy", "failed")]
    assert ["workers.trainer.healthy", "workers.trainer.failed"] == looks
    left = [value for name, value in published if name == "workers.trainer.remaining_restarts"]
    assert [3, 3, 2] == left[:3]
    steps = [name for name, _ in published if name.startswith("SimpleElasticAgent.")]
    assert {
        f"SimpleElasticAgent.{step}.{what}"
        for step in (
            *("run", "_initialize_workers", "_rendezvous", "_restart_workers", "_exit_barrier"),
        )
        for what in ("success", "duration.ms")
    } == set(steps)
    assert 2 == steps.count("SimpleElasticAgent._rendezvous.success")
    assert ("workers.trainer.run_success_with_retries", 1) in published
    assert "SimpleElasticAgent.run.duration.ms" == published[-1][0]


def test_a_step_that_fails_publishes_so(published):
    """And all the steps that it is part of."""
    rounds = ScriptedRounds()
    rounds.next_rendezvous = lambda: (_ for _ in ()).throw(RendezvousTimeoutError("1 of 2 came"))
    with pytest.raises(RendezvousTimeoutError):
        agent_with(rounds=rounds).run()

    assert ["_rendezvous", "_initialize_workers", "run"] == [
        name.split(".")[1] for name, _ in published if name.endswith(".failure")
    ]


def test_a_metric_handler_that_raises_is_one_warning(published, monkeypatch, caplog):
    """The run goes on to its end."""

    class Raising(MetricHandler):
        def emit(self, metric_data):
            raise RuntimeError("no network")

    metrics.configure(Raising())
    result = agent_with([HEALTHY, SUCCEEDED]).run()

    assert not result.is_failed()
    assert [
        "a metric handler failed: RuntimeError: no network; metrics are lost, and the job goes on"
    ] == [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_a_metric_handler_that_blocks_holds_up_nothing_but_the_end(published, monkeypatch, caplog):
    """And that only for a bounded time."""
    gate = threading.Event()

    class Blocking(MetricHandler):
        def emit(self, metric_data):
            gate.wait()

    monkeypatch.setattr(recording, "HANDLER_TIMEOUT_S", 0.01)
    metrics.configure(Blocking())
    result = agent_with([HEALTHY, SUCCEEDED]).run()
    gate.set()

    assert not result.is_failed()
    (warning,) = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert warning.endswith("within 0.01 s; metrics are lost, and the job goes on")
