"""What the agent's loop counts and measures, under the names that torchrun gives it."""

import logging
import threading

import pytest
from agent_kit import HEALTHY, SUCCEEDED, ScriptedRounds, agent_with, failed
from elrun.agent import WorkerState, metrics
from elrun.agent.elastic import observer
from elrun.agent.metric_handlers import handlers
from elrun.agent.metrics import MetricHandler
from elrun.agent.workers.worker import RunResult
from elrun.rendezvous.errors import RendezvousTimeoutError


@pytest.fixture(name="published")
def _published(monkeypatch):
    """What agents publish, as pairs of name and value."""

    class Memory(MetricHandler):
        def emit(self, metric_data):
            assert "torchelastic" == metric_data.group_name
            seen.append((metric_data.name, metric_data.value))

    seen = []
    monkeypatch.setattr(handlers, "default", Memory())
    monkeypatch.setattr(handlers, "by_group", {})
    return seen


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


def test_a_job_that_failed_waits_for_nobody(published):
    """Its nodes know of each other's failure: there is no exit barrier."""
    agent_with([failed()], max_restarts=0).run()

    assert ("workers.trainer.run_failed_no_retries", 1) in published
    assert not [name for name, _ in published if "_exit_barrier" in name]


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
    assert ["a metric handler failed: RuntimeError: no network; metrics are lost"] == [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]


def test_a_metric_handler_that_blocks_holds_up_nothing_but_the_end(published, monkeypatch, caplog):
    """And that only for a bounded time."""
    gate = threading.Event()

    class Blocking(MetricHandler):
        def emit(self, metric_data):
            gate.wait()

    monkeypatch.setattr(observer, "HANDLER_TIMEOUT_S", 0.01)
    metrics.configure(Blocking())
    result = agent_with([HEALTHY, SUCCEEDED]).run()
    gate.set()

    assert not result.is_failed()
    (warning,) = [
        record.getMessage() for record in caplog.records if record.levelno == logging.WARNING
    ]
    assert warning.endswith("within 0.01 s; metrics are lost")


def test_a_handler_that_is_configured_later_gets_what_follows(monkeypatch):
    """An agent asks whether anybody listens each time, and records nothing otherwise."""
    monkeypatch.setattr(handlers, "default", None)
    monkeypatch.setattr(handlers, "by_group", {})
    agent = agent_with()
    agent._record_metric_with_condition("early", True)
    recorder = agent._metric_recorder
    seen = []

    class Memory(MetricHandler):
        def emit(self, metric_data):
            seen.append(metric_data.name)

    metrics.configure(Memory(), "torchelastic")
    agent._record_metric_with_condition("late", True)

    assert (None, ["workers.trainer.late"]) == (recorder, seen)
