"""What the agent's loop records as events, under the names that torchrun gives them."""

import json
import os
from types import SimpleNamespace

import pytest
from agent_kit import (
    HEALTHY,
    SUCCEEDED,
    InMemoryAgent,
    ScriptedRounds,
    TorchrunHandler,
    agent_with,
    failed,
)
from elrun.agent import SignalException, WorkerState
from elrun.agent.events import Event, EventSource
from elrun.agent.events.model import now_ms
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.workers.worker import RunResult
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import RendezvousGracefulExitError, RendezvousTimeoutError

STATUS = "torchelastic.worker.status."
BEGINNING = (
    "rendezvous.join INIT",
    "AGENT RENDEZVOUS",
    "rendezvous.joined RUNNING",
    "WORKER0 START",
    "WORKER1 START",
)
GOOD_END = ("rendezvous.ended SUCCEEDED", "WORKER0 SUCCEEDED", "WORKER1 SUCCEEDED")


def told(line):
    """Return an event in short: its source and state, and whose."""
    if "node_state" in line:
        return f"{line['name']} {line['node_state']}"
    rank = line["metadata"]["global_rank"]
    who = line["source"] + ("" if rank is None else str(rank))
    assert line["name"] == STATUS + line["metadata"]["state"]
    return f"{who} {line['metadata']['state']}"


def worker_failure(tmp_path, rank, exitcode, message=None):
    file = tmp_path / f"error{rank}.json"
    if message is not None:
        file.write_text(json.dumps({"message": {"message": message, "extraInfo": {}}}))
    return ProcessFailure(rank, 1000 + rank, exitcode, str(file))


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


def test_what_a_timer_server_does_is_an_event_of_the_agent(log):
    """Its name is what was done; torchrun's fields tell to whom."""
    request = SimpleNamespace(
        worker_pid=77, scope_id="step", expiration_time=1790000000.5, signal=9
    )
    agent = agent_with(events=log.name)
    agent._log_watchdog_event("kill worker process", request)
    agent._log_watchdog_event("idle", None)

    killed, idle = log()
    assert ("kill worker process", "AGENT", "RUNNING") == (
        killed["name"],
        killed["source"],
        killed["metadata"]["state"],
    )
    assert {
        "watchdog_event": "kill worker process",
        "worker_pid": "77",
        "scope_id": "step",
        "expiration_time": "1790000000.5",
        "signal": "9",
    } == json.loads(killed["metadata"]["metadata"])
    assert {"watchdog_event": "idle"} == json.loads(idle["metadata"]["metadata"])


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


def test_the_end_of_a_round_has_the_time_before_workers_were_asked(log):
    """What they are asked may take a second."""
    agent, asked_ms = agent_with([failed()], max_restarts=0, events=log.name), []

    def ask(_step):
        before_ms = now_ms()
        while now_ms() == before_ms:
            pass
        asked_ms.append(now_ms())

    agent._ask_workers_to_end = ask
    agent.run()

    (end,) = (line for line in log() if line.get("name") == "rendezvous.ended")
    assert end["timestamp"] < asked_ms[0]


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


def test_agents_that_agree_on_ranks_themselves_tell_how_long_it_takes(log):
    """As a plug-in for torchrun leaves it to them; the rounds have no numbers there."""
    agent_with(rounds=TorchrunHandler(), events=log.name).run()

    lines = log()
    assert [
        "rendezvous.join INIT",
        "AGENT RENDEZVOUS",
        "AGENT ASSIGN_WORKER_RANKS",
        "rendezvous.joined RUNNING",
    ] == [told(line) for line in lines[:4]]
    assert "this node is in a round, as group rank 0 of 1" == lines[3]["message"]


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


def test_an_agent_that_makes_its_own_events_makes_them_without_a_handler():
    """As under torchrun: what a subclass overrides is called, whoever listens."""
    made = []

    class Own(InMemoryAgent):
        def _construct_event(self, state, source, *args, **options):
            made.append(f"{source.value} {state}")
            return super()._construct_event(state, source, *args, **options)

    Own(ScriptedRounds(), [SUCCEEDED]).run()

    assert ["AGENT RENDEZVOUS", "WORKER START", "WORKER START", *["WORKER SUCCEEDED"] * 2] == made
