"""The examples do what they say, each as its own first lines tell people to start it."""

import os
import re
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXAMPLES = Path(__file__).parents[2] / "examples"
TRAIN = EXAMPLES / "train.py"
SHORT = ("--steps", 60, "--save-every", 20)

# As a command of the job under test, this becomes the program that its arguments name.
BECOME = ("-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])")
# One worker alone would take every core, and fight over them with whatever else runs there.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
WITH_ELRUN_ON_PATH = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def losses(out):
    return [float(loss) for loss in re.findall(r"loss (\d+\.\d+)$", out, re.MULTILINE)]


def test_training_lowers_the_loss(elrun):
    """Two workers form a group, learn, and rank 0 reports."""
    code, out, _ = elrun("--standalone", "--nproc-per-node", 2, TRAIN, *SHORT).finish()

    assert (0, "2 workers") == (code, out[:9])
    at_20, at_40, at_60, final = losses(out)
    assert at_20 > at_40 > at_60 == pytest.approx(final, abs=1e-4)


def test_a_death_does_not_change_what_is_learnt(elrun):
    """A run that lost a rank half-way ends with the very loss of an undisturbed one."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 3, TRAIN, *SHORT)

    _, undisturbed, _ = elrun(*options).finish()
    code, disturbed, err = elrun(*options, "--die-at-step", 30).finish()

    assert 0 == code
    assert "SIGKILL" in err
    assert "resumed at step 20" in disturbed
    assert re.search(r"^restart gap \d+\.\d\d s$", disturbed, re.MULTILINE)
    assert losses(undisturbed)[-1] == losses(disturbed)[-1]


def test_a_second_run_does_not_resume_the_first(elrun, tmp_path):
    """Without ``--checkpoint`` a checkpoint lasts as long as its job, restarts included."""
    command = ("--standalone", TRAIN, "--steps", 2, "--save-every", 1)
    env = {"TMPDIR": str(tmp_path), **ONE_THREAD}

    first = elrun(*command, env=env).finish()
    second = elrun(*command, env=env).finish()

    assert first[:2] == second[:2]
    assert [] == list(tmp_path.glob("elrun-train-*"))


def test_a_kept_checkpoint_is_resumed(elrun, tmp_path):
    """With ``--checkpoint`` a later job goes on where an earlier one ended."""
    command = ("--standalone", TRAIN, "--save-every", 2, "--checkpoint", tmp_path / "kept")

    elrun(*command, "--steps", 2, env=ONE_THREAD).finish()
    _, out, _ = elrun(*command, "--steps", 4, env=ONE_THREAD).finish()

    assert "resumed at step 2" in out
    assert 2 == len(losses(out))


def test_torchrun_runs_the_same_script(elrun):
    """The training script knows nothing of elrun."""
    torchrun = ("-m", "torch.distributed.run")
    options = ("--standalone", TRAIN, "--steps", 2)

    code, out, _ = elrun(*options, command=torchrun, env=ONE_THREAD).finish()

    assert (0, 1) == (code, len(losses(out)))


def test_a_function_returns_a_value_from_each_rank(elrun):
    """``elastic_launch`` gives the caller what each worker returned, by global rank."""
    code, out, _ = elrun(command=(str(EXAMPLES / "function.py"),)).finish()

    assert 0 == code
    assert ["rank 0 returned 3.141592", "rank 1 returned 3.141592"] == out.splitlines()[-2:]


def test_the_smoke_test_passes(elrun):
    """What a CI job would run is green, check by check."""
    job = elrun("bash", EXAMPLES / "smoke.sh", command=BECOME, env=WITH_ELRUN_ON_PATH)

    code, out, _ = job.finish()

    assert (0, ["ok"] * 7) == (code, [line.split(":")[0] for line in out.splitlines()])


def test_the_smoke_test_fails_with_what_it_saw(elrun, tmp_path):
    """A launcher that is broken is named, with its output; the check can fail."""
    broken = tmp_path / "elrun"
    broken.write_text("#!/bin/sh\necho the disk is full\nexit 70\n")
    broken.chmod(0o755)
    path = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    code, out, _ = elrun("bash", EXAMPLES / "smoke.sh", command=BECOME, env=path).finish()

    assert 1 == code
    assert out.startswith("FAILED: two bash workers: exit code 70, expected 0")
    assert out.endswith("the disk is full\n")
