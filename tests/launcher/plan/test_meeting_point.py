# ruff: noqa: E501  sentences are quoted whole, so that they can be searched for
"""Which rendezvous the options ask for."""

import pytest
from elrun.launcher.plan.meeting_point import choose_meeting


def meeting_of(plan):
    config = plan.config
    return config.rdzv_backend, config.rdzv_endpoint, config.run_id, config.rdzv_configs


ALONE = ("standalone", "", "", {})


@pytest.mark.parametrize(
    "options",
    [
        "",
        "--standalone",
        "--nnodes 1",
        "--nnodes 1:1 --rdzv-backend static",
        "--rdzv-backend c10d",
        "--rdzv-backend standalone",
        "--standalone --rdzv-backend c10d --rdzv-endpoint localhost:0",
        "--rdzv-backend c10d --rdzv-endpoint localhost:0",
        "--standalone --node-rank 3",
        "--master-port 0",
        "--rdzv-endpoint localhost:0",
    ],
)
def test_one_node_without_a_place_to_meet_is_standalone(elrun, options):
    """It needs no store, and shares no run id with another job."""
    assert ALONE == meeting_of(elrun.plan(*options.split(), "x.py"))


def test_a_setting_may_have_any_name(elrun):
    """Also ``self``: a plug-in may know it."""
    plan = elrun.plan("--rdzv-backend", "c10d", "--rdzv-conf", "self=1,is_host=on", "x.py")

    assert {"self": "1", "is_host": "on"} == plan.config.rdzv_configs


def test_a_standalone_job_may_have_a_name(elrun):
    """Its log folder is called by it; torchrun drops it."""
    plan = elrun.plan("--standalone", "--rdzv-id", "mine", "x.py")

    assert ("standalone", "", "mine", {}) == meeting_of(plan)


def test_a_pod_s_variables_do_not_trouble_a_standalone_job(elrun):
    """Kubeflow sets the node's rank and the master of the whole job in each pod."""
    pod = {"PET_NODE_RANK": "1", "PET_MASTER_ADDR": "pod-0", "PET_MASTER_PORT": "29500"}

    plan = elrun.plan("--standalone", "x.py", **pod)

    assert (ALONE, ()) == (meeting_of(plan), plan.notices)


@pytest.mark.parametrize(
    ("options", "endpoint", "rank"),
    [
        ("--nnodes 2 --master-addr n1 --node-rank 1", "n1:29500", 1),
        ("--nnodes 2 --master-addr n1 --master-port 1234", "n1:1234", 0),
        ("--nnodes 2 --master-addr [::1]", "[::1]:29500", 0),
        ("--nnodes 2 --rdzv-endpoint n1:1234 --node-rank 1", "n1:1234", 1),
        ("--master-port 1234", "127.0.0.1:1234", 0),
        ("--rdzv-endpoint n1:1234", "n1:1234", 0),
    ],
)
def test_static_nodes_meet_where_they_are_told(elrun, options, endpoint, rank):
    """The endpoint, else master address and port; the node's rank goes with them."""
    plan = elrun.plan(*options.split(), "x.py")

    assert ("static", endpoint, "none", {"rank": rank}) == meeting_of(plan)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--rdzv-backend c10d --rdzv-endpoint n1 --nnodes 2", ("c10d", "n1", "none", {})),
        (
            "--rdzv-backend=c10d --rdzv-endpoint=a:1,b:2 --nnodes=1:4 --rdzv-id=7 --rdzv-conf=join_timeout=5",
            ("c10d", "a:1,b:2", "7", {"join_timeout": "5"}),
        ),
        ("--rdzv-backend etcd-v3 --rdzv-endpoint e:2379", ("etcd-v3", "e:2379", "", {})),
        (
            "--rdzv-backend etcd-v3 --rdzv-endpoint e:2379 --nnodes 2 --rdzv-id none",
            ("etcd-v3", "e:2379", "none", {}),
        ),
        (
            "--rdzv-backend c10d --rdzv-endpoint n1 --nnodes 2 --node-rank 1",
            ("c10d", "n1", "none", {"rank": 1}),
        ),
    ],
)
def test_other_backends_get_what_was_given(elrun, options, expected):
    """Endpoint, run id and settings as they are."""
    assert expected == meeting_of(elrun.plan(*options.split(), "x.py"))


@pytest.mark.parametrize("endpoint", ["/shared/folder", "zk://a:1/x", "node1:0", "a b"])
def test_a_plug_in_s_endpoint_is_its_own_affair(elrun, endpoint):
    """It may be a folder, an address of another kind, or nothing that elrun would understand."""
    options = ("--nnodes", "2", "--rdzv-backend", "mine", "--rdzv-endpoint", endpoint)

    assert ("mine", endpoint) == choose_meeting(elrun.given(*options, "x.py"))[:2]


