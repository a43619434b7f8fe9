"""What SLURM or Kubernetes says stands for options that were not given."""

import string

import pytest
from elrun.launcher.plan.scheduler import first_host

# As `srun -N2 env` of SLURM 22.05 had it on the second node, less what nobody asks for.
SECOND_OF_TWO = {
    "SLURMD_NODENAME": "node2",
    "SLURM_JOB_ID": "4711",
    "SLURM_JOB_NODELIST": "node[1-2]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NNODES": "2",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_NPROCS": "2",
    "SLURM_NTASKS": "2",
    "SLURM_PROCID": "1",
    "SLURM_STEPID": "3",
    "SLURM_STEP_ID": "3",
    "SLURM_STEP_NODELIST": "node[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_TASKS_PER_NODE": "1(x2)",
}
FIRST_OF_TWO = {**SECOND_OF_TWO, "SLURM_NODEID": "0", "SLURM_PROCID": "0"}
# `srun -N1 -w node3` in a job of node1, node3 and node4.
ONE_OF_THREE = {
    **FIRST_OF_TWO,
    "SLURM_JOB_NODELIST": "node[1,3-4]",
    "SLURM_JOB_NUM_NODES": "3",
    "SLURM_STEP_NODELIST": "node3",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_STEP_NUM_TASKS": "1",
}
BATCH_SCRIPT = {
    name: value for name, value in FIRST_OF_TWO.items() if not name.startswith("SLURM_STEP_")
}
ALONE = ("standalone", "", "", {})


def meeting_of(plan):
    config = plan.config
    return config.rdzv_backend, config.rdzv_endpoint, config.run_id, config.rdzv_configs


def size_of(plan):
    return plan.config.min_nodes, plan.config.max_nodes, plan.config.nproc_per_node


def test_a_step_of_several_nodes_is_one_job(elrun):
    """They meet at the first host, at a port and under a name that follow from job and step."""
    plan = elrun.plan("x.py", **SECOND_OF_TWO)

    assert ("c10d", "node1:27702", "4711.3", {"rank": 1}) == meeting_of(plan)
    assert (2, 2, 1) == size_of(plan)


def test_workers_are_as_many_as_the_step_has_gpus(elrun):
    """On this node; another may have more."""
    plan = elrun.plan("x.py", SLURM_GPUS_ON_NODE="8", **SECOND_OF_TWO)

    assert (2, 2, 8) == size_of(plan)


def test_one_node_says_what_was_taken(elrun):
    """As options that could be given instead."""
    first, second = (
        elrun.plan("x.py", SLURM_GPUS_ON_NODE="1", **step) for step in (FIRST_OF_TWO, SECOND_OF_TWO)
    )

    expected = (
        "from SLURM: --nnodes 2 --rdzv-backend c10d --rdzv-endpoint node1:27702 "
        "--rdzv-id 4711.3 --nproc-per-node 1"
    )
    assert ((expected,), ()) == (first.notices, second.notices)


@pytest.mark.parametrize(
    ("options", "meeting", "size"),
    [
        ("--nproc-per-node 4", ("c10d", "node1:27702", "4711.3", {"rank": 1}), (2, 2, 4)),
        ("--nnodes 1:2", ("c10d", "node1:27702", "4711.3", {"rank": 1}), (1, 2, 8)),
        ("--rdzv-id mine", ("c10d", "node1:27702", "mine", {"rank": 1}), (2, 2, 8)),
        ("--rdzv-backend c10d", ("c10d", "node1:27702", "4711.3", {"rank": 1}), (2, 2, 8)),
        ("--node-rank 0", ("c10d", "node1:27702", "4711.3", {"rank": 0}), (2, 2, 8)),
        (
            "--rdzv-conf join_timeout=9",
            ("c10d", "node1:27702", "4711.3", {"rank": 1, "join_timeout": "9"}),
            (2, 2, 8),
        ),
    ],
)
def test_what_was_given_stands(elrun, options, meeting, size):
    """The rest is SLURM's."""
    plan = elrun.plan(
        *options.split(), "x.py", SLURM_GPUS_ON_NODE="8", OMP_NUM_THREADS="1", **SECOND_OF_TWO
    )

    assert (meeting, size) == (meeting_of(plan), size_of(plan))


