"""A node that can't take part in a job: it says so to the others before it goes."""

import os
import time

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import can_connect, until

PLAIN = "print('ran')"
MANY_S = 60  # far below the 600 s for which nodes wait for each other


@pytest.fixture(params=["c10d", "static", "etcd-v3"], name="meeting")
def _meeting(request):
    """Return what gives a node's options, by its rank."""
    if request.param == "etcd-v3":
        with EtcdServer() as server:
            yield lambda _: ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", server.get_endpoint()]
        return
    endpoint = request.getfixturevalue("vacant_endpoint")
    host, port = endpoint.split(":")
    by_rank = ["--rdzv-backend", "static", "--master-addr", host, "--master-port", port]
    by_store = ["--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint]
    yield lambda rank: [*by_rank, "--node-rank", rank] if request.param == "static" else by_store


def not_executable(tmp_path):
    path = tmp_path / "program"
    path.write_text("#!/bin/sh\n")
    return "--no-python", "./program"


def unwritable_logs(tmp_path):
    (tmp_path / "file").write_text("")
    return "--log-dir", "file/logs", "script.py"


KINDS = {
    "a missing script": (
        lambda _: ("nope.py",),
        "nope.py: there is no such script",
    ),
    "a missing program": (
        lambda _: ("--no-python", "nope"),
        "nope: there is no such program in PATH",
    ),
    "a program that can't be executed": (not_executable, "./program is not executable"),
    "a folder that can't be made": (unwritable_logs, "--log-dir file/logs"),
    "no GPU": (
        lambda _: ("--nproc-per-node", "gpu", "script.py"),
        "--nproc-per-node gpu: ",
    ),
    "a wrong value": (
        lambda _: ("--nproc-per-node", "two", "script.py"),
        "--nproc-per-node two: ",
    ),
    "no script": (lambda _: (), "SCRIPT is missing"),
    "a report that can't be kept": (
        lambda _: ("--report", "no/such/folder/r.json", "script.py"),
        "--report no/such/folder/r.json: it can't be kept: there is no folder ",
    ),
}


def start_pair(elrun, meeting, broken, arguments, nodes=2):
    """Start the nodes of a job, one of them with arguments of its own, that one last."""
    common = ["--nnodes", nodes, "--rdzv-id", "job"]
    order = [rank for rank in range(2) if rank != broken] + [broken]
    jobs = {
        rank: elrun(*common, *meeting(rank), *(arguments if rank == broken else ["script.py"]))
        for rank in order
    }
    return jobs[1 - broken], jobs[broken]


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_end_with_the_reason(elrun, script, meeting, tmp_path, kind):
    """Within seconds, and not by the time-out of a rendezvous; nothing has been started."""
    script(PLAIN)
    arguments, sentence = KINDS[kind]
    began = time.monotonic()

    other, broken = start_pair(elrun, meeting, 1, arguments(tmp_path))
    ends = [job.finish() for job in (other, broken)]

    assert ([75, 2], ["", ""], True) == (
        [code for code, _, _ in ends],
        [out for _, out, _ in ends],
        time.monotonic() - began < MANY_S,
    ), ends
    assert [True, True] == [sentence in err for _, _, err in ends], ends
    assert f"{os.uname().nodename} can't take part: {sentence}" in ends[0][2]


@pytest.mark.parametrize("is_first", [True, False])
def test_the_node_at_the_endpoint_stays_until_the_others_know(elrun, script, meeting, is_first):
    """It hosts the store of c10d and static jobs; whichever node comes first."""
    script(PLAIN)
    common = ["--nnodes", 2, "--rdzv-id", "job"]
    starts = [
        lambda: elrun(*common, *meeting(0), "nope.py"),
        lambda: elrun(*common, *meeting(1), "script.py"),
    ]
    jobs = [start() for start in (starts if is_first else reversed(starts))]
    broken, other = jobs if is_first else reversed(jobs)

    ends = [other.finish(), broken.finish()]

    assert [75, 2] == [code for code, _, _ in ends], ends
    assert "can't take part: nope.py: there is no such script" in ends[0][2]


def test_nodes_that_are_enough_go_on(elrun, script, vacant_endpoint):
    """The job has room for three, and two do."""
    script("import os; print(os.environ['WORLD_SIZE'])")
    options = ["--nnodes", "2:3", "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    options += ["--rdzv-id", "job"]
    jobs = [elrun(*options, "script.py")]
    until(lambda: can_connect(vacant_endpoint))  # the node at the endpoint is none that leaves
    jobs += [elrun(*options, name) for name in ("script.py", "nope.py")]

    ends = [job.finish() for job in jobs]

    assert [(0, "2\n"), (0, "2\n"), (2, "")] == [(code, out) for code, out, _ in ends], ends


def test_a_node_alone_is_refused_soon(elrun, vacant_endpoint):
    """Nobody is there to be told; the time for that is a setting."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "job"]
    job = elrun("--nnodes", 2, *meeting, "--rdzv-conf", "refusal_timeout=1.5", "nope.py")

    code, _, err = job.finish(MANY_S)

    assert (2, True, True) == (
        code,
        err.startswith("elrun: nope.py: there is no such script"),
        "telling the other nodes of run 'job'" in err,
    ), err


def test_a_node_that_is_refused_says_for_how_long_it_looks_for_etcd(elrun, vacant_endpoint):
    """That is not the time in which a node that takes part would look for it."""
    meeting = ["--rdzv-backend", "etcd-v3", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "job"]
    job = elrun("--nnodes", 2, *meeting, "--rdzv-conf", "refusal_timeout=4", "nope.py")

    code, _, err = job.finish(MANY_S)

    assert (2, True, False) == (
        code,
        "Connection refused; it is tried for 4 s (--rdzv-conf refusal_timeout=...)" in err,
        "join_timeout" in err,
    ), err


def test_a_job_of_one_node_has_nobody_to_tell(elrun):
    """It ends at once."""
    code, _, err = elrun("--standalone", "nope.py").finish(MANY_S)

    assert (2, "elrun: nope.py: there is no such script; give its path\n") == (code, err)
