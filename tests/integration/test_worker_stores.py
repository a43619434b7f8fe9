"""Where workers meet: in a store of their own, or in the agent's where that offers it."""

from pathlib import Path

import pytest
from elrun.rendezvous.ports import free_port

pytestmark = pytest.mark.integration

WHOSE_STORE = Path(__file__).with_name("programs") / "whose_store.py"
PATIENCE_S = 240

# torch's handlers offer the agent's store, unless this says that they must not.
NOT_SHARED = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}


@pytest.fixture(name="hosts")
def _hosts(elrun):
    """Return what each rank says of the store that all have formed a group in."""

    def run(whose, endpoint, nodes, env=None):
        words = [WHOSE_STORE, whose, endpoint, nodes]
        jobs = [elrun(*words, command=(), env=env) for _ in range(nodes)]
        ends = [job.finish(PATIENCE_S) for job in jobs]
        assert [0] * nodes == [code for code, _, _ in ends], ends
        return sorted(line for _, out, _ in ends for line in out.splitlines())

    return run


def says(variable, hosts):
    """Return what the ranks print, all of which hear from each who serves the store."""
    return [f"{rank} {variable} {len(hosts)} {hosts}" for rank in range(len(hosts))]


def test_one_node_s_workers_have_a_store_of_their_own(hosts):
    """Rank 0 serves it, so no attempt meets what an earlier one left."""
    assert says(False, ["worker", "another"]) == hosts("elrun", "", 1)


@pytest.mark.parametrize(("whose", "env"), [("elrun", None), ("torch", NOT_SHARED)])
def test_workers_of_two_nodes_have_a_store_of_their_own(hosts, whose, env):
    """Over c10d, too, and with another's rendezvous that does not offer its own."""
    expected = says(False, ["worker", "another", "another", "another"])

    assert expected == hosts(whose, f"127.0.0.1:{free_port()}", 2, env)


@pytest.mark.parametrize("nodes", [1, 2])
def test_workers_use_the_agent_s_store_where_the_rendezvous_offers_it(hosts, nodes):
    """With torch's own handler: no worker serves a store, one of the agents does for all."""
    told = hosts("torch", f"127.0.0.1:{free_port()}", nodes)

    by_the_first = ["agent", "agent", *["another"] * 2 * (nodes - 1)]
    assert told in (says(True, by_the_first), says(True, by_the_first[::-1]))
