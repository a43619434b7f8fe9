"""Whether any of several nodes is alive: what is listened to, and what follows from silence."""

from elrun.rendezvous.liveness.peers import PeerMonitor


class FakeHeartbeat:
    """A heartbeat that has heard what the test says."""

    def __init__(self):
        self.watched = ()
        self.is_silent = set()

    def watch(self, keys):
        self.watched = tuple(keys)

    def silent(self):
        return frozenset(self.is_silent & set(self.watched))


def test_one_that_lives_is_enough():
    """The others' beats are not even read."""
    heartbeat = FakeHeartbeat()
    peers = PeerMonitor(heartbeat, ["a", "b", "c"])
    heartbeat.is_silent = {"b", "c"}

    assert (False, ("a",)) == (peers.are_all_silent(), heartbeat.watched)


def test_all_are_listened_to_once_the_first_is_silent():
    """They have to be silent, too, before all are gone."""
    heartbeat = FakeHeartbeat()
    peers = PeerMonitor(heartbeat, ["a", "b", "c"])
    heartbeat.is_silent = {"a", "b"}

    assert [False, False] == [peers.are_all_silent() for _ in range(2)]
    assert ("a", "b", "c") == heartbeat.watched
    heartbeat.is_silent.add("c")
    assert peers.are_all_silent()


def test_one_that_wakes_up_is_not_gone():
    """Its beats are heard again."""
    heartbeat = FakeHeartbeat()
    peers = PeerMonitor(heartbeat, ["a", "b"])
    heartbeat.is_silent = {"a", "b"}
    peers.are_all_silent()
    heartbeat.is_silent = {"b"}

    assert not peers.are_all_silent()


def test_one_alone_is_gone_at_its_first_silence():
    """There is nobody else to listen to."""
    heartbeat = FakeHeartbeat()
    peers = PeerMonitor(heartbeat, ["a"])
    heartbeat.is_silent = {"a"}

    assert peers.are_all_silent()
