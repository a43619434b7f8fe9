"""The numbers for Prometheus: what they count, and that its own parsers read them."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elrun.agent.elastic.observer import Moment
from elrun.agent.elastic.policy import Step
from elrun.agent.failures.failure import signal_name
from elrun.agent.failures.report import RootCause
from elrun.agent.workers.worker import RunResult, WorkerState
from elrun.rendezvous.api.handler import Placement, RendezvousInfo, Verdict, VerdictKind

pytest.importorskip("prometheus_client")

from elrun.agent.elastic.open_metrics import MOST_CAUSE_CHARS, MOST_CAUSES, JobMetrics, cause_of
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

DASHBOARD = Path(__file__).parents[3] / "examples" / "grafana" / "elrun.json"


class Spec:
    role, max_restarts, local_world_size = 'a "role"\n', 3, 2


class Worker:
    def __init__(self, rank, pid):
        self.local_rank, self.global_rank, self.id = rank, rank + 4, pid


class Group:
    def __init__(self):
        self.spec, self.state = Spec(), WorkerState.HEALTHY
        self.workers = [Worker(0, os.getpid()), Worker(1, 1 << 30)]


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return Moment(1.7e9 + self.now, self.now)


@pytest.fixture(name="clock")
def _clock():
    return Clock()


@pytest.fixture(name="metrics")
def _metrics(clock):
    return JobMetrics(Group(), "job/1", "0.1.0", lambda: {4: 77}, lambda: 0.5, clock)


def numbers(metrics):
    """Return all samples, by name and labels, as the parser of OpenMetrics reads them."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics.open_metrics())
        for sample in family.samples
    }


def failed(rank=1, exitcode=1, exception="", cause=""):
    root = RootCause(rank, rank, "n0", 7, exitcode, 0, "m", exception=exception, cause=cause)
    return Verdict(VerdictKind.WORKER_FAILED, 0, "r", root.to_json())


def placed():
    return RendezvousInfo(None, 0, 3, None, Placement(0, 0, 3, 4, 6, 0, 6, 0, None))


def test_all_of_it_is_read_by_both_parsers(metrics):
    """Names and units are those of the conventions; texts are escaped."""
    families = list(text_string_to_metric_families(metrics.open_metrics()))
    classic = list(classic_families(metrics.prometheus_text().decode()))

    assert {'a "role"\n'} == {
        sample.labels["role"]
        for family in families
        if family.name == "elrun_run"
        for sample in family.samples
    }
    assert len(families) > 15
    assert len(families) <= len(classic)
    assert all(family.name.startswith("elrun_") and family.documentation for family in families)


@pytest.mark.integration
@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_promtool_has_nothing_to_say(metrics):
    """It knows the conventions best."""
    metrics.joining()
    metrics.joined(placed())
    metrics.workers_started()
    metrics.round_ended(failed(), Step.RESTART)

    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=metrics.prometheus_text(),
        capture_output=True,
        check=False,
    )

    assert (0, b"") == (done.returncode, done.stderr + done.stdout)


def test_waits_are_added_up(metrics, clock):
    """For nodes, and for their end; one that goes on counts so far."""
    metrics.joining()
    clock.now += 5
    metrics.joined(placed())
    clock.now += 100
    metrics.round_ended(None, Step.WAIT_FOR_OTHERS)
    clock.now += 7
    during = numbers(metrics)
    metrics.round_ended(None, Step.WAIT_FOR_OTHERS)
    clock.now += 1
    metrics.round_ended(None, Step.FINISH)
    clock.now += 50

    name = "elrun_waiting_seconds_total"
    assert (5, 7) == (during[name, "nodes"], during[name, "end"])
    assert (5, 8) == (numbers(metrics)[name, "nodes"], numbers(metrics)[name, "end"])


def test_a_gap_begins_with_the_end_of_the_round(metrics, clock):
    """Not when that is told."""
    ended_at = clock()
    clock.now += 1
    metrics.round_ended(failed(), Step.RESTART, ended_at)
    clock.now += 2
    metrics.workers_started()

    assert 3 == numbers(metrics)["elrun_restart_gap_seconds_sum",]


