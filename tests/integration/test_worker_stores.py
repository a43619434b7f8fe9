"""Where workers meet: in a store that a process of the agent's serves, or another's agent."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

WHOSE_STORE = Path(__file__).with_name("programs") / "whose_store.py"
PATIENCE_S = 240

# Agents serve the workers' store, unless this says that they must not.
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


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_process_of_the_agent_s_serves_the_workers_store(hosts, vacant_endpoint, nodes):
    """It is the agent's of rank 0's node; to the others' workers it is another's."""
    told = hosts("elrun", vacant_endpoint if nodes > 1 else "", nodes)

    assert says(True, ["host"] * 2 + ["another"] * 2 * (nodes - 1)) == told


@pytest.mark.parametrize("whose", ["elrun", "torch"])
def test_rank_0_serves_the_store_where_a_variable_says_so(hosts, vacant_endpoint, whose):
    """torch's own variable, of elrun's rendezvous and of another's."""
    told = hosts(whose, vacant_endpoint, 2, NOT_SHARED)

    assert says(False, ["worker", "another", "another", "another"]) == told


@pytest.mark.parametrize("nodes", [1, 2])
def test_workers_use_the_agent_s_store_where_the_rendezvous_offers_it(
    hosts, vacant_endpoint, nodes
):
    """With torch's own handler: no worker serves a store, one of the agents does for all."""
    told = hosts("torch", vacant_endpoint, nodes)

    by_the_first = ["agent", "agent", *["another"] * 2 * (nodes - 1)]
    assert told in (says(True, by_the_first), says(True, by_the_first[::-1]))
