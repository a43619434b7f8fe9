# ruff: noqa: E501  sentences are quoted whole, so that they can be searched for
"""What a tired person gets wrong: each is refused in one sentence, before anything waits."""

import select
import signal
import socket

import pytest

pytestmark = pytest.mark.integration

ACCELERATE = """
compute_environment: LOCAL_MACHINE
distributed_type: MULTI_GPU
num_processes: 8
num_machines: 2
machine_rank: 1
main_process_ip: 10.0.0.1
main_process_port: 29500
"""
STEP_OF_TWO = {
    "SLURM_JOB_ID": "7",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_NODEID": "0",
    "SLURM_PROCID": "0",
}
TWO_TASKS_A_NODE = {
    **STEP_OF_TWO,
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
}
C10D = "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint"


@pytest.fixture(name="refused")
def _refused(elrun, tmp_path):
    """Run a command in a folder with some files; return its exit code and what it said."""
    (tmp_path / "x.py").write_text("print('ran')")
    (tmp_path / "bad.toml").write_text("nproc-per-nod = 2")
    (tmp_path / "accelerate.yaml").write_text(ACCELERATE)
    (tmp_path / "prog.sh").write_text("echo ran")
    (tmp_path / "folder").mkdir()

    def run(command, variables):
        code, out, err = elrun(*command.split(), env=variables).finish()
        assert "" == out
        return code, err.splitlines()

    return run


@pytest.mark.parametrize(
    ("command", "variables", "sentence"),
    [
        (
            "--nnodes 3 x.py",
            STEP_OF_TWO,
            "--nnodes 3: SLURM step 7.0 has 2 nodes; give srun --nodes 3, or --rdzv-backend c10d and --rdzv-endpoint HOST:PORT for nodes that other steps start",
        ),
        (
            "x.py",
            TWO_TASKS_A_NODE,
            "SLURM step 7.0 has 4 tasks on 2 nodes, and each would be an agent; give srun --ntasks-per-node=1, and elrun --nproc-per-node, which starts the workers (or --standalone for a job of its own in each task)",
        ),
        (
            f"{C10D} node1:29400:1 x.py",
            {},
            "--rdzv-endpoint node1:29400:1: give HOST:PORT; an IPv6 address stands in brackets, as in [::1]:29400",
        ),
        (
            f"{C10D} node1:http x.py",
            {},
            "--rdzv-endpoint node1:http: 'http' is no port; give 0 to 65535",
        ),
        (
            "--nnodes 2 --node-rank 2 --master-addr localhost x.py",
            {},
            "--node-rank 2: with --nnodes 2 give a rank from 0 to 1",
        ),
        (
            "--nnodes 2 x.py",
            {},
            "--nnodes 2: say where the nodes meet; give --rdzv-backend c10d and --rdzv-endpoint HOST:PORT, or --master-addr HOST and --node-rank for static rendezvous",
        ),
        (
            "--standalone --nnodes 2 x.py",
            {},
            "--nnodes 2: --standalone is for one node; leave one of the two out",
        ),
        (
            "--nnodes 2 --rdzv-backend c10 x.py",
            {},
            "--rdzv-backend c10: there is no such backend; give c10d, etcd, etcd-v2, etcd-v3, standalone or static; did you mean c10d?",
        ),
        (
            "--config bad.toml x.py",
            {},
            "bad.toml: nproc-per-nod is no option of elrun; did you mean nproc-per-node?",
        ),
        (
            "--config accelerate.yaml x.py",
            {},
            "--config accelerate.yaml: this is accelerate's configuration, which elrun does not read; give these options instead: --nproc-per-node 4 --nnodes 2 --node-rank 1 --master-addr 10.0.0.1 --master-port 29500",
        ),
        (
            "--config none.toml x.py",
            {},
            "--config none.toml: it can't be read: No such file or directory",
        ),
        (
            "--nnodes 2 --node-rank 2 --master-addr localhost none.py",
            {},
            "--node-rank 2: with --nnodes 2 give a rank from 0 to 1",
        ),
        ("stauts", {}, "stauts: there is no such script; did you mean `elrun status`?"),
        ("x", {}, "x: there is no such script; did you mean x.py?"),
        ("-np 4 x.py", {}, "-np is no option of elrun; did you mean --nproc-per-node?"),
        ("none.py", {}, "none.py: there is no such script; give its path"),
        ("folder", {}, "folder is a folder without a __main__.py; give a script in it"),
        ("-m x.py", {}, "--module x.py: this is a file, no module; leave --module out"),
        ("--no-python ./prog.sh", {}, "./prog.sh is not executable; make it so with chmod +x"),
        (
            "--nproc-per-node two x.py",
            {},
            "--nproc-per-node two: give a number of workers, 1 or more, or auto, gpu, cpu or xpu",
        ),
        (
            "x.py",
            {"PET_NNODES": "abc"},
            "PET_NNODES=abc: give a number of nodes such as 2, or MIN:MAX such as 1:4",
        ),
        (
            "--log-dir x.py x.py",
            {},
            "--log-dir x.py can't be used: it is a file; give a directory that you can write to",
        ),
        (
            "--signals-to-handle KILL x.py",
            {},
            "--signals-to-handle KILL: SIGKILL can't be handled by any process; give names such as SIGTERM,SIGUSR1",
        ),
        (
            "--requeue x.py",
            {},
            "--requeue: give --preempt-signal as well: it names the signal at which the job is to leave and run again, as in --preempt-signal USR1,TERM",
        ),
        (
            "--preempt-signal USR1 --forward-signals USR1 x.py",
            {},
            "SIGUSR1 preempts the job, so it can't be forwarded as well: take it out of --forward-signals, or out of --preempt-signal",
        ),
        ("--nprocs 2 x.py", {}, "--nprocs is no option of elrun; did you mean --nproc-per-node?"),
        (
            "",
            {},
            "SCRIPT is missing; say what to run: elrun [OPTIONS] SCRIPT [ARGS]... (elrun --help says more)",
        ),
    ],
)
def test_one_sentence_says_what_is_wrong_and_what_would_be_right(
    refused, command, variables, sentence
):
    """With exit code 2, and without a worker."""
    assert (2, [f"elrun: {sentence}"]) == refused(command, variables)


