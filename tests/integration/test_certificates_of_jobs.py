"""Jobs of several agents that show each other certificates."""

import contextlib
import itertools
import socket
import threading

import pytest
from certificate_kit import Authority, needs_openssl
from elrun.rendezvous.network.addresses import parse_endpoint

pytestmark = [pytest.mark.integration, needs_openssl]

TELL = """
import os, sys
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
"""


@pytest.fixture(name="authority")
def _authority(tmp_path):
    return Authority(tmp_path / "authority")


@pytest.fixture(name="agent")
def _agent(elrun, vacant_endpoint):
    """Return what starts an agent of a job, with certificates or without."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "job"]

    def start(files, *args, rank=None):
        conf = ["--rdzv-conf", ",".join(f"{k}={v}" for k, v in files.items())] if files else []
        host, port = vacant_endpoint.split(":")
        static = ["--node-rank", rank, "--master-addr", host, "--master-port", port]
        return elrun(*(meeting if rank is None else static), "--nnodes", 2, *conf, *args)

    return start


@pytest.mark.parametrize("is_static", [False, True], ids=["c10d", "static"])
def test_agents_with_certificates_run_a_job(agent, script, authority, is_static):
    """Each has one of its own."""
    path = script(TELL)
    jobs = [
        agent(
            {"cacert": authority.path, **authority.certify(f"node{number}")},
            path,
            rank=number if is_static else None,
        )
        for number in range(2)
    ]

    assert [(0, "nodes 2\n", "")] * 2 == [job.finish() for job in jobs]


def test_an_agent_without_a_certificate_is_refused_and_disturbs_nobody(agent, script, authority):
    """It ends with 75 and says why; the others meet."""
    path = script(TELL)
    first = agent({"cacert": authority.path, **authority.certify("a")}, path)
    stranger = agent({"is_host": "false"}, path)
    code, _, err = stranger.finish(60)
    second = agent({"cacert": authority.path, **authority.certify("b")}, path)

    assert 75 == code, err
    assert "run 'job' takes only nodes with a certificate, and this one was given none" in err
    assert [(0, "nodes 2\n")] * 2 == [job.finish()[:2] for job in (first, second)]


def test_a_certificate_that_has_expired_is_bad_usage(agent, script, authority):
    """Exit code 2 and a sentence, before anybody is met."""
    files = {"cacert": authority.path, **authority.certify("old", days=-1)}
    code, _, err = agent(files, script("")).finish()

    assert 2 == code, err
    assert "old.pem: other nodes would refuse this certificate" in err
    assert "certificate has expired" in err
    assert "Traceback" not in err


WORK = """
import os, sys, time
sys.stdout.write(f"nodes {os.environ['GROUP_WORLD_SIZE']}\\n")
sys.stdout.flush()
time.sleep(3)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    sys.exit(3)
"""
OPENINGS = [
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"\x16" * 4096,
    b"\0\0\0\2{}" * 40,
    b"GET / HTTP/1.1\r\n",
    b"",
]


def test_strangers_without_certificates_hold_up_no_job(agent, script, authority, vacant_endpoint):
    """Garbage, and connections that stay half open: workers run, one fails, all are restarted."""
    path, where = script(WORK), parse_endpoint(vacant_endpoint)
    is_over, visits = threading.Event(), []
    jobs = [
        agent(
            {"cacert": authority.path, **authority.certify(f"node{number}")},
            "--max-restarts", 1, path,
        )
        for number in range(2)
    ]  # fmt: skip
    for job in jobs:
        job.wait_for_line("nodes 2")

    def attack():
        with contextlib.ExitStack() as held, contextlib.suppress(OSError):  # the job has ended
            for opening in itertools.cycle(OPENINGS):
                if is_over.wait(0.003):
                    return
                stranger = held.enter_context(socket.create_connection(where))
                stranger.sendall(opening)
                visits.append(opening)

    thread = threading.Thread(target=attack)
    thread.start()
    ends = [job.finish() for job in jobs]
    is_over.set()
    thread.join()

    assert [(0, "nodes 2\nnodes 2\n")] * 2 == [end[:2] for end in ends], ends
    assert 100 < len(visits)
