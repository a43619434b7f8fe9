"""Jobs that meet over an etcd of three members, some of which die meanwhile."""

import select

import pytest
from cluster_kit import EtcdCluster
from job_kit import RunningJob

pytestmark = pytest.mark.integration


@pytest.fixture(params=["etcd-v3", "etcd-v2"], name="backend")
def _backend(request):
    return request.param


@pytest.fixture(name="host")
def _host():
    return "127.0.0.1"


@pytest.fixture(name="cluster")
def _cluster(backend, host, tmp_path):
    folder = tmp_path / "etcd"
    folder.mkdir()
    with EtcdCluster(folder, v2=backend == "etcd-v2", host=host) as cluster:
        yield cluster


@pytest.fixture(name="meeting")
def _meeting(backend, cluster):
    return ["--rdzv-backend", backend, "--rdzv-endpoint", cluster.endpoints]


@pytest.fixture(name="job")
def _job(elrun, meeting, tmp_path):
    return RunningJob(elrun, meeting, tmp_path / "go")


def let_pass(seconds):
    select.select([], [], [], seconds)


def test_a_member_may_die(job, cluster):
    """The agents go on with another one, and the failure after that restarts the job."""
    cluster.kill(0)  # the first of the endpoints, so the one that both ask

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends


@pytest.mark.parametrize("host", ["::1"])
def test_members_may_be_reached_over_ipv6(job, cluster, host):
    """Their addresses stand in brackets, and one may die as ever."""
    assert cluster.endpoints.startswith(f"[{host}]:")
    cluster.kill(0)

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends


def test_a_member_may_freeze(job, cluster):
    """Who answers no more is asked no more."""
    cluster.freeze(0)

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends


def test_the_leader_may_die(job, cluster):
    """The others choose a new one meanwhile."""
    cluster.kill(cluster.leader())

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends


def test_a_silent_member_is_passed_over_while_another_leads(job, cluster):
    """Of three, the first one says nothing, and the leader has died: the rest elect one of them."""
    leader = cluster.leader()
    cluster.kill(leader)
    cluster.freeze(next(member for member in range(2, -1, -1) if member != leader))
    let_pass(3.0)
    cluster.start(leader)

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends


def test_too_few_members_end_the_job(elrun, cluster, meeting, tmp_path):
    """One of three decides nothing: the workers are stopped, and the members are named."""
    job = RunningJob(elrun, meeting, tmp_path / "go", "--rdzv-conf", "store_patience=3")
    cluster.kill(0, cluster.leader() or 1)

    ends = job.ends()

    assert [(75, "running 0\n")] * 2 == [end[:2] for end in ends], ends
    assert all(f"etcd at {cluster.endpoints} could not be reached" in end[2] for end in ends), ends
    assert all("(--rdzv-conf store_patience=...)" in end[2] for end in ends), ends


def test_members_that_come_back_in_time_are_not_missed(job, cluster):
    """Eight seconds without a majority are waited out, and no node counts as silent for it."""
    members = {0, cluster.leader() or 1}
    cluster.kill(*members)
    let_pass(8.0)
    for member in members:
        cluster.start(member)

    job.go.touch()

    ends = job.ends()
    assert RunningJob.WELL == [end[:2] for end in ends], ends
    assert all("is reached again" in end[2] for end in ends), ends
    assert not any("not been heard of" in end[2] for end in ends), ends