def test_a_port_that_another_program_holds_is_named_with_it(elrun, script):
    """And with who holds it, after the time for joining."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = f"localhost:{server.getsockname()[1]}"
        options = (*C10D.split(), endpoint, "--rdzv-id", "j", "--rdzv-conf", "join_timeout=3")
        code, _, err = elrun(*options, script("")).finish()

    assert 75 == code
    assert f"{endpoint} answers, but not as the rendezvous of an elrun job; port " in err
    assert "of this host is held by" in err


@pytest.mark.parametrize(
    ("options", "advice"),
    [
        (
            "--master-port {port}",
            "give another port than that of --master-port {port}, or --standalone, which needs none",
        ),
        (
            "--rdzv-endpoint localhost:{port}",
            "give another port than that of --rdzv-endpoint localhost:{port}, or --standalone, which needs none",
        ),
        (
            "--nnodes 2 --node-rank 0 --master-addr localhost --master-port {port}",
            "give all nodes another port than that of --master-port {port}",
        ),
        (
            "--nnodes 2 --node-rank 0 --rdzv-endpoint localhost:{port}",
            "give all nodes another port than that of --rdzv-endpoint localhost:{port}",
        ),
    ],
)
def test_a_static_port_that_is_held_is_named_with_what_to_do(elrun, script, options, advice):
    """By the option that gave the port."""
    with socket.create_server(("", 0)) as server:
        port = server.getsockname()[1]
        code, _, err = elrun(*options.format(port=port).split(), script("")).finish()

    assert (75, True) == (code, err.endswith(f"; {advice.format(port=port)}\n")), err


def test_a_host_that_nobody_knows_is_named(elrun, script):
    """With what the resolver said."""
    options = (*C10D.split(), "nowhere.invalid:29400", "--rdzv-id", "j")
    code, _, err = elrun(*options, "--rdzv-conf", "join_timeout=2", script("")).finish()

    assert 75 == code
    assert "could not be reached within 2 s: the name nowhere.invalid can't be resolved (" in err


def test_a_rank_that_two_nodes_have_is_named(elrun, script, vacant_endpoint):
    """The second one is refused while the first one waits for the right one."""
    host, port = vacant_endpoint.split(":")
    options = ("--nnodes", 3, "--master-addr", host, "--master-port", port)
    waits = script("import time; time.sleep(1000)")
    first, second = (elrun(*options, "--node-rank", 1, waits) for _ in range(2))
    zeroth = elrun(*options, "--node-rank", 0, waits)
    ended = []
    while not ended:
        ended = [job for job in (first, second, zeroth) if job.process.poll() is not None]
        select.select([], [], [], 0.05)
    code, _, err = ended[0].finish()
    for job in (first, second, zeroth):
        if job.process.poll() is None:
            job.signal(signal.SIGTERM)
            job.finish()

    assert (True, True) == (code in (2, 75), "--node-rank" in err), err
