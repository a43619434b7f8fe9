"""Workers that the kernel does not let go."""

import types

import pytest
from elrun.agent.elastic import companions
from elrun.agent.monitoring.kernel_waits import KernelWaits, read_waits_of, watch_kernel_waits

VARIABLE = "TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT"
PIDS = {0: 100, 1: 101}


def looks(*histories):
    """Return the ranks that are held too long after each look, one look a second, patience 2 s."""
    waits = {}
    watch = KernelWaits(2, lambda pid: waits.get(pid, {}))
    seen = []
    for second, of_one in enumerate(histories):
        waits = of_one
        seen.append(list(watch.look(PIDS, float(second))))
    return seen


def test_one_wait_may_last_as_long_as_it_may():
    """The second look after the first finds that the time is over."""
    wait = {101: {101: 7}}

    assert [[], [], [1], [1]] == looks(wait, wait, wait, wait)


def test_another_wait_begins_anew():
    """A thread that has been switched since was let go in between."""
    assert [[], [], [], []] == looks(
        {101: {101: 7}}, {101: {101: 7}}, {101: {101: 8}}, {101: {101: 8}}
    )


def test_a_thread_that_was_let_go_begins_anew():
    """Whatever its count says."""
    wait = {100: {100: 7}}

    assert [[], [], [], []] == looks(wait, {}, wait, wait)


def test_any_thread_may_be_the_one():
    """Those of a library that talks to a device, too."""
    assert [[], [], [0]] == looks(*[{100: {140: 3}}] * 3)


def test_who_is_held_longest_comes_first():
    """It is the root cause."""
    late, both = {101: {101: 7}}, {100: {100: 1}, 101: {101: 7}}

    assert [[], [], [1], [1, 0]] == looks(late, both, both, both)


def test_the_failure_says_how_long():
    """And that nothing can be done."""
    watch = KernelWaits(2, lambda pid: {pid: 7})
    watch.look({3: 100}, 10.0)

    failure = watch.look({3: 100}, 40.0)[3]

    assert (3, 100, 1) == (failure.local_rank, failure.pid, failure.exitcode)
    assert "for 30 s, and no signal can end that" in failure.summary


@pytest.mark.parametrize("said", [None, "", "0", "-1"])
def test_nobody_looks_unless_asked_to(said):
    """As in torch."""
    assert watch_kernel_waits({} if said is None else {VARIABLE: said}) is None


def test_what_is_no_number_is_told(caplog):
    """torch keeps quiet; either way nobody looks."""
    assert watch_kernel_waits({VARIABLE: "soon"}) is None
    assert f"{VARIABLE}='soon' is no number of seconds" in caplog.text


@pytest.mark.parametrize(("patience_s", "interval_s"), [("0.5", 0.25), ("600", 1.0)])
def test_looks_are_as_often_as_the_patience_needs(patience_s, interval_s):
    """Once a second is enough for a long one; without workers there is nothing to look at."""
    watch = watch_kernel_waits({VARIABLE: patience_s})
    before = watch.wakes().within_s
    watch.begin_attempt(types.SimpleNamespace(running_pids=dict))
    during = watch.wakes().within_s
    watch.end_attempt()

    assert (None, interval_s, None) == (before, during, watch.wakes().within_s)
    assert watch.tick() is None


def test_a_worker_that_is_held_makes_the_node_unfit():
    """What is stuck holds a device that new workers would need."""
    watch = KernelWaits(0.0, lambda pid: {pid: 7})
    watch.begin_attempt(types.SimpleNamespace(running_pids=lambda: {0: 4711}))
    trouble = watch.tick()

    assert (True, [0]) == (trouble.is_node_unfit, list(trouble.failures))


def test_a_process_that_is_gone_waits_for_nothing():
    """No process has the id 0."""
    assert {} == read_waits_of(0)


@pytest.mark.parametrize(
    ("given", "said", "interval_s"),
    [(0.4, "", 0.2), (0.4, "9", 0.2), (0, "9", None), (None, "9", 1)],
)
def test_what_the_agent_is_given_counts_more_than_the_environment(given, said, interval_s):
    """As in torch; 0 asks for nothing."""
    facts = types.SimpleNamespace(environ={VARIABLE: said}, kernel_wait_s=given)
    watch = companions._kernel_waits(facts)
    if watch is not None:
        watch.begin_attempt(types.SimpleNamespace(running_pids=dict))

    assert interval_s == (watch and watch.wakes().within_s)
