"""The machine of a node by itself: which actions follow from which events, and when."""

from collections import deque

import pytest
from elrun.rendezvous.api.handler import Verdict, VerdictKind
from elrun.rendezvous.errors import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousStateError,
    RendezvousTimeoutError,
)
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.node.machine import Act, Answered, Asked, Deliver, Wake
from elrun.rendezvous.node.procedures import RoundMachine
from elrun.rendezvous.node.round_state import Phase
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.protocol.records import Limits, Node
from elrun.rendezvous.protocol.timing import Timing
from elrun.rendezvous.protocol.wire import write_verdict
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.steps import Reached, call

RUN = RunKeys("run")
TIMING = Timing(join_timeout_s=100, last_call_s=3, heartbeat_s=1000, patience_s=4000, deputy_s=50)
FAILED = Verdict(VerdictKind.WORKER_FAILED, 0, "a worker failed")
LOST = RendezvousConnectionError("the store is gone")


class Member:
    """One machine over a store; its clock stands still unless the test moves it."""

    def __init__(self, store, host, limits=(2, 2), *, at=None):
        self.store = store
        self.now = 0.0
        self.at = at
        self.waits, self.sleeps, self.answers, self.wakes = {}, {}, [], 0
        self.connections = 0
        record = Node(host, "::1", 9, 1, "default", Limits(*limits))
        self.machine = RoundMachine(
            RUN,
            record.limits,
            TIMING,
            host,
            lambda _, port, origin, restarts: record._replace(
                port=port, origin=origin, restarts=restarts
            ),
        )

    @property
    def phase(self):
        return self.machine.state.phase

    def ask(self, question, *args):
        """Ask a question; return the answer or the error if there is one at once."""
        before = len(self.answers)
        self.handle(Asked(1, question, args))
        return self.answers[before] if len(self.answers) > before else None

    def handle(self, event):
        events = deque([event])
        while events:
            for action in self.machine.handle(events.popleft(), self.now):
                match action:
                    case Act(number, request):
                        self._act(number, request, events)
                    case Deliver(1, value, error):
                        self.answers.append(error or value)
                    case Wake():
                        self.wakes += 1

    def _act(self, number, request, events):
        match request.name:
            case "sleep":
                self.sleeps[number] = self.now + request.args[0]
            case "connect":
                self.connections += 1
                events.append(
                    Answered(number, Reached(self.store, "::1", *request.args, at=self.at))
                )
            case "take_endpoint":
                events.append(Answered(number, Endpoint("::1", 9)))
            case "wait":
                found = self.store.wait(request.args[0], 0)
                if found is None:
                    self.waits[number] = request.args
                else:
                    events.append(Answered(number, found))
            case "prepare" | "release_port" | "choose":
                events.append(Answered(number))
            case _:
                events.append(Answered(number, call(*request)))

    def hear(self):
        """Tell the machine which of the keys that it waits for are there by now."""
        for number, (keys, _) in list(self.waits.items()):
            found = self.store.wait(keys, 0)
            if found is not None:
                del self.waits[number]
                self.handle(Answered(number, found))

    def pass_time(self, seconds):
        """Move the clock, and tell the machine which waits have taken too long."""
        self.now += seconds
        for number, (_, timeout_s) in list(self.waits.items()):
            if timeout_s is not None and timeout_s <= seconds:
                del self.waits[number]
                self.handle(Answered(number))

    def lose_store(self):
        """Let every wait end with an error."""
        waits, self.waits = self.waits, {}
        for number in waits:
            self.handle(Answered(number, None, LOST))


@pytest.fixture(name="pair")
def _pair(memory):
    """Return two members of a running round."""
    first, second = Member(memory, "a"), Member(memory, "b")
    first.ask(RoundMachine.next_round)
    second.ask(RoundMachine.next_round)
    first.hear()
    second.hear()
    return first, second


def test_a_machine_does_nothing_by_itself(memory):
    """It is idle until the agent asks, and knows no store then."""
    member = Member(memory, "a")

    assert (Phase.IDLE, 0, None) == (
        member.phase,
        member.connections,
        member.machine.session.connection,
    )


def test_a_node_that_needs_no_other_is_a_member_at_once(memory):
    """It waits for nothing but the verdict, and for the time of its next beat."""
    member = Member(memory, "a", (1, 1))
    _, place = member.ask(RoundMachine.next_round)

    assert (0, 0, 1) == (place.round, place.group_rank, place.group_world_size)
    assert (Phase.MEMBER, 1) == (member.phase, member.connections)
    assert [([RUN.round(0).verdict], None)] == list(member.waits.values())
    assert 1000.0 in member.sleeps.values()


def test_a_node_is_seated_until_the_round_is_sealed(memory):
    """The first on its seat seals once the second is there, and both are members."""
    first, second = Member(memory, "a"), Member(memory, "b")
    unanswered = [first.ask(RoundMachine.next_round), second.ask(RoundMachine.next_round)]
    before = first.phase, second.phase
    first.hear()
    second.hear()

    assert ([None, None], (Phase.SEATED, Phase.SEATED)) == (unanswered, before)
    assert [0, 1] == [member.answers[0][1].group_rank for member in (first, second)]
    assert {Phase.MEMBER} == {first.phase, second.phase}


