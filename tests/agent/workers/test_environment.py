"""What a worker finds in its environment."""

import os
import sys

import pytest
from elrun.agent.workers import environment
from elrun.agent.workers.environment import hooked_environment, worker_environment
from elrun.agent.workers.worker import Worker, WorkerGroup, WorkerSpec


def environment_of(local_rank=1, inherited=None, **spec):
    group = WorkerGroup(
        WorkerSpec(**{"role": "trainer", "local_world_size": 2, "rdzv_handler": None,
                      "entrypoint": "true", "max_restarts": 3, **spec})
    )  # fmt: skip
    group.group_rank, group.group_world_size = 1, 2
    group.master_addr, group.master_port = "node1", 29501
    worker = Worker(local_rank, 3, 2, 4, 3)
    return worker_environment(
        worker, group, restart_count=1, run_id="job", use_agent_store=False,
        inherited=inherited or {},
    )  # fmt: skip


def test_a_worker_finds_everything_that_torchrun_would_give_it():
    """The names and forms are those that torch and people's scripts read."""
    expected = {
        "RANK": "3",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "4",
        "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1",
        "GROUP_WORLD_SIZE": "2",
        "ROLE_NAME": "trainer",
        "ROLE_RANK": "2",
        "ROLE_WORLD_SIZE": "3",
        "MASTER_ADDR": "node1",
        "MASTER_PORT": "29501",
        "TORCHELASTIC_RESTART_COUNT": "1",
        "ELRUN_TOTAL_RESTARTS": "1",
        "TORCHELASTIC_MAX_RESTARTS": "3",
        "TORCHELASTIC_RUN_ID": "job",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        "OMP_NUM_THREADS": "1",
    }

    assert expected == environment_of()


@pytest.mark.parametrize(
    ("inherited", "total"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "2"}, "3"),
        ({"SLURM_JOB_ID": "7"}, "1"),
        ({"SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "-2"}, "1"),
        ({"SLURM_RESTART_COUNT": "2"}, "1"),
        ({"ELRUN_TOTAL_RESTARTS": "9"}, "1"),
    ],
)
def test_restarts_by_slurm_and_by_elrun_are_one_count(inherited, total):
    """A script that wants to know whether anything has run before asks one variable."""
    assert total == environment_of(inherited=inherited)["ELRUN_TOTAL_RESTARTS"]


@pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "TORCH_NCCL_ASYNC_ERROR_HANDLING"])
def test_what_the_user_set_is_kept(name):
    """Defaults never replace a value of the user's."""
    assert environment_of(inherited={name: "7"})[name] == "7"


def test_a_single_worker_keeps_its_threads():
    """One worker a node may use every core."""
    assert "OMP_NUM_THREADS" not in environment_of(local_rank=0, local_world_size=1)


@pytest.mark.parametrize(("visible", "expected"), [(None, "1"), ("4,6", "6"), (" 4 , 6 ", "6")])
def test_virtual_local_rank_shows_each_worker_one_gpu(visible, expected):
    """LOCAL_RANK is 0 and the worker's GPU is the only one visible."""
    inherited = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}

    env = environment_of(virtual_local_rank=True, inherited=inherited)

    assert ("0", expected) == (env["LOCAL_RANK"], env["CUDA_VISIBLE_DEVICES"])


@pytest.mark.parametrize(
    ("inherited", "cuda", "hip"),
    [
        ({"HIP_VISIBLE_DEVICES": "4,6"}, "6", "6"),
        ({"HIP_VISIBLE_DEVICES": "4, 6", "CUDA_VISIBLE_DEVICES": "0,1"}, "6", "6"),
        ({"HIP_VISIBLE_DEVICES": "", "CUDA_VISIBLE_DEVICES": "0,3"}, "3", None),
        ({"HIP_VISIBLE_DEVICES": "0,1", "ROCR_VISIBLE_DEVICES": "4,5"}, "1", "1"),
        ({"ROCR_VISIBLE_DEVICES": "4,5"}, "1", None),
    ],
)
def test_virtual_local_rank_knows_the_variables_of_rocm(inherited, cuda, hip):
    """HIP's goes before CUDA's there, so a worker that found all of it would see all GPUs."""
    env = environment_of(virtual_local_rank=True, inherited=inherited)

    assert ("0", cuda, hip) == (
        env["LOCAL_RANK"],
        env["CUDA_VISIBLE_DEVICES"],
        env.get("HIP_VISIBLE_DEVICES"),
    )


@pytest.mark.parametrize(
    "name", ["CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"]
)
def test_virtual_local_rank_refuses_a_worker_without_a_gpu(name):
    """More workers than visible GPUs is an error that names both."""
    with pytest.raises(ValueError, match=f"local rank 1 has no GPU: {name}='4' shows 1"):
        environment_of(virtual_local_rank=True, inherited={name: "4"})


SCRIPT = (sys.executable, "-u", "x.py", "a")


@pytest.mark.parametrize(
    ("command", "variables", "error_file", "is_hooked"),
    [
        (SCRIPT, {}, "/e.json", True),
        ((sys.executable, "-u", "-m", "x"), {"ELRUN_WORKER_HOOK": "1"}, "/e.json", True),
        ((sys.executable, "-u", "-"), {}, "/e.json", True),
        ((sys.executable, "-c", "pass"), {}, "/e.json", True),
        (SCRIPT, {}, "", False),
        (SCRIPT, {"ELRUN_WORKER_HOOK": "0"}, "/e.json", False),
        (SCRIPT, {"ELRUN_WORKER_HOOK": "off"}, "/e.json", False),
        (SCRIPT, {"PYTHONPATH": "x" * 100_000}, "/e.json", False),
        ((sys.executable, "-I", "x.py"), {}, "/e.json", False),
        ((sys.executable, "-u", "-I"), {}, "/e.json", False),
        ((sys.executable, "-u"), {}, "/e.json", False),
        (("/bin/sh", "-c", "true"), {}, "/e.json", False),
        (("no-such-program",), {"PATH": ""}, "/e.json", False),
    ],
)
def test_python_programs_are_hooked(command, variables, error_file, is_hooked):
    """Where they have a place for their last words, and nobody is against it."""
    found = hooked_environment(dict(variables), command, error_file)

    assert is_hooked is (found != variables)


@pytest.mark.parametrize(
    ("path", "expected", "had_one"),
    [(None, "{hook}", "0"), ("", "{hook}", "1"), ("/a:/b", "{hook}:/a:/b", "1")],
)
def test_the_hook_can_restore_the_path(path, expected, had_one):
    """An empty one, too."""
    variables = {} if path is None else {"PYTHONPATH": path}
    hook = os.path.join(os.path.dirname(environment.__file__), "hook")

    found = hooked_environment(variables, SCRIPT, "/with space/e.json")

    assert {
        "PYTHONPATH": expected.format(hook=hook),
        "ELRUN_WORKER": f"{had_one} {os.getpid()} /with space/e.json",
    } == found
