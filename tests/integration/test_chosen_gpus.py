"""``--gpus`` in jobs: on a node without GPUs, which has none to choose."""

import pytest

pytestmark = pytest.mark.integration

# One write for each line: print makes two of it, between which another worker may write.
SHOW = """
import os, sys
sys.stdout.write(f"{os.getenv('CUDA_VISIBLE_DEVICES')} {os.environ['LOCAL_RANK']}\\n")
"""
FOUR_GPUS = """
import sys
from elrun.agent.hardware import devices, gpus
four = devices.Devices(nvidia=[gpus.Gpu(f"GPU-{n}") for n in range(4)])
import elrun.launcher.plan.chosen_gpus as chosen
chosen.read_devices = lambda kind: four
from elrun.launcher.cli import main
main()
"""


@pytest.fixture(name="on_four")
def _on_four(elrun, script):
    """Run the command as on a node with four GPUs, of which the drivers would tell."""

    def run(*words, **variables):
        program = script(FOUR_GPUS, "four.py")
        return elrun(program, *words, script(SHOW), command=(), env=variables).finish()

    return run


def test_workers_see_the_chosen_gpus_only(on_four):
    """As many workers as GPUs, where that is asked for."""
    code, out, _ = on_four("--gpus", "3,1", "--nproc-per-node", "gpu")

    assert (0, ["3,1 0", "3,1 1"]) == (code, sorted(out.splitlines()))


def test_each_worker_may_see_one_of_them(on_four):
    """As its device 0."""
    code, out, _ = on_four("--gpus=3,1", "--nproc-per-node=gpu", "--virtual-local-rank")

    assert (0, ["1 0", "3 0"]) == (code, sorted(out.splitlines()))


def test_more_workers_than_gpus_share_them(on_four):
    """A notice says so."""
    code, out, err = on_four("--gpus=3", "--nproc-per-node=2")

    assert (0, ["3 0", "3 1"]) == (code, sorted(out.splitlines()))
    assert "--gpus 3: 2 workers share 1 GPU" in err


def test_several_mig_instances_need_one_worker_each(on_four):
    """A process sees the first one only."""
    code, _, err = on_four("--gpus=MIG-a,MIG-b", "--nproc-per-node=2")
    assert (2, True) == (code, "give --virtual-local-rank as well" in err)

    code, out, _ = on_four("--gpus=MIG-a,MIG-b", "--nproc-per-node=gpu", "--virtual-local-rank")
    assert (0, ["MIG-a 0", "MIG-b 0"]) == (code, sorted(out.splitlines()))


def test_gpus_that_are_not_there_are_refused(elrun, script):
    """Before anything starts; this node has none, or fewer."""
    code, out, err = elrun("--gpus=17", script(SHOW)).finish()

    assert (2, "") == (code, out)
    assert err.startswith("elrun: --gpus 17: th")
