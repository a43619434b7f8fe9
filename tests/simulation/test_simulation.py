"""The rendezvous in invented worlds: what must hold, and that it would be seen if it did not."""

import os
import re
import subprocess
import sys

import pytest
from elrun.rendezvous.liveness.heartbeat import Heartbeat
from elrun.rendezvous.node import next_round, procedures
from elrun.rendezvous.node.migrate import migrate_round
from elrun.rendezvous.protocol.round import DOOR
from simulator import history
from simulator.agent import Agent
from simulator.connection import EtcdConnection, ServerConnection
from simulator.history import History
from simulator.runner import replay
from simulator.server import Server

HERE = os.path.dirname(__file__)


@pytest.mark.integration
@pytest.mark.timeout(600)  # it only computes: a busy machine takes longer
@pytest.mark.parametrize("first", range(0, 5000, 1000))
def test_five_thousand_histories_keep_every_promise(first):
    """Whatever goes wrong, and whenever: see the simulator's own words for what is promised."""
    command = [sys.executable, "-m", "simulator", "--first", str(first), "--seeds", "1000"]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)

    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert re.match(r"1,000 histories in [\d.]+ s, [\d,]+ a minute: all is well", done.stdout)


@pytest.mark.parametrize("first", [0, 20])
def test_some_histories_keep_every_promise(first):
    """A small part of those above, for those who wait for an answer."""
    outcomes = [History(seed).run() for seed in range(first, first + 20)]

    assert [] == [outcome for outcome in outcomes if outcome.violation]


def test_a_request_that_was_lost_at_the_last_moment_is_still_felt_for_a_while():
    """The node asks again seconds after all others are well, and may be given up until then."""
    assert "" == History(3003331).run().violation


def told(seed, **planted):
    """Return a history in words."""
    lines = []
    replay(seed, lines.append, **planted)
    return lines


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_makes_the_same_history_every_time(seed):
    """So a failure that was seen once can be looked at."""
    first = told(seed)

    assert len(first) > 20
    assert first == told(seed)


# Bugs that are planted on purpose: a simulator that finds none has shown nothing.


def finds(words, seeds, **planted):
    """Return whether one of these histories breaks a promise in this way."""
    for seed in range(seeds):
        violation = History(seed, **planted).run().violation
        assert "a node dies of" not in violation  # then the planted bug is a fault of this test
        if re.search(words, violation):
            return True
    return False


class _TornSeats:
    """Takes a seat in two steps, between which another node may take the same one."""

    def ask(self, name, args, hear):
        if name == "create" and "/node/" in args[0]:
            key, value = args
            super().ask("set", ({key: value},), lambda _, error: hear(value, error))
        elif name == "add" and args[1] == 1 and args[0].endswith("/seats"):
            self._add_in_two_steps(args[0], hear)
        else:
            super().ask(name, args, hear)

    def _add_in_two_steps(self, key, hear):
        def write(values, error):
            if error is not None:
                hear(None, error)
                return
            value = int(values[0] or 0) + 1
            super(_TornSeats, self).ask(
                "set", ({key: b"%d" % value},), lambda _, error: hear(value, error)
            )

        super().ask("get", ([key],), write)


class _BlindToTheDoor:
    """Sits down although the door is shut."""

    def ask(self, name, args, hear):
        def hear_less(value, error):
            hear(value if value is None else value % DOOR, error)

        is_seat = name == "add" and args[1] == 1
        super().ask(name, args, hear_less if is_seat else hear)


class OverwritingServer(Server):
    """Lets the last verdict stand, not the first."""

    def create(self, machine, key, value, instead_of=b""):
        if not key.endswith("/verdict"):
            return super().create(machine, key, value, instead_of)
        self._write(machine, key, value)
        return value


class ForgettingServer(Server):
    """Frees rounds, and then takes their keys for keys that are not there yet."""

    def _require_round_of(self, key):
        pass

    def _write(self, machine, key, value):
        first, self._first = self._first, 0
        super()._write(machine, key, value)
        self._first = first


class _ResumedTwice(ServerConnection):
    """Carries out once more what a client repeats that has come back with its session."""

    def lose(self, request):
        request._has_answer = False
        super().lose(request)


def both_kinds(bug):
    """Return connections with a bug, of the two kinds."""
    return [type(bug.__name__, (bug, kind), {}) for kind in (EtcdConnection, ServerConnection)]


def test_two_nodes_on_one_seat_are_found():
    """A counter that isn't atomic gives a number twice; nor is a record created there."""
    assert finds(r"both sit on seat \d+ of round", 50, connections=both_kinds(_TornSeats))