@pytest.mark.parametrize(
    "options",
    [
        "--standalone",
        "--nnodes 1",
        "--rdzv-backend standalone",
    ],
)
def test_a_job_on_each_node_can_be_asked_for(elrun, options):
    """By an option that says that it is one node."""
    plan = elrun.plan(*options.split(), "x.py", SLURM_GPUS_ON_NODE="8", **SECOND_OF_TWO)

    assert (ALONE, (1, 1, 1), ()) == (meeting_of(plan), size_of(plan), plan.notices)


@pytest.mark.parametrize(
    ("options", "step", "hint"),
    [
        ("--rdzv-backend c10d --rdzv-endpoint n1:0", FIRST_OF_TWO, "--nnodes 2"),
        ("--master-port 0", FIRST_OF_TWO, "--nnodes 2"),
        (
            "",
            {**ONE_OF_THREE, "SLURM_STEP_NUM_TASKS": "2"},
            "srun --ntasks-per-node=1, and elrun --nproc-per-node 2",
        ),
    ],
)
def test_jobs_side_by_side_that_nobody_asked_for_are_told_of(elrun, options, step, hint):
    """By the first task; as many small jobs as there are tasks are seldom what was meant."""
    first = elrun.plan(*options.split(), "x.py", **step)
    second = elrun.plan(*options.split(), "x.py", **{**step, "SLURM_PROCID": "1"})

    notice = (
        "SLURM step 4711.3 has 2 tasks, and each runs a job of its own; "
        f"give {hint} for one job, or --standalone if that is meant"
    )
    assert ((notice,), ()) == (first.notices, second.notices)
    assert ALONE == meeting_of(first) == meeting_of(second)


def test_variables_of_an_operator_count_as_given(elrun):
    """``PET_…`` is as good as an option."""
    plan = elrun.plan("x.py", PET_STANDALONE="1", **SECOND_OF_TWO)

    assert ALONE == meeting_of(plan)


@pytest.mark.parametrize(
    "variables",
    [
        BATCH_SCRIPT,
        ONE_OF_THREE,
        {**SECOND_OF_TWO, "SLURM_STEP_NUM_NODES": "many"},
        {**SECOND_OF_TWO, "TORCHELASTIC_RUN_ID": "4711.3"},
    ],
    ids=["batch script", "step of one node", "no number", "started by a worker"],
)
def test_elsewhere_one_node_is_one_job(elrun, variables):
    """Where no step of several nodes has its tasks waiting for this one."""
    assert ALONE == meeting_of(elrun.plan("x.py", **variables))


def test_several_tasks_on_a_node_are_refused(elrun):
    """SLURM counts agents, elrun counts workers."""
    refusal = elrun.refusal("x.py", **{**SECOND_OF_TWO, "SLURM_STEP_NUM_TASKS": "8"})

    expected = (
        "SLURM step 4711.3 has 8 tasks on 2 nodes, and each would be an agent; give srun "
        "--ntasks-per-node=1, and elrun --nproc-per-node, which starts the workers (or "
        "--standalone for a job of its own in each task)"
    )
    assert expected == refusal


def test_several_tasks_on_a_node_may_be_meant(elrun):
    """A host may carry several nodes of a job, to those who say where they meet."""
    options = "--nnodes 8 --rdzv-backend c10d --rdzv-endpoint node1:29400"
    variables = {**SECOND_OF_TWO, "SLURM_STEP_NUM_TASKS": "8"}

    plan = elrun.plan(*options.split(), "x.py", **variables)

    assert ("c10d", "node1:29400", "none", {}) == meeting_of(plan)


