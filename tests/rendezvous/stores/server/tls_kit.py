"""A greeting over a protected connection, and its constants."""

from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.server.dial import Target, dial
from elrun.rendezvous.stores.server.guard import guard_of
from elrun.rendezvous.stores.server.hello import Hello
from elrun.rendezvous.stores.server.link import Link

HERE = "127.0.0.1"
LONG_S = 30
ME = Hello("job", "a", "5e55")


def guard(**config):
    return guard_of(RendezvousParameters("c10d", "", "job", 1, 2, **config))


def greet(port, protection, name=HERE):
    """Return how a server answers a client with this protection."""
    answer = dial(Target(Endpoint(HERE, port), protection, name), ME, LONG_S, LONG_S)
    if isinstance(answer, Link):
        answer.close()
    return answer
