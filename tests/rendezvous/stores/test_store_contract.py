"""What the round protocol asks of every store, the fake and the real ones."""

import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Queue

import pytest
from elrun.rendezvous.errors import RendezvousConnectionError
from elrun.rendezvous.stores.store import exchange, watch

LONG_S = 30


@pytest.fixture(name="store")
def _store(connect):
    store = connect()
    yield store
    store.close()


def in_a_thread(function, *args):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args)


def test_a_counter_starts_at_zero(store):
    """The first add returns the amount; later ones the sum."""
    assert [2, 2, 1_000_005] == [store.add("n", each) for each in (2, 0, 1_000_003)]


def test_a_counter_is_read_as_digits(store):
    """A counter is a value like others to those who read."""
    store.add("round/seats", 12)

    assert [b"12"] == store.get(["round/seats"])


@pytest.mark.parametrize("junk", [b"junk", b"", b"9" * 30, b".5", b"\x80"])
def test_junk_in_place_of_a_counter_counts_for_nothing(store, junk):
    """A stranger who writes there breaks no connection, and the next nodes count from 0."""
    stranger = getattr(store, "_store", store)  # one who knows no secret
    stranger.set({"round/seats": junk})

    assert 0 == store.add("round/seats", 0)
    assert [1, 3] == [store.add("round/seats", each) for each in (1, 2)]


def test_concurrent_adds_give_different_numbers(connect):
    """No two nodes get one seat."""
    stores = [connect() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        numbers = pool.map(lambda store: [store.add("n", 1) for _ in range(25)], stores)
    for store in stores:
        store.close()

    assert list(range(1, 101)) == sorted(number for each in numbers for number in each)


def test_what_one_connection_sets_another_gets(store, connect):
    """All connections see the same values, whatever bytes they are."""
    other = connect()
    values = {"a": b"\x00\xff\n", "b": b"2", "c": b"x" * 100_000}
    store.set(values)

    assert list(values.values()) == other.get(["a", "b", "c"])
    other.close()


@pytest.mark.parametrize("keys", [["a"], ["none"], ["a", "none"], ["none", "a", "b", "neither"]])
def test_get_does_not_wait_for_a_missing_value(store, keys):
    """None stands for each value that isn't there."""
    values = {"a": b"1", "b": b"2"}
    store.set(values)

    assert [values.get(key) for key in keys] == store.get(keys)


def test_a_key_that_is_named_twice_has_its_value_twice(store):
    """Whoever reads keys that a user has named can't know that they differ."""
    store.set({"a": b"1", "b": b"2"})
    heard = Queue()
    watch(store, ["b", "b", "a"], LONG_S, heard.put)

    assert [b"1", None, b"1", b"2"] == store.get(["a", "x", "a", "b"])
    assert [b"2", b"1", b"2"] == store.wait(["b", "a", "b"], LONG_S)
    assert [b"1", b"3", b"1"] == exchange(store, {"c": b"3"}, ["a", "c", "a"])
    assert [b"2", b"2", b"1"] == heard.get(timeout=LONG_S)


def test_get_leaves_no_trace_of_a_missing_value(store):
    """Reading a key does not make it."""
    store.get(["late"])

    assert [b"mine"] == [store.create("late", b"mine")]


def test_getting_or_setting_nothing_is_nothing(store):
    """Lists of keys may be empty."""
    store.set({})

    assert [] == store.get([])


def test_a_value_is_replaced_by_those_who_know_it(store, connect):
    """Of several that would put something in place of one value, the first does."""
    other = connect()
    store.set({"k": b"old"})
    stood = [
        store.create("k", b"new", b"another"),
        store.create("k", b"new", b"old"),
        other.create("k", b"newer", b"old"),
    ]

    assert [b"old", b"new", b"new"] == stood
    assert [b"new"] == other.get(["k"])
    other.close()


def test_the_first_to_create_wins(store, connect):
    """Everybody learns the value that stands."""
    other = connect()

    assert [b"first", b"first", b"first"] == [
        store.create("k", b"first"),
        other.create("k", b"second"),
        store.create("k", b"third"),
    ]
    other.close()


def test_concurrent_creators_agree(connect):
    """However many create a key at once, one value stands for all."""
    stores = [connect() for _ in range(8)]
    with ThreadPoolExecutor(8) as pool:
        standing = list(
            pool.map(lambda pair: pair[1].create("k", b"%d" % pair[0]), enumerate(stores))
        )
    for store in stores:
        store.close()

    assert [standing[0]] * 8 == standing


def test_wait_returns_values_that_are_there(store):
    """Nobody waits for what has happened."""
    store.set({"a": b"1", "b": b"2"})

    assert [b"2", b"1"] == store.wait(["b", "a"], None)


def test_wait_ends_when_the_last_key_is_there(store, connect):
    """All keys must be there, not one."""
    other = connect()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["a", "b"], LONG_S)
        other.set({"a": b"1"})
        early = store.wait(["a", "b"], 0.05)
        other.create("b", b"2")
        late = waiting.result(LONG_S)
    other.close()

    assert (None, [b"1", b"2"]) == (early, late)


