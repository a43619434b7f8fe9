"""The agents' store of a round, which speaks as torch's stores do."""

from datetime import timedelta

import pytest
from elrun.rendezvous.api.handler import RendezvousStoreInfo
from elrun.rendezvous.errors import RendezvousTimeoutError
from elrun.rendezvous.stores.memory import MemoryStore
from elrun.rendezvous.stores.torch_view import RoundStore


@pytest.fixture(name="store")
def _store(memory):
    return RoundStore(memory, "round/")


def test_text_and_bytes_are_stored_as_bytes(store):
    """As torch's stores take both and give bytes."""
    store.set("a", "text")
    store.multi_set(["b", "c"], [b"bytes", "more"])

    assert (b"text", [b"bytes", b"more"]) == (store.get("a"), store.multi_get(["b", "c"]))


def test_counters_count(store):
    """add() returns the sum, and get() its digits."""
    assert (1, 3, b"3") == (store.add("n", 1), store.add("n", 2), store.get("n"))


def test_check_does_not_wait(store):
    """It says whether all keys are there now."""
    store.set("a", "1")

    assert [True, False] == [store.check(["a"]), store.check(["a", "b"])]


def test_prefixes_keep_stores_apart(store, memory):
    """One round's keys are not another's."""
    store.set("a", "1")

    assert not RoundStore(memory, "other/").check(["a"])


def test_waiting_ends_with_the_time_out(store):
    """The error names the keys; 300 s is torch's own default."""
    default = store.timeout
    store.set_timeout(timedelta(milliseconds=10))

    assert timedelta(seconds=300) == default
    with pytest.raises(RendezvousTimeoutError, match=r"k: no other agent wrote this within 0\.01"):
        store.get("k")
    with pytest.raises(RendezvousTimeoutError, match="k, l"):
        store.wait(["k", "l"], timedelta(0))


def test_waiting_for_nothing_is_over_at_once(store):
    """As it is with torch's stores."""
    store.wait([])

    assert [] == store.multi_get([])


def test_a_store_info_is_told_from_rank_0_to_the_others(store):
    """RendezvousStoreInfo.build: rank 0 chooses, all read."""
    told = [
        RendezvousStoreInfo.build(rank, store, "10.0.0.1" if rank == 0 else None, 29511)
        for rank in range(2)
    ]

    assert [RendezvousStoreInfo("10.0.0.1", 29511)] * 2 == told


def test_a_store_info_has_an_address_and_a_port_by_default():
    """Rank 0 finds both if it is told neither."""
    info = RendezvousStoreInfo.build(0, RoundStore(MemoryStore(), ""), None)

    assert info.master_addr
    assert 0 < info.master_port < 65536