def test_restarts_are_counted_by_their_causes(metrics, clock):
    """With the gap that each has made."""
    for gap_s, verdict in ((2, failed(exception="builtins.ValueError")), (4, failed(exitcode=-9))):
        metrics.round_ended(verdict, Step.RESTART)
        clock.now += gap_s
        metrics.workers_started()
    metrics.round_ended(Verdict(VerdictKind.NODE_WAITING, 0, "r"), Step.REJOIN)
    clock.now += 3
    metrics.workers_started()

    found = numbers(metrics)
    assert (1, 1) == (
        found["elrun_restarts_total", "ValueError"],
        found["elrun_restarts_total", "SIGKILL"],
    )
    assert 1 == found["elrun_rejoins_total", "node waiting"]
    assert (3, 9) == (
        found["elrun_restart_gap_seconds_count",],
        found["elrun_restart_gap_seconds_sum",],
    )


def test_causes_without_number_do_not_fill_prometheus(metrics):
    """A message in a type's name, say."""
    for number in range(500):
        metrics.round_ended(failed(exception=f"E{number}"), Step.RESTART)

    restarts = {key: value for key, value in numbers(metrics).items() if "restarts_total" in key[0]}
    assert MOST_CAUSES + 1 == len(restarts)
    assert 500 - MOST_CAUSES == restarts["elrun_restarts_total", "other"]


def test_a_cause_that_no_encoding_has_spoils_no_answer(metrics):
    """A worker may leave any text as the type of its exception."""
    metrics.round_ended(failed(exception="m.Bad\udc80"), Step.RESTART)

    assert r'cause="m.Bad\\udc80"' in metrics.open_metrics()
    assert rb'cause="m.Bad\\udc80"' in metrics.prometheus_text()


def test_workers_are_counted_by_what_they_do(metrics):
    """One of them has no process any more."""
    before = numbers(metrics)
    metrics.joined(placed())
    metrics.workers_started()

    found = numbers(metrics)
    assert (0, 2) == (before["elrun_workers", "running"], before["elrun_workers", "waiting"])
    assert (1, 1) == (found["elrun_workers", "running"], found["elrun_workers", "waiting"])
    assert (3, 6, 1) == (
        found["elrun_nodes",],
        found["elrun_ranks",],
        found["elrun_rounds_total",],
    )
    assert found["elrun_worker_resident_memory_bytes", "0", "4"] > 1 << 20
    assert 77 == found["elrun_worker_output_bytes_total", "0", "4"]
    assert ("elrun_worker_cpu_seconds_total", "1", "5") not in found
    assert 0.5 == found["elrun_heartbeat_age_seconds",]


def test_the_end_is_told(metrics):
    """A file may be read long after it."""
    metrics.joined(placed())
    metrics.workers_started()
    metrics.workers_ended(RunResult(WorkerState.SUCCEEDED))
    metrics.finish()

    found = numbers(metrics)
    assert (1, 0) == (found["elrun_run_ended",], found["elrun_nodes",])


@pytest.mark.parametrize(
    ("verdict", "cause"),
    [
        (None, "unknown"),
        (Verdict(VerdictKind.NODE_LOST, 0, "r"), "node lost"),
        (Verdict(VerdictKind.WORKER_FAILED, 0, "r", {"x": 1}), "worker failed"),
        (failed(), "exit code 1"),
        (failed(exitcode=-11), "SIGSEGV"),
        (failed(exitcode=-62), signal_name(-62)),
        (failed(exception="torch.OutOfMemoryError"), "torch.OutOfMemoryError"),
        (failed(exception="builtins.OSError", cause="hang"), "hang"),
        (failed(exception="m.Bad\udc80"), r"m.Bad\udc80"),
        (failed(exception="x" * 10_000), "x" * MOST_CAUSE_CHARS),
    ],
)
def test_a_cause_is_a_word(verdict, cause):
    """As `--restart-on` has it, if it can."""
    assert cause == cause_of(verdict)


@pytest.mark.skipif(not DASHBOARD.exists(), reason="a wheel is tested, no examples are near")
def test_the_dashboard_asks_for_numbers_that_there_are(metrics):
    """With labels that they have."""
    metrics.joining()
    metrics.joined(placed())
    metrics.workers_started()
    metrics.round_ended(failed(), Step.RESTART)
    labels = {
        sample.name: set(sample.labels)
        for family in text_string_to_metric_families(metrics.open_metrics())
        for sample in family.samples
    }
    board = json.loads(DASHBOARD.read_text())
    texts = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    texts += [each["query"] for each in board["templating"]["list"]]

    used = {name for text in texts for name in re.findall(r"elrun_[a-z_]+", text)}
    by = {
        (name, label)
        for text in texts
        for group, name in re.findall(r"by \((\w+)\) \(+(?:\w+\()*(elrun_[a-z_]+)", text)
        for label in [group]
    }
    assert used <= labels.keys()
    assert all(label in labels[name] | {"instance"} for name, label in by)
    assert len(by) >= 3
