"""Jobs of several agents that show each other certificates."""

import pytest
from certificate_kit import Authority, needs_openssl

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
