"""accelerate, which drives torchrun as a library, driving elrun by the same names.

It runs where accelerate is installed (``pip install accelerate``).
"""

import importlib.util

import pytest
from elrun.rendezvous.network.ports import PortClaim

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(
        importlib.util.find_spec("accelerate") is None, reason="accelerate is not installed"
    ),
]

LAUNCH = """
import sys
import elrun.launcher
import torch.distributed.run
for name in ("get_args_parser", "parse_args", "config_from_args", "run", "main"):
    setattr(torch.distributed.run, name, getattr(elrun.launcher, name))
from accelerate.commands.accelerate_cli import main
main()
"""
TRAIN = """
import sys, torch
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
sys.stdout.write(f"{accelerator.process_index} of {ranks}: {sys.argv[1:]}\\n")
sys.stdout.flush()
torch.distributed.barrier()
torch.distributed.destroy_process_group()
if "--fail" in sys.argv and accelerator.process_index == 1:
    sys.exit(3)
"""
NOTEBOOK = """
import sys
import elrun
import torch.distributed.launcher.api as theirs
theirs.LaunchConfig, theirs.elastic_launch = elrun.LaunchConfig, elrun.elastic_launch
from accelerate import notebook_launcher

def train(word):
    import torch
    from accelerate import Accelerator
    accelerator = Accelerator(cpu=True)
    ranks = accelerator.gather(torch.tensor([accelerator.process_index])).tolist()
    sys.stdout.write(f"{accelerator.process_index} of {ranks}: {word}\\n")
    sys.stdout.flush()
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()

notebook_launcher(train, (sys.argv[2],), num_processes=2, use_port=sys.argv[1])
"""
BOTH = ["0 of [0, 1]: ['--lr', '0.1']", "1 of [0, 1]: ['--lr', '0.1']"]
# What accelerate would ask, or take a default for with a warning.
ANSWERS = ("--mixed_precision", "no", "--dynamo_backend", "no", "--num_processes", "2")


@pytest.fixture(name="port")
def _port():
    claim = PortClaim.take()
    yield str(claim.port)
    claim.release()


@pytest.fixture(name="launch")
def _launch(elrun, script, port):
    """Start ``accelerate launch`` with elrun's names in place of torch's."""
    program, train = script(LAUNCH, "launch.py"), script(TRAIN, "train.py")

    def start(*options, args=("--lr", "0.1")):
        options = [*ANSWERS, "--multi_gpu", "--main_process_port", port, *options]
        return elrun("launch", *options, train, *args, command=(program,))

    return start


@pytest.mark.parametrize(
    "options",
    [
        ["--num_machines", 1],
        ["--num_machines", 1, "--max_restarts", 2, "--monitor_interval", 0.2],
        ["--num_machines", 1, "--rdzv_backend", "c10d"],
    ],
    ids=["plain", "restarts", "c10d"],
)
def test_accelerate_launch_runs_a_script_on_two_workers(launch, options):
    """Its options are filtered by our parser's names, and its defaults are ours to understand."""
    code, out, err = launch(*options).finish()

    assert (0, BOTH) == (code, sorted(out.splitlines())), err


def test_accelerate_launch_spans_two_machines(launch):
    """The second meets the first at the main process's address."""
    machines = [
        launch(
            "--num_machines", 2, "--machine_rank", rank, "--main_process_ip", "127.0.0.1",
            "--same_network",
        )
        for rank in range(2)
    ]  # fmt: skip

    ends = [machine.finish() for machine in machines]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert BOTH == sorted(line for _, out, _ in ends for line in out.splitlines())


def test_a_failure_reaches_accelerate_as_torch_s_would(launch):
    """As an exception, which ends accelerate with 1, and names the rank."""
    code, _, err = launch("--num_machines", 1, args=("--fail",)).finish()

    assert 1 == code
    assert "ChildFailedError" in err
    assert "rank 1" in err


def test_a_notebook_s_function_runs_on_two_workers(elrun, script, port):
    """It changes its LaunchConfig after it has made it."""
    path = script(NOTEBOOK, "notebook.py")

    code, out, err = elrun(path, port, "word", command=()).finish()

    lines = [line for line in sorted(out.splitlines()) if " of " in line]
    assert (0, ["0 of [0, 1]: word", "1 of [0, 1]: word"]) == (code, lines), err