@pytest.mark.parametrize(
    ("options", "step", "nodes", "wanted"),
    [
        ("--nnodes 3", SECOND_OF_TWO, "2 nodes", 3),
        ("--nnodes=3:4", SECOND_OF_TWO, "2 nodes", 3),
        ("--nnodes 3 --rdzv-backend c10d", SECOND_OF_TWO, "2 nodes", 3),
        ("--nnodes 3 --rdzv-id mine --rdzv-endpoint=", SECOND_OF_TWO, "2 nodes", 3),
        ("--nnodes 2", ONE_OF_THREE, "1 node", 2),
    ],
)
def test_more_nodes_than_the_step_has_are_refused(elrun, options, step, nodes, wanted):
    """Each node would wait for one that nothing starts, until its time is out."""
    refusal = elrun.refusal(*options.split(), "x.py", **step)

    assert refusal.startswith(f"--nnodes {options.split()[0].partition('=')[2] or wanted}: ")
    assert (
        f"SLURM step 4711.3 has {nodes}; give srun --nodes {wanted}, or --rdzv-backend c10d and "
        "--rdzv-endpoint HOST:PORT for nodes that other steps start"
    ) in refusal


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ("--nnodes 2:4", SECOND_OF_TWO),
        ("--nnodes 1:8", SECOND_OF_TWO),
        ("--nnodes 3 --rdzv-backend c10d --rdzv-endpoint node1:29400", SECOND_OF_TWO),
        ("--nnodes 3 --rdzv-backend c10d --rdzv-endpoint node1:29400", ONE_OF_THREE),
        ("--nnodes 3 --master-addr node1 --node-rank 2", ONE_OF_THREE),
        ("--nnodes 3", {**SECOND_OF_TWO, "SLURM_HET_SIZE": "2"}),
        ("--standalone", SECOND_OF_TWO),
    ],
)
def test_nodes_of_other_steps_may_join(elrun, options, variables):
    """A range may grow, and who says where nodes meet may start them in several steps."""
    assert elrun.plan(*options.split(), "x.py", **variables)


def test_one_of_several_agents_on_a_host_is_no_node_too_many(elrun):
    """Three tasks of one node are three agents to those who say where they meet."""
    step = {**ONE_OF_THREE, "SLURM_STEP_NUM_TASKS": "3"}

    assert elrun.plan(
        *["--nnodes", "3", "--master-addr", "node1", "--node-rank", "2"], "x.py", **step
    )


STATIC = "--nnodes 2 --master-addr node1"


@pytest.mark.parametrize(
    ("options", "variables", "rank"),
    [
        (STATIC, SECOND_OF_TWO, 1),
        (f"{STATIC} --node-rank 0", SECOND_OF_TWO, 0),
        ("--nnodes 3 --master-addr node1", SECOND_OF_TWO, 0),
        (STATIC, {**SECOND_OF_TWO, "SLURM_STEP_NUM_TASKS": "4"}, 0),
        (STATIC, {"JOB_COMPLETION_INDEX": "1"}, 1),
        (f"{STATIC} --node-rank 0", {"JOB_COMPLETION_INDEX": "1"}, 0),
        (STATIC, {"JOB_COMPLETION_INDEX": "1", "PET_NODE_RANK": "0"}, 0),
        (STATIC, {"JOB_COMPLETION_INDEX": "2"}, 0),
    ],
)
def test_static_nodes_have_the_scheduler_s_ranks(elrun, options, variables, rank):
    """If it counts the same nodes: SLURM by the step, Kubernetes by the index of the pod."""
    plan = elrun.plan(*options.split(), "x.py", **variables)

    assert ("static", "node1:29500", "none", {"rank": rank}) == meeting_of(plan)


@pytest.mark.parametrize("backend", ["c10d", "etcd", "etcd-v3"])
def test_pods_that_agree_on_ranks_wish_for_their_index(elrun, backend):
    """A pod that is started again has its old rank, whoever was there first."""
    meeting = ["--rdzv-backend", backend, "--rdzv-endpoint", "train-0.train:29400"]
    names = ["--nnodes", "2", "--rdzv-id", "x"]

    plan = elrun.plan(*meeting, *names, "x.py", JOB_COMPLETION_INDEX="1")

    assert {"rank": 1} == plan.config.rdzv_configs


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("node1", "node1"),
        ("node[1-3,7]", "node1"),
        ("node[08-10,12]", "node08"),
        ("node[7,9]", "node7"),
        ("login,node[1-2]", "login"),
        ("node[3-4],login", "node3"),
        ("rack[2-3]n[01-16]-ib", "rack2n01-ib"),
        ("a-b[5]", "a-b5"),
    ],
)
def test_the_first_host_of_a_list(hosts, expected):
    """As ``scontrol show hostnames`` would print it first."""
    assert expected == first_host(hosts)


