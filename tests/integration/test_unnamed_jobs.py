"""Jobs launched from Python without a name."""

import pytest

pytestmark = pytest.mark.integration

UNNAMED = """
import sys
from elrun import LaunchConfig, elastic_launch

def work():
    return 42

if __name__ == "__main__":
    least, endpoint = int(sys.argv[1]), sys.argv[2]
    config = LaunchConfig(least, 2, 1, rdzv_backend="c10d", rdzv_endpoint=endpoint,
                          rdzv_configs={"last_call_timeout": 0.1})
    print(elastic_launch(config, work)())
"""


def test_a_job_that_one_node_may_run_needs_no_name(elrun, script, vacant_endpoint):
    """As in torch it gets one of its own; that nobody can join it is said."""
    code, out, err = elrun(script(UNNAMED), 1, vacant_endpoint, command=()).finish()

    assert (0, "{0: 42}\n") == (code, out), err
    assert "no run_id was given" in err


def test_a_job_of_two_nodes_needs_a_name(elrun, script, vacant_endpoint):
    """With names of their own they would wait for each other in vain."""
    code, _, err = elrun(script(UNNAMED), 2, vacant_endpoint, command=()).finish()

    assert 1 == code
    assert "UsageError: run_id: the nodes of a job find each other by it" in err