def test_a_verdict_that_is_overwritten_is_found():
    """Nodes would act on different ones."""
    assert finds(r"overwrites the verdict of round", 200, server=OverwritingServer)


def test_a_round_that_is_freed_too_early_is_found():
    """Nodes that are well have not read how it ended."""
    words = "is sealed before round .* has ended|was freed before it knew"

    assert finds(words, 50, rounds_kept=0)


@pytest.mark.integration  # a node has to be late, and few histories have many rounds
def test_a_freed_round_that_looks_as_if_it_were_new_is_found():
    """A late node sits down there, alone."""
    words = r"both sit on seat \d+ of round|no round and no end"

    assert finds(words, 1500, server=ForgettingServer, rounds_kept=1)


def test_a_lost_node_that_comes_back_and_believes_in_itself_is_found(monkeypatch):
    """It runs on in a round that the others have left."""
    hear = Agent._hear_verdict

    def believe(agent):
        verdict = hear(agent)
        is_lost = verdict is not None and agent.running_at.group_rank in verdict.lost
        return None if is_lost else verdict

    monkeypatch.setattr(Agent, "_hear_verdict", believe)

    assert finds(r"no round and no end|ends well, and the run does not", 50)


def test_success_marks_that_are_read_before_the_own_one_is_written_are_found(monkeypatch):
    """The last two members to finish miss each other's mark, and nobody writes DONE."""

    def finish_late(store, keys, rank, members):
        others = [keys.success(other) for other in range(members) if other != rank]
        are_all_done = None not in ((yield store.get(others)) if others else [])
        yield store.set({keys.success(rank): b"1"})
        return are_all_done

    monkeypatch.setattr(procedures, "finish", finish_late)

    assert finds(r"not everybody ended within", 100)


def test_a_heartbeat_that_repeats_its_last_beat_is_found(monkeypatch):
    """It changes no more, so a node that is well is given up."""
    step = Heartbeat.step

    def repeat(heartbeat):
        heartbeat._count = min(heartbeat._count, 11)
        return step(heartbeat)

    monkeypatch.setattr(Heartbeat, "step", repeat)

    assert finds(r"gives up \[.*\], who are well", 100)


@pytest.mark.integration  # it comes up rarely: hundreds of histories
def test_a_late_node_in_a_sealed_round_is_found():
    """It takes a seat behind the door, and a deputy that seals finds its record."""
    assert finds(r"whose door was shut before", 1500, connections=both_kinds(_BlindToTheDoor))


@pytest.mark.integration  # a seat has to be taken just when the connection breaks
def test_a_session_that_is_resumed_twice_is_found():
    """The counter gives the node that came back a second seat."""
    connections = EtcdConnection, _ResumedTwice

    assert finds(r"takes seats \d+ and \d+ of round", 2000, connections=connections)


@pytest.mark.integration
def test_a_seat_in_a_round_that_was_brought_along_is_found(monkeypatch):
    """A survivor of the round before takes the place of another node there."""

    def carry_anyway(store, run, history, forming, *others):
        number = history.roster.round
        if forming <= number:
            return None
        return (yield from migrate_round(store, run, history, number + 1, *others))

    monkeypatch.setattr(next_round, "migrate_round", carry_anyway)
    violations = (History(seed).run().violation for seed in range(4, 10_000, 5))

    assert any(
        re.search(r"node\d+ runs in place of node\d+", violation) for violation in violations
    )


class _AskedForEver(EtcdConnection):
    """Is asked again at once, by a node that counts on another answer."""

    def ask(self, name, args, hear):
        while True:
            pass


@pytest.mark.timeout(30)
def test_a_node_that_goes_in_circles_is_found(monkeypatch):
    """No virtual time passes in it, so that no bound on virtual time would ever end it."""
    monkeypatch.setattr(history, "MOST_CPU_S", 0.2)

    outcome = History(0, connections=(_AskedForEver, _AskedForEver)).run()

    assert "a history that is not over after 0.2 s of CPU goes in circles" == outcome.violation


def test_a_history_that_breaks_a_promise_is_told_in_words():
    """Step by step, with the time and the node, up to the promise that is broken."""
    seed = next(seed for seed in range(200) if breaks_a_promise(seed))
    *_, step, end = told(seed, server=OverwritingServer)

    assert re.match(r" +[\d.]+ s  node\d +\w", step)
    assert re.match(r"At the end: node\d overwrites the verdict of round \d", end)


def breaks_a_promise(seed):
    return History(seed, server=OverwritingServer).run().violation
