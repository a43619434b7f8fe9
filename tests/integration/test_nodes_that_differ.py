"""Nodes of one job that were given other versions or options: all of them say so, once."""

import os
import re
import venv

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

NAME = os.uname().nodename
PROGRAM = "print('ran')"
FAILS_ONCE = """\
import os, sys, time
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    time.sleep(0.5) if os.environ["RANK"] == "0" else sys.exit(3)
"""


@pytest.fixture(params=["c10d", "static", "etcd-v2", "etcd-v3"], name="meeting")
def _meeting(request):
    """Return what gives a node's options, by its rank."""
    if request.param.startswith("etcd"):
        with EtcdServer() as server:
            place = server.get_endpoint()
            yield lambda _: ["--rdzv-backend", request.param, "--rdzv-endpoint", place]
        return
    yield request.getfixturevalue("at_an_endpoint")(request.param)


@pytest.fixture(name="at_an_endpoint")
def _at_an_endpoint(vacant_endpoint):
    host, port = vacant_endpoint.split(":")
    by_rank = ["--rdzv-backend", "static", "--master-addr", host, "--master-port", port]
    by_store = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]

    def options(backend):
        return lambda rank: [*by_rank, "--node-rank", rank] if backend == "static" else by_store

    return options


@pytest.fixture(name="c10d")
def _c10d(at_an_endpoint):
    return at_an_endpoint("c10d")


def start(elrun, meeting, *nodes, common=(), program="script.py"):
    """Start nodes; each is given as its environment and its own options."""
    options = ["--nnodes", len(nodes), "--rdzv-id", "job", *common]
    return [
        elrun(*options, *meeting(rank), *mine, program, env=environment)
        for rank, (environment, *mine) in enumerate(nodes)
    ]


def with_torch(tmp_path, version):
    """Return variables by which Python finds the metadata of this version of torch first."""
    folder = tmp_path / "path"
    (folder / f"torch-{version}.dist-info").mkdir(parents=True)
    return {"PYTHONPATH": str(folder)}


def interpreter_with_torch(tmp_path, version):
    """Return variables by which workers run in an environment of their own."""
    venv.create(tmp_path / "venv", symlinks=True)
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "torch.pth").write_text(with_torch(tmp_path, version)["PYTHONPATH"] + "\n")
    return {"PYTHON_EXEC": f"{tmp_path}/venv/bin/python"}


def said(ends, words):
    """Return how often each node has said the sentence."""
    return [len(re.findall(words, err)) for _, _, err in ends]


@pytest.mark.parametrize("environment", [with_torch, interpreter_with_torch])
def test_another_torch_on_one_node_is_told_by_all(elrun, script, meeting, tmp_path, environment):
    """The job goes on; nothing of torch was imported to find that out."""
    script(PROGRAM)
    other = environment(tmp_path, "2.99.1")

    jobs = start(elrun, meeting, ({},), (other,), ({},))
    ends = [job.finish() for job in jobs]

    assert [(0, "ran\n")] * 3 == [(code, out) for code, out, _ in ends], ends
    words = rf"run 'job': {NAME} \(group rank \d\) has torch 2\.99\.1, the 2 others \d"
    assert [1, 1, 1] == said(ends, words), ends


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--nproc-per-node", 2], "has --nproc-per-node 2, the 2 others 1"),
        (["--rdzv-conf", "join_timeout=77"], "join_timeout=77, the 2 others the default"),
        (["--hang-timeout", 55], "has --hang-timeout 55, the 2 others the default"),
        (["--no-python", "echo"], "has the script echo, the 2 others script.py"),
        (["-m", "json.tool", "--help"], "has the script -m json.tool, the 2 others script.py"),
        (["script.py", "argument"], "gives the script other arguments than the 2 others"),
    ],
)
def test_another_option_on_one_node_is_told_by_all(elrun, script, c10d, options, words):
    """It may be meant so: the job goes on."""
    script(PROGRAM)

    jobs = start(elrun, c10d, ({},), ({}, *options), ({},))
    ends = [job.finish() for job in jobs]

    assert [0, 0, 0] == [code for code, _, _ in ends], ends
    assert [1, 1, 1] == said(ends, re.escape(words)), ends


def test_nodes_that_are_alike_say_nothing(elrun, script, meeting):
    """A job that works has nothing to say."""
    script(PROGRAM)

    ends = [job.finish() for job in start(elrun, meeting, ({},), ({},), common=["-q"])]

    assert [(0, "ran\n", "")] * 2 == ends


def test_a_restart_does_not_repeat_it(elrun, script, c10d, tmp_path):
    """The nodes of the next round differ as those of the one before did."""
    script(FAILS_ONCE)
    other = with_torch(tmp_path, "2.99.1")

    jobs = start(elrun, c10d, ({},), (other,), common=["--max-restarts", 1])
    ends = [job.finish() for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert [1, 1] == said(ends, r"has torch |\(group rank \d\) has torch"), ends


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (["--max-restarts", 1], ["--max-restarts", 2], "--max-restarts "),
        (["--nnodes", 2], ["--nnodes", 3], "--nnodes "),
        (["--nnodes", 3], ["--nnodes", 2], "--nnodes "),
        (
            ["--rdzv-conf", "heartbeat_patience=8"],
            ["--rdzv-conf", "heartbeat_interval=5"],
            "heartbeat_interval=5",
        ),
    ],
)
def test_nodes_that_can_not_be_in_one_job_end_soon(elrun, script, c10d, first, second, words):
    """Both with the reason, whichever came first, and whichever has the store."""
    script(PROGRAM)

    jobs = start(elrun, c10d, ({}, *first), ({}, *second))
    ends = [job.finish() for job in jobs]

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert [True, True] == [words in err for _, _, err in ends], ends
    assert ["", ""] == [out for _, out, _ in ends]


def test_nodes_with_other_budgets_end_soon_on_each_backend(elrun, script, meeting):
    """Whatever the store is."""
    script(PROGRAM)

    jobs = start(elrun, meeting, ({}, "--max-restarts", 1), ({}, "--max-restarts", 2))
    ends = [job.finish() for job in jobs]

    assert [75, 75] == [code for code, _, _ in ends], ends
    assert [True, True] == ["--max-restarts " in err for _, _, err in ends], ends
