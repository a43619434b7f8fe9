"""Which failures tell of a store that no rank has opened."""

import pytest
from elrun.agent.failures.other_store import about_other_store

OWN = {"MASTER_ADDR": "node1", "MASTER_PORT": "20728", "TORCHELASTIC_USE_AGENT_STORE": "True"}
TIMED_OUT = "The client socket has timed out after 3000ms while trying to connect to ({}, {})."
REFUSED = "The client socket has failed to connect to any network address of ({}, {})."
STACK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
  File "torch/distributed/rendezvous.py", line 190, in {}
torch.distributed.DistNetworkError: {}
"""


def traceback(words=TIMED_OUT, port=29500, function="_create_c10d_store"):
    return STACK.format(function, words.format("127.0.0.1", port))


@pytest.mark.parametrize("words", [TIMED_OUT, REFUSED])
def test_a_port_that_no_rank_opens_is_named(words):
    """With the address where the store is."""
    assert (
        "the workers' store is at node1:20728 (MASTER_ADDR, MASTER_PORT); init_process_group opens "
        "none at port 29500, as TORCHELASTIC_USE_AGENT_STORE is True"
    ) == about_other_store(traceback(words), OWN)


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("", {}),
        (traceback(port=20728), {}),
        (traceback("wait timeout after 3000ms"), {}),
        (traceback(function="my_store"), {}),
        (traceback(), {"TORCHELASTIC_USE_AGENT_STORE": "False"}),
    ],
)
def test_nothing_is_said_of_another_loss(text, changes):
    """The store may be slow or gone; a script may open one itself; rank 0 may open it."""
    assert "" == about_other_store(text, OWN | changes)


def test_a_worker_without_an_environment_is_no_fault():
    """A plug-in may start workers in its own way."""
    assert "" == about_other_store(traceback(), {})
