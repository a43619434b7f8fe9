"""What a node loads to meet others over etcd v3: its start depends on it."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration

MEET = """
import sys
from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.backends.registry import get_rendezvous_handler
params = RendezvousParameters("etcd-v3", sys.argv[1], sys.argv[2], 1, 1)
handler = get_rendezvous_handler(params)
sys.stdout.write(f"{handler.next_rendezvous().rank}")
handler.shutdown()
slow = {"requests", "urllib3", "etcd3gw", "http.client", "ssl", "base64", "email"}
sys.exit(" ".join(sorted(slow & set(sys.modules))) or 0)
"""


def test_a_round_over_etcd_v3_loads_no_http_library(etcd_server, numbers):
    """No more than sockets and JSON; TLS only with certificates."""
    command = [sys.executable, "-c", MEET, etcd_server.get_endpoint(), f"start-{next(numbers)}"]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (0, "0", "") == (done.returncode, done.stdout, done.stderr)