@pytest.mark.parametrize(
    ("options", "variables", "forwarded"),
    [
        ("", {}, ""),
        ("", {"SLURM_JOB_ID": "7"}, "SIGUSR1,SIGUSR2"),
        ("", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "SIGUSR1,SIGUSR2"),
        ("--forward-signals=none", {"SLURM_JOB_ID": "7"}, ""),
        ("--forward-signals=HUP --signals-to-handle=TERM", {"SLURM_JOB_ID": "7"}, "HUP"),
        ("--signals-to-handle=SIGTERM,SIGUSR1", {"SLURM_JOB_ID": "7"}, "SIGUSR2"),
    ],
)
def test_schedulers_send_signals_that_do_not_mean_the_end(elrun, options, variables, forwarded):
    """Unless the user says what they mean."""
    plan = elrun.plan(*options.split(), "x.py", **variables)

    assert forwarded == plan.config.forward_signals


def test_a_signal_can_t_both_end_the_job_and_go_on(elrun):
    """The sentence names it."""
    refusal = elrun.refusal("--forward-signals=TERM,USR1", "x.py")

    assert (
        "SIGTERM ends the job, so it can't be forwarded as well: take it out of "
        "--forward-signals, or out of --signals-to-handle"
    ) == refusal


# What a PyTorchJob of four pods, and Volcano's plug-in for PyTorch, give the second one.
POD = {"MASTER_ADDR": "job-master-0", "MASTER_PORT": "23456", "WORLD_SIZE": "4", "RANK": "1"}


def test_a_pod_among_others_is_told_how_to_be_one_job_with_them(elrun):
    """Without a word, four pods would train four models; nothing else changes."""
    plan = elrun.plan("x.py", **POD)
    alone = elrun.plan("x.py")

    (notice,) = plan.notices
    assert notice == (
        "the environment has WORLD_SIZE=4 RANK=1 MASTER_ADDR=job-master-0 MASTER_PORT=23456, as "
        "for one of 4 nodes, and each such elrun runs a job of its own; for one job give "
        "--nnodes $WORLD_SIZE --node-rank $RANK --master-addr $MASTER_ADDR --master-port "
        "$MASTER_PORT, or --standalone or --nnodes 1 if that is meant"
    )
    assert (meeting_of(alone), size_of(alone)) == (meeting_of(plan), size_of(plan))


def test_the_options_that_a_pod_is_told_make_one_job(elrun):
    """As a shell reads them: the variables differ from pod to pod, the command does not."""
    (notice,) = elrun.plan("x.py", **POD).notices
    command = notice.partition("give ")[2].partition(", or")[0]
    options = string.Template(command).substitute(POD).split()

    plan = elrun.plan(*options, "x.py", **POD)

    assert ("static", "job-master-0:23456", 4, 1, ()) == (
        plan.config.rdzv_backend,
        plan.config.rdzv_endpoint,
        plan.config.min_nodes,
        plan.config.rdzv_configs["rank"],
        plan.notices,
    )


def test_a_number_of_pods_alone_is_told_with_what_is_missing(elrun):
    """The names of the others are not known then."""
    (notice,) = elrun.plan("x.py", WORLD_SIZE="2").notices

    assert "has WORLD_SIZE=2, as for" in notice
    assert "give --nnodes $WORLD_SIZE --node-rank RANK --master-addr HOST, or" in notice


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        ("", {"TORCHELASTIC_RUN_ID": "none"}),
        ("--standalone", {}),
        ("--nnodes 1", {}),
        ("", {"PET_NNODES": "1"}),
        ("--rdzv-backend c10d --rdzv-endpoint job-master-0:0", {}),
        ("--rdzv-backend standalone", {}),
        ("", {"WORLD_SIZE": "1"}),
        ("", {"WORLD_SIZE": "many"}),
    ],
)
def test_nothing_is_said_in_a_worker_or_where_a_way_was_given(elrun, options, variables):
    """A worker of elrun's or of torchrun's has the same variables."""
    assert () == elrun.plan(*options.split(), "x.py", **{**POD, **variables}).notices


def test_a_scheduler_s_notice_goes_before_that_of_the_variables(elrun):
    """A batch script may have set them for its steps."""
    plan = elrun.plan("x.py", **{**POD, **FIRST_OF_TWO})

    assert (True, 1) == (plan.notices[0].startswith("from SLURM: "), len(plan.notices))