def test_a_wait_in_vain_returns_none(store):
    """The time-out is an answer, and the store goes on."""
    assert [None, None, [b"1"]] == [
        store.wait(["never"], 0.01),
        store.wait(["never"], 0),
        store.set({"a": b"1"}) or store.wait(["a"], 0.01 + LONG_S),
    ]


def test_a_wait_can_be_taken_up_again(store):
    """After a time-out the same keys may be waited for once more."""
    store.wait(["k"], 0.01)
    store.set({"k": b"1"})

    assert [b"1"] == store.wait(["k"], LONG_S)


def test_other_calls_go_on_while_one_waits(store):
    """A wait blocks nobody but its own thread."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.wait, ["k"], LONG_S)
        counted = store.add("n", 1)
        store.set({"k": b"1"})

        assert (1, [b"1"]) == (counted, waiting.result(LONG_S))


def test_closing_ends_a_wait(store):
    """An agent that leaves must not leave a blocked thread behind."""
    entered = threading.Event()

    def wait():
        entered.set()
        store.wait(["never"], None)

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(wait)
        entered.wait(LONG_S)
        store.close()

        with pytest.raises(RendezvousConnectionError, match="closed"):
            waiting.result(LONG_S)


def test_a_value_that_is_there_is_told(store):
    """Whoever asks late hears of it, too."""
    told = Queue()
    store.set({"k": b"1"})
    watch(store, ["k"], None, told.put)

    assert [b"1"] == told.get(timeout=LONG_S)


def test_a_value_is_told_when_it_comes(store, connect):
    """Nobody has to wait for it, and other calls go on."""
    told = Queue()
    other = connect()
    for key in ("a", "b"):
        watch(store, [key], None, lambda values, key=key: told.put((key, values)))
    other.set({"b": b"2"})
    first = told.get(timeout=LONG_S)
    store.set({"a": b"1"})
    second = told.get(timeout=LONG_S)
    other.close()

    assert (("b", [b"2"]), ("a", [b"1"])) == (first, second)


def test_closing_is_told(store):
    """Who was to hear of a value hears that there will be none; once the store is closed, too."""
    told = Queue()
    watch(store, ["never"], None, told.put)
    store.close()
    watch(store, ["never"], None, told.put)

    errors = [told.get(timeout=LONG_S) for _ in range(2)]
    assert ["closed", "closed"] == [str(error).split()[-1] for error in errors]
    assert {RendezvousConnectionError} == {type(error) for error in errors}


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.add("n", 1),
        lambda store: store.set({"k": b"1"}),
        lambda store: store.get(["k"]),
        lambda store: store.create("k", b"1"),
        lambda store: store.wait(["k"], 1),
    ],
)
def test_a_closed_store_says_so(store, use):
    """What comes after close() is refused, not lost."""
    store.close()

    with pytest.raises(RendezvousConnectionError, match="closed"):
        use(store)


def test_close_may_be_called_twice(store):
    """Cleaning up twice is no fault."""
    store.close()
    store.close()


def test_values_are_written_before_others_are_read(store, connect):
    """In one request where the store can do that, in two where it can't."""
    other = connect()
    found = exchange(store, {"mine": b"1"}, ["mine", "none"])
    nothing = exchange(store, {"a": b"2"}, [])

    assert ([b"1", None], [], [b"1"]) == (found, nothing, exchange(store, {}, ["mine"]))
    assert [b"1", b"2"] == other.get(["mine", "a"])
    other.close()
