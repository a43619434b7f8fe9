"""Programs that drive torchrun as a library run with elrun's names in the place of torch's."""

import importlib.util

import pytest
from elrun.launcher import get_args_parser

pytestmark = pytest.mark.integration

SHOW = """
import os, sys
with open(f"rank{os.environ['RANK']}", "w") as file:
    print(sys.argv[1:], os.environ["MASTER_PORT"] != "", file=file)
"""
# What accelerate's `launch --multi_gpu` does with the module torch.distributed.run.
LIKE_ACCELERATE = """
import argparse, os, sys
import elrun.launcher as distrib_run

own = argparse.Namespace(
    num_processes=2, nproc_per_node="2", nnodes="1", master_port="{port}", module=False,
    no_python=False, tee="0", role="default", rdzv_conf="", rdzv_backend="static", log_dir=None,
    max_restarts=0, monitor_interval=0.1, mixed_precision="fp16", node_rank=0, same_network=True,
    training_script=sys.argv[1], training_script_args=sys.argv[2:],
)
words = ["--training_script", own.training_script, "--training_script_args"]
args, _ = distrib_run.get_args_parser().parse_known_args([*words, own.training_script_args])
for key, value in vars(own).items():
    if key in vars(args):
        setattr(args, key, value)
print(distrib_run.run(args))
"""
CATCH = """
import sys
from elrun.agent import ChildFailedError
from elrun.launcher import parse_args, run
try:
    run(parse_args(sys.argv[1:]))
except ChildFailedError as error:
    print(error.failures[0].exitcode)
"""
WORDS = [
    ["x.py"],
    ["--standalone", "--nproc-per-node", "gpu", "-m", "pkg.train", "--lr", "1"],
    ["--nnodes=1:4", "--max_restarts=3", "--monitor-interval", "2", "--no_python", "x", "--", "-r"],
    ["-r", "3", "-t", "0:1", "--log-dir", "logs", "--local_ranks_filter=0,1", "x.py"],
    ["--duplicate-stdout-filters", "a,b,,c", "--shutdown-timeout", "7", "--role", "", "x.py"],
    ["--rdzv-backend", "c10d", "--rdzv-endpoint", "n1:1", "--rdzv-id", "7", "--rdzv-conf", "a=1",
     "--node-rank", "1", "--master-port", "12", "--local-addr", "n2", "--run-path", "/x.py"],
    ["--start-method", "fork", "--numa-binding", "node", "--virtual-local-rank", "x.py"],
]  # fmt: skip


@pytest.mark.parametrize("variables", [{}, {"PET_NNODES": "2", "PET_MODULE": "1", "PET_TEE": "3"}])
@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_a_namespace_is_torch_s(monkeypatch, words, variables):
    """The same names with the same values of the same types, and a few more."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    from torch.distributed import run as torchrun  # takes two seconds

    theirs = vars(torchrun.get_args_parser().parse_args(words))
    ours = vars(get_args_parser().parse_args(words))

    assert theirs == {name: ours.get(name) for name in theirs}
    # A default is of a class of its own, so that it can be told from a value that was given.
    assert [] == [
        name
        for name, value in theirs.items()
        if name != "shutdown_timeout" and not isinstance(ours[name], type(value))
    ]


def test_what_accelerate_does_runs(elrun, script, tmp_path, vacant_endpoint):
    """It filters its own arguments through the parser, sets attributes, and runs."""
    program = LIKE_ACCELERATE.replace("{port}", vacant_endpoint.partition(":")[2])

    job = elrun(script(SHOW), "--lr", 1, command=("-c", program), env={"OMP_NUM_THREADS": "1"})

    assert (0, "None\n", "") == job.finish()
    assert ["['--lr', '1'] True\n"] * 2 == [
        (tmp_path / f"rank{rank}").read_text() for rank in range(2)
    ]


def test_a_failure_is_an_exception_for_the_program(elrun, script):
    """It decides what to say, and how to end."""
    job = elrun(script("raise SystemExit(3)"), command=("-c", CATCH))

    assert (0, "3\n", "") == job.finish()


def test_a_program_s_own_lines_of_elrun_s_are_seen(elrun, script):
    """A restart is told of, without a line of logging in the program."""
    fail_once = "import os, sys; sys.exit(3 * (os.environ['TORCHELASTIC_RESTART_COUNT'] == '0'))"

    job = elrun("--max-restarts", 1, script(fail_once), command=("-c", CATCH))

    code, out, err = job.finish()
    assert (0, "") == (code, out)
    assert "elrun: rank 0 on" in err


@pytest.mark.skipif(
    importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
)
def test_accelerate_launch_runs_with_elrun_s_names(elrun, script, tmp_path):
    """``accelerate launch --multi_gpu --cpu``, with one import changed."""
    program = (
        "import sys, elrun.launcher, torch.distributed; "
        "torch.distributed.run = sys.modules['torch.distributed.run'] = elrun.launcher; "
        "from accelerate.commands.launch import main; main()"
    )
    options = ["--multi_gpu", "--num_processes", 2, "--num_machines", 1, "--mixed_precision", "no"]
    options += ["--dynamo_backend", "no", "--main_process_port", 0]

    job = elrun(*options, script(SHOW), "--lr", 1, command=("-c", program))

    code, _, err = job.finish()
    assert 0 == code, err
    assert ["['--lr', '1'] True\n"] * 2 == [
        (tmp_path / f"rank{rank}").read_text() for rank in range(2)
    ]
