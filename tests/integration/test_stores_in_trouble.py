"""Jobs whose store fails them: what the workers have done stands, and people are told the rest."""

import json
import os
import signal
from http.client import HTTPConnection

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

STEP_BY_STEP = """
import os, sys
print("begun", flush=True)
open(os.environ["GO"]).read()  # until the test has written to this pipe
sys.exit(int(os.environ["CODE"]))
"""


class Etcd:
    """A real etcd that can be told to be out of space."""

    def __init__(self, server):
        self.endpoint = server.get_endpoint()

    def raise_alarm(self, action="ACTIVATE"):
        host, port = self.endpoint.split(":")
        connection = HTTPConnection(host, int(port), timeout=30)
        body = json.dumps({"action": action, "memberID": "0", "alarm": "NOSPACE"})
        connection.request("POST", "/v3/maintenance/alarm", body)
        assert 200 == connection.getresponse().status
        connection.close()


@pytest.fixture(name="etcd")
def _etcd():
    with EtcdServer(v2=False) as server:
        yield Etcd(server)


@pytest.fixture(name="agents")
def _agents(elrun, script, tmp_path):
    """Return what starts two agents, each with a pipe that lets its worker go on."""

    def start(*meeting, code=0, first_hosts=False):
        path, jobs, pipes = script(STEP_BY_STEP), [], []
        for number in range(2):
            pipes.append(tmp_path / f"go{number}")
            os.mkfifo(pipes[-1])
            env = {"GO": str(pipes[-1]), "CODE": str(code)}
            host = ["--rdzv-conf", f"is_host={number == 0}"] if first_hosts else []
            jobs.append(elrun(*meeting, *host, "--rdzv-id", "job", "--nnodes", 2, path, env=env))
        for job in jobs:
            job.wait_for_line("begun")
        return jobs, pipes

    return start


def over(etcd, *settings):
    conf = ["--rdzv-conf", ",".join(settings)] if settings else []
    return ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", etcd.endpoint, *conf]


def test_an_etcd_without_space_takes_no_success_away(agents, etcd):
    """The workers have succeeded, and etcd takes no mark of it: each node's own success counts."""
    jobs, pipes = agents(*over(etcd))
    etcd.raise_alarm()

    for pipe in pipes:
        pipe.write_text("on")

    ends = [job.finish() for job in jobs]
    assert [0, 0] == [end[0] for end in ends], ends
    for _, _, err in ends:
        assert "how those of the other nodes fare can't be known" in err
        assert "space" in err


def test_an_etcd_that_has_space_again_is_used_again(agents, etcd):
    """While its alarm lasts the workers run on; then all end as ever."""
    jobs, pipes = agents(*over(etcd))
    etcd.raise_alarm()
    for job in jobs:
        for line in job.process.stderr:
            if "is not reached" in line:
                break

    etcd.raise_alarm("DEACTIVATE")
    for pipe in pipes:
        pipe.write_text("on")

    ends = [job.finish() for job in jobs]
    assert [0, 0] == [end[0] for end in ends], ends
    assert not any("can't be known" in err for _, _, err in ends), ends


def test_a_store_that_is_gone_takes_no_success_away(agents, vacant_endpoint):
    """The node that hosts it is killed; the other one's worker ends well all the same."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    jobs, pipes = agents(*meeting, first_hosts=True)
    jobs[0].signal(signal.SIGSTOP)
    pipes[1].write_text("on")
    for line in jobs[1].process.stderr:
        if "does not answer" in line:
            break

    jobs[0].signal(signal.SIGKILL)

    code, _, err = jobs[1].finish()
    assert 0 == code, err
    assert "how those of the other nodes fare can't be known" in err
