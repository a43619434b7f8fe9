"""Whether any of several nodes is alive: what is listened to, and what follows from silence."""

from elrun.rendezvous.liveness.peers import PeerMonitor


class Ear:
    """A heartbeat that has heard what the test says."""

    def __init__(self):
        self.listens_to = ()
        self.is_silent = set()

    def watch(self, keys):
        self.listens_to = tuple(keys)

    def silent(self):
        return frozenset(self.is_silent & set(self.listens_to))


def test_one_that_lives_is_enough():
    """The others' beats are not even read."""
    ear = Ear()
    peers = PeerMonitor(ear, ["a", "b", "c"])
    ear.is_silent = {"b", "c"}

    assert (False, ("a",)) == (peers.are_all_silent(), ear.listens_to)


def test_all_are_listened_to_once_the_first_is_silent():
    """They have to be silent, too, before all are gone."""
    ear = Ear()
    peers = PeerMonitor(ear, ["a", "b", "c"])
    ear.is_silent = {"a", "b"}

    assert [False, False] == [peers.are_all_silent() for _ in range(2)]
    assert ("a", "b", "c") == ear.listens_to
    ear.is_silent.add("c")
    assert peers.are_all_silent()


def test_one_that_wakes_up_is_not_gone():
    """Its beats are heard again."""
    ear = Ear()
    peers = PeerMonitor(ear, ["a", "b"])
    ear.is_silent = {"a", "b"}
    peers.are_all_silent()
    ear.is_silent = {"b"}

    assert not peers.are_all_silent()


def test_one_alone_is_gone_at_its_first_silence():
    """There is nobody else to listen to."""
    ear = Ear()
    peers = PeerMonitor(ear, ["a"])
    ear.is_silent = {"a"}

    assert peers.are_all_silent()
