"""Whether a worker that ended while its group was stopped was stopped, or failed by itself."""

import signal

import pytest
import worker_kit
from elrun.agent.processes.own_ends import Disposition, EndInStop, disposition_of, failed_by_itself
from worker_kit import EXIT_3, Ear

TERM, KILL, USR1 = signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1
DIES, IGNORES, DECIDES = Disposition.DIES, Disposition.IGNORES, Disposition.DECIDES
WRONG = "ValueError: no such shard"

HISTORIES = [
    ("it had succeeded", EndInStop(0, TERM, DIES), False),
    ("the death signal killed it", EndInStop(-15, TERM, DIES), False),
    ("a shell says so of its child", EndInStop(143, TERM, DIES), False),
    ("another death signal killed it", EndInStop(-10, USR1, DIES), False),
    ("SIGKILL came at the deadline", EndInStop(-9, TERM, IGNORES, was_killed=True), False),
    ("SIGKILL was its handler's end", EndInStop(-9, TERM, DECIDES, was_killed=True), False),
    ("memory ran out", EndInStop(-9, TERM, DIES), True),
    ("memory ran out in its handler", EndInStop(-9, TERM, DECIDES), True),
    ("it raised before the signal came", EndInStop(1, TERM, DIES), True),
    ("it crashed before the signal came", EndInStop(-11, TERM, DIES), True),
    ("it raised, and knows no signal", EndInStop(1, TERM, IGNORES), True),
    ("its handler ended it", EndInStop(1, TERM, DECIDES), False),
    ("its handler ended it with 130", EndInStop(130, TERM, DECIDES), False),
    ("its handler raised", EndInStop(1, TERM, DECIDES, False, "Stop: 15", WRONG), False),
    ("it failed as the first did", EndInStop(1, TERM, DECIDES, False, WRONG, WRONG), True),
    ("nobody left a word", EndInStop(1, TERM, DECIDES, False, "", ""), False),
]


@pytest.mark.parametrize(
    ("end", "expected"),
    [pytest.param(end, own, id=story) for story, end, own in HISTORIES],
)
def test_what_the_stop_cannot_have_caused_is_a_failure(end, expected):
    """What the process would have done at the signal, and how it ended, tell."""
    assert expected is failed_by_itself(end)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("", DIES),
        ("trap '' TERM", IGNORES),
        ("trap true TERM", DECIDES),
    ],
)
def test_the_kernel_knows_what_a_process_would_do(shells, ear, tmp_path, program, expected):
    """It is asked before the signal is sent."""
    gate = Ear(tmp_path, "gate")  # a shell that forks blocks signals now and then
    context = shells(f"{program}\necho ready > {ear.path}\nread x < {gate.path}")
    ear.hear()

    assert expected is disposition_of(context.pids()[0], TERM)


def test_of_a_process_that_is_gone_nothing_is_known():
    """It may have done anything."""
    assert DECIDES is disposition_of(1 << 22, TERM)


@pytest.mark.integration
@pytest.mark.parametrize(
    ("peer", "exitcode", "stopped"),
    [
        pytest.param("trap '' TERM; {ready}; {wait}; exit 1", 1, False, id="ignores"),
        pytest.param(
            "trap 'exit 1' TERM; {ready}; while :; do sleep 0.01; done", 1, True, id="handles"
        ),
        pytest.param("{ready}; exec sleep 1000", -15, True, id="dies"),
        pytest.param(
            "trap '' TERM; {ready}; {wait}; kill -9 $$", -9, False, id="is killed by another"
        ),
    ],
)
def test_a_peer_that_fails_during_a_stop_is_told_as_what_it_did(
    shells, ear, tmp_path, peer, exitcode, stopped
):
    """Its exit is seen after the death signal was sent."""
    gate, later, never = (Ear(tmp_path, name) for name in ("gate", "later", "never"))
    # A shell that forks blocks signals for a moment, and then nobody knows what it will do.
    pause = f"read x < {later.path}; read -t 0.1 x <> {never.path}"
    words = {"ready": f"echo ready > {ear.path}", "wait": pause}
    context = shells(f"read x < {gate.path}; {EXIT_3}", peer.format(**words))
    ear.hear()
    gate.say("fail")
    worker_kit.wait_until(lambda: context.look() is not None)
    if "{wait}" in peer:
        later.say("go on")
    context.close(timeout=60)

    end = context.exits[1]
    assert (exitcode, stopped) == (end.exitcode, end.stopped)
    assert ([0] if stopped else [0, 1]) == sorted(context.look().failures)