def test_the_last_call_lasts_by_the_time_of_the_events(memory):
    """With the minimum there, a round stays open as long as the setting says, and no longer."""
    member = Member(memory, "a", (1, 2))
    member.ask(RoundMachine.next_round)
    member.pass_time(2.9)
    before = member.phase
    member.pass_time(3)

    assert (Phase.SEATED, Phase.MEMBER) == (before, member.phase)


def test_too_few_nodes_end_the_wait_in_time(memory):
    """The error names the number; the node may be asked again."""
    member = Member(memory, "a")
    member.ask(RoundMachine.next_round)
    member.pass_time(TIMING.join_timeout_s)
    (error,) = member.answers

    assert (RendezvousTimeoutError, Phase.IDLE) == (type(error), member.phase)
    assert "1 of 2 nodes joined" in str(error)


def test_a_node_beside_a_full_round_is_a_spare_until_the_verdict(memory, pair):
    """Then it waits on its seat as all others do."""
    spare = Member(memory, "c")
    spare.ask(RoundMachine.next_round)
    before = spare.phase
    pair[0].ask(RoundMachine.conclude, FAILED)
    spare.hear()

    assert (Phase.SPARE, Phase.SEATED) == (before, spare.phase)


def test_a_verdict_reaches_each_member_and_wakes_its_agent(pair):
    """A member is idle from then on."""
    first, second = pair
    standing = first.ask(RoundMachine.conclude, FAILED)
    second.hear()

    assert (FAILED, FAILED) == (standing, second.machine.state.verdict)
    assert [(Phase.IDLE, 1)] * 2 == [(each.phase, each.wakes) for each in pair]


def test_the_first_verdict_stands(pair):
    """Whoever proposes another one is answered with that."""
    first, second = pair
    first.ask(RoundMachine.conclude, FAILED)

    assert FAILED == second.ask(RoundMachine.conclude, Verdict(VerdictKind.DONE, 1))


def test_a_restart_is_a_round_of_the_survivors_in_their_order(pair):
    """And costs one restart."""
    first, second = pair
    first.ask(RoundMachine.conclude, FAILED)
    second.hear()
    second.ask(RoundMachine.next_round)
    first.ask(RoundMachine.next_round)
    for each in (second, first, second):
        each.hear()
    places = [each.answers[-1][1] for each in pair]

    assert [(1, 0, 1), (1, 1, 1)] == [
        (place.round, place.group_rank, place.restart_count) for place in places
    ]


def test_a_lost_store_ends_a_node_that_has_no_other(pair):
    """The agent is woken, and reads the error instead of a verdict."""
    first, _ = pair
    first.lose_store()

    assert (Phase.ADRIFT, 1) == (first.phase, first.wakes)
    with pytest.raises(RendezvousConnectionError, match="the store is gone"):
        first.machine.state.verdict_or_error()


def test_a_node_with_another_endpoint_goes_on_there(memory):
    """For the agent this is a verdict like others; the next round needs another connection."""
    member = Member(memory, "a", (1, 1), at=0)
    member.ask(RoundMachine.next_round)
    member.lose_store()
    verdict = member.machine.state.verdict
    member.store = MemoryStore()
    _, place = member.ask(RoundMachine.next_round)

    assert (VerdictKind.NODE_LOST, "the store is gone; the nodes meet at the next endpoint") == (
        verdict.kind,
        verdict.reason,
    )
    assert (1, 0, 2) == (place.round, place.restart_count, member.connections)


def test_a_node_that_leaves_its_seat_withdraws_its_record(memory):
    """Its wait ends with an error once the store is closed, and no other round begins."""
    member = Member(memory, "a")
    member.ask(RoundMachine.next_round)
    is_announced = member.ask(RoundMachine.leave)
    member.lose_store()
    (record, mark) = memory.get([RUN.round(0).node(0), RUN.round(0).left(0)])

    assert (True, Phase.LEFT, b"1") == (is_announced, member.phase, mark)
    assert b'"withdrawn":true' in record
    assert isinstance(member.answers[-1], RendezvousConnectionError)
    assert isinstance(member.ask(RoundMachine.next_round), RendezvousClosedError)


def test_an_answer_that_comes_too_late_changes_nothing(pair):
    """As the second of two answers, or one to a wait that was given up."""
    first, _ = pair
    state = first.phase, dict(first.waits), list(first.answers)
    first.handle(Answered(0, [write_verdict(FAILED)]))
    first.handle(Answered(99999, None, LOST))

    assert state == (first.phase, first.waits, first.answers)


def test_a_question_out_of_place_is_answered_by_an_error(memory):
    """The machine goes on."""
    member = Member(memory, "a", (1, 1))
    error = member.ask(RoundMachine.conclude, FAILED)
    member.ask(RoundMachine.next_round)

    assert (RendezvousStateError, Phase.MEMBER) == (type(error), member.phase)
