"""``--numa-binding`` where there is nothing to bind to, and torch's own options for it."""

import os

import pytest
from elrun.launcher import LaunchConfig, elastic_launch

from elrun import UsageError

pytestmark = pytest.mark.integration

NO_GPU = {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}
FAIL_ONCE = """
import os, sys
print("cpus", sorted(os.sched_getaffinity(0)), flush=True)
sys.exit(os.environ["TORCHELASTIC_RESTART_COUNT"] == "0")
"""


@pytest.mark.parametrize("preload", [[], ["--preload", "colorsys"]])
def test_a_job_that_cannot_be_bound_runs_and_says_so_once(elrun, script, preload):
    """The reason is given, however often the workers start."""
    options = ["--numa-binding", "exclusive", "--max-restarts", 1, *preload]

    code, out, err = elrun(*options, script(FAIL_ONCE), env=NO_GPU).finish()

    assert (0, [f"cpus {sorted(os.sched_getaffinity(0))}"] * 2) == (code, out.splitlines())
    sentence = "NUMA binding exclusive: local rank 0 may use any CPU: no GPU is visible"
    assert 1 == err.count(sentence), err


def test_torch_s_own_options_are_followed(monkeypatch):
    """What they don't allow to fail is an error before anything starts."""
    binding = pytest.importorskip("torch.numa.binding", exc_type=ImportError)
    for name, value in NO_GPU.items():
        monkeypatch.setenv(name, value)
    options = binding.NumaOptions(binding.AffinityMode.SOCKET)
    config = LaunchConfig(1, 1, 1, numa_options=options)

    with pytest.raises(UsageError, match="NUMA binding socket of local rank 0: no GPU is visible"):
        elastic_launch(config, "true")()
