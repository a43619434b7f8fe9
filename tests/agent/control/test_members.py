"""What other nodes ask and answer is checked at the door: nothing of it can end a thread."""

import json
import threading
from types import SimpleNamespace

import pytest
from elrun.agent.control.members import STATUS, Members
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.torch_view import RoundStore

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "notice",
    [b'{"ask": []}', b'{"ask": {}}', b'{"ask": null}', b'{"ask": 7}', b"[]", b'"status"', DEEP],
)
def test_a_notice_that_asks_nothing_is_left_out(notice):
    """A client of the store may write anything there."""
    stops = []
    watched = SimpleNamespace(inbox=SimpleNamespace(request_stop=lambda **how: stops.append(how)))
    members = Members(watched, lambda: 0.0)

    members.hear([(0, notice), (1, b'{"ask": "hurry"}')])

    assert [{"now": True}] == stops


@pytest.mark.parametrize("answer", [b"[1]", b"7", b"null", b'{"a":', b'"x"', DEEP])
def test_a_node_that_answers_no_object_counts_as_silent(answer):
    """The others' answers are shown."""
    store = RoundStore(MemoryStore(), "round/")
    store.set("question/answer/0", b'4 {"state": "running"}')
    store.set("question/answer/1", b"4 " + answer)
    store.set("question/answer/2", b'3 {"state": "running"}')
    store.set("question/all/4", b"1")
    watched = SimpleNamespace(
        group=SimpleNamespace(store=store, group_rank=0, group_world_size=3),
        rounds=SimpleNamespace(meeting_place="x", announce=lambda _topic, _number, notice: notice),
        progress=lambda: (0, 0),
        mailbox=SimpleNamespace(next_number=lambda _round: 4),
    )

    found = Members(watched, lambda: 0.0).ask_all(STATUS)

    expected = {
        "nodes": [{"state": "running", "group_rank": 0}],
        "missing": [1, 2],
        "problem": "",
    }
    assert expected == json.loads(json.dumps(found))


def test_a_flood_of_questions_is_answered_by_few_threads():
    """A node that asks without an end does not take the threads of the others."""
    go_on, began = threading.Event(), []

    class Slow(MemoryStore):
        def set(self, *_):
            began.append(threading.current_thread().name)
            go_on.wait()

    store = RoundStore(Slow(), "round/")
    watched = SimpleNamespace(group=SimpleNamespace(store=store, group_rank=0, group_world_size=2))
    members = Members(watched, lambda: 0.0)
    members._own = lambda _what: {}

    members.hear([(number, b'{"ask": "status"}') for number in range(1_000)])
    threads = [each for each in threading.enumerate() if each.name == "elrun-answer"]
    go_on.set()
    for each in threads:
        each.join()

    assert 16 == len(threads)
