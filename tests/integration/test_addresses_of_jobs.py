"""Where jobs of several agents meet, and where their workers do: IPv6, ports, names."""

import socket

import pytest

pytestmark = pytest.mark.integration

ALL_REDUCE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
sys.stdout.write(f"sum {int(one)} at {os.environ['MASTER_ADDR']}\\n")
sys.stdout.flush()
dist.destroy_process_group()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""
# Serves where the workers would meet; every attempt but the last fails while it does.
SERVES = """
import os, socket, sys
with socket.create_server(("", int(os.environ["MASTER_PORT"]))):
    sys.exit(os.environ["TORCHELASTIC_RESTART_COUNT"] != "3")
"""


def link_address():
    """Return an address of this host with its zone, or None."""
    with open("/proc/net/if_inet6", encoding="ascii") as file:
        for line in file:
            digits, _, _, _, _, name = line.split()
            if digits.startswith("fe80"):
                return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))}%{name}"
    return None


@pytest.mark.parametrize("host", ["::1", link_address()])
def test_agents_and_workers_meet_over_ipv6(elrun, script, vacant_port, host):
    """The endpoint stands in brackets; MASTER_ADDR is what torch can connect to."""
    if host is None:
        pytest.skip("no interface here has a link-local address")
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"[{host}]:{vacant_port()}"]
    jobs = [elrun(*meeting, "--nnodes", 2, script(ALL_REDUCE)) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, f"sum 2 at {host}\n")] * 2 == [end[:2] for end in ends], ends
    assert not any("[W" in end[2] or "Traceback" in end[2] for end in ends), ends


def test_jobs_on_one_host_never_share_a_port(elrun, script):
    """Eight at once, each in four attempts: a worker that serves the store finds its port free."""
    path, env = script(SERVES), {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
    jobs = [elrun("--standalone", "--max-restarts", 3, path, env=env) for _ in range(8)]

    ends = [job.finish() for job in jobs]

    assert [0] * 8 == [code for code, _, _ in ends], ends


def test_two_jobs_of_several_agents_run_side_by_side(elrun, script, vacant_port):
    """Their stores and their workers' stores are in nobody's way."""
    path = script(ALL_REDUCE)
    ports = [vacant_port() for _ in range(2)]
    jobs = [
        elrun("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--nnodes", 2, path)
        for port in ports * 2
    ]

    ends = [job.finish() for job in jobs]

    assert [(0, "sum 2 at 127.0.0.1\n")] * 4 == [end[:2] for end in ends], ends