def test_what_only_static_reads_is_noticed_elsewhere(elrun):
    """Typed on the command line, it was meant to do something."""
    options = "--rdzv-backend c10d --rdzv-endpoint n1 --node-rank 1 --master-addr n2"

    alone = elrun.plan(*options.split(), "x.py").notices
    several = elrun.plan("--nnodes", "2", *options.split(), "x.py").notices

    rest = "--master-addr n2: without effect, as the rendezvous is not static"
    assert ((f"--node-rank 1, {rest}",), (rest,)) == (alone, several)


def test_a_static_node_without_a_rank_says_which_it_takes(elrun):
    """Two nodes of rank 0 would wait for workers that never come."""
    options = "--nnodes 2 --master-addr n1"

    silent = elrun.plan(*options.split(), "--node-rank", "0", "x.py").notices
    told = elrun.plan(*options.split(), "x.py").notices

    sentence = (
        "this node takes rank 0 of 2, as it was given no --node-rank; "
        "with static rendezvous give each node its own"
    )
    assert ((), (sentence,)) == (silent, told)


def test_a_variable_may_wish_for_a_rank(elrun):
    """Operators set it on each node of a job."""
    options = "--rdzv-backend c10d --rdzv-endpoint n1 --nnodes 2"

    plan = elrun.plan(*options.split(), "x.py", PET_NODE_RANK="1")

    assert {"rank": 1} == meeting_of(plan)[-1]


def test_variables_that_only_static_reads_are_not_noticed(elrun):
    """They may be set for every job of a site."""
    options = "--rdzv-backend c10d --rdzv-endpoint n1"

    assert () == elrun.plan(*options.split(), "x.py", PET_NODE_RANK="1").notices


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            "--standalone --nnodes 2",
            "--nnodes 2: --standalone is for one node; leave one of the two out",
        ),
        (
            "--rdzv-backend standalone --nnodes 1:2",
            "--nnodes 1:2: --rdzv-backend standalone is for one node; leave one of the two out",
        ),
        (
            "--nnodes 2",
            "--nnodes 2: say where the nodes meet; give --rdzv-backend c10d and --rdzv-endpoint HOST:PORT, or --master-addr HOST and --node-rank for static rendezvous",
        ),
        (
            "--nnodes 1:2",
            "--nnodes 1:2: static rendezvous takes a fixed number of nodes; give --rdzv-backend c10d and --rdzv-endpoint HOST:PORT for a range",
        ),
        (
            "--nnodes 2 --node-rank 3 --master-addr n1",
            "--node-rank 3: with --nnodes 2 give a rank from 0 to 1",
        ),
        (
            "--nnodes 2 --rdzv-endpoint n1",
            "--rdzv-endpoint n1: the port is missing; give HOST:PORT",
        ),
        (
            "--nnodes 2 --rdzv-endpoint n1:1,n2:2",
            "--rdzv-endpoint n1:1,n2:2: static rendezvous has one; give HOST:PORT",
        ),
        (
            "--nnodes 2 --master-addr n1 --master-port 0",
            "--master-port 0: port 0 is known to no other node; give a port",
        ),
        (
            "--nnodes 2 --rdzv-backend c10d",
            "--rdzv-backend c10d: 2 nodes need a place to meet; give --rdzv-endpoint HOST:PORT",
        ),
        (
            "--nnodes 2 --rdzv-backend etcd-v3 --rdzv-endpoint e",
            "--rdzv-backend etcd-v3: an etcd is shared by jobs, which their names tell apart; give --rdzv-id NAME, the same on all nodes of this job and on no others",
        ),
        (
            "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint n1:0",
            "--rdzv-endpoint n1:0: port 0 is known to no other node; give a port",
        ),
        (
            "--nnodes 2 --rdzv-backend c10",
            "--rdzv-backend c10: there is no such backend; give c10d, etcd, etcd-v2, etcd-v3, standalone or static; did you mean c10d?",
        ),
    ],
)
def test_contradictions_are_refused(elrun, options, sentence):
    """Before anything starts, with what would be right."""
    assert sentence == elrun.refusal(*options.split(), "x.py")


def test_a_contradiction_with_a_variable_names_it(elrun):
    """Nobody would look for ``--nnodes`` on a command line without it."""
    sentence = elrun.refusal("--standalone", "x.py", PET_NNODES="2")

    assert "PET_NNODES=2: --standalone is for one node; leave one of the two out" == sentence
