"""A package that was written for torchrun, installed by pip beside elrun."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

FAILS_ONCE = """
import os, sys
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    print("out", os.environ["RANK"], flush=True)
    print("err", os.environ["RANK"], file=sys.stderr, flush=True)
    if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        raise ValueError("no such shard")

main()
"""
RANKS = """
import json, os
names = "RANK WORLD_SIZE GROUP_RANK ROLE_NAME ROLE_RANK ROLE_WORLD_SIZE TORCHELASTIC_RESTART_COUNT"
print(json.dumps([os.environ[name] for name in names.split()]), flush=True)
"""
FAILS_ON_ONE_NODE = """
import os, sys, torch, torch.distributed as dist
restart = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
dist.init_process_group("gloo")
if dist.get_rank() == 1 and restart == 0:
    os._exit(5)
dist.barrier()
print("together", restart, dist.get_world_size(), flush=True)
os._exit(0)
"""


@pytest.fixture(scope="module", name="installed")
def _installed(tmp_path_factory):
    """The folder in which pip has installed the package."""
    folder = tmp_path_factory.mktemp("plugins")
    source = folder / "source"  # pip builds in it
    shutil.copytree(Path(__file__).with_name("torchrun_plugins"), source)
    command = [*("-m", "pip", "install", "--quiet", "--no-index", "--no-deps")]
    command += ["--no-build-isolation", "--target", folder / "site", source]
    subprocess.run([sys.executable, *command], check=True, capture_output=True)
    return {"PYTHONPATH": f"{folder / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def files_below(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "files", "shown"),
    [
        (["--redirects", "3"], {"out", "err"}, set()),
        (["--redirects", "1"], {"out"}, set()),
        (["--tee", "0:1,1:3"], {"out", "err"}, {"[default0]:out 0", "[default1]:out 1"}),
    ],
)
def test_a_layout_that_extends_torch_s_class(
    elrun, script, installed, tmp_path, options, files, shown
):
    """It compares streams as torch does; its paths are used, its error file is read."""
    logs = tmp_path / "logs"

    code, out, err = elrun(
        *("--nproc-per-node", 2, "--max-restarts", 1, "--logs-specs", "by_rank"),
        *("--log-dir", logs, *options, script(FAILS_ONCE)),
        env=installed,
    ).finish()

    assert 0 == code, err
    found = files_below(logs)
    assert "no such shard" in (logs / "rank_1/attempt_0.json").read_text()
    assert files == {name.split(".")[1] for name in found} - {"json"}
    assert {"rank_1/attempt_0.out", "rank_1/attempt_1.out"} <= found
    assert "out 1\n" == (logs / "rank_1/attempt_1.out").read_text()
    assert shown == set(out.splitlines())


def test_a_layout_that_extends_torch_s_default(elrun, script, installed, tmp_path):
    """``super().reify`` lays the files out as torch does."""
    logs = tmp_path / "logs"

    code, out, err = elrun(
        *("--logs-specs", "lab_default", "--log-dir", logs, "--tee", 3, "--rdzv-id", "mine"),
        script(FAILS_ONCE),
        env=installed,
    ).finish()

    assert (0, "[default0]:out 0\n") == (code, out), err
    names = {re.sub("mine_[^/]*", "mine_x", name) for name in files_below(logs)}
    assert {"machine", "mine_x/attempt_0/0/stdout.log", "mine_x/attempt_0/0/stderr.log"} == names


def test_a_failure_under_a_plug_in_s_layout_shows_its_traceback(elrun, script, installed, tmp_path):
    """The report reads the error file where the plug-in has put it."""
    code, _, err = elrun(
        *("--nproc-per-node", 2, "--logs-specs", "by_rank", "--log-dir", tmp_path / "logs"),
        script(FAILS_ONCE),
        env=installed,
    ).finish()

    assert 1 == code
    assert "ValueError: no such shard" in err


def meet(elrun, installed, folder, *args, **options):
    return elrun(
        *("--nnodes", 2, "--rdzv-backend", "shared-folder", "--rdzv-endpoint", folder),
        *("--rdzv-id", "job", "--rdzv-conf", "greeting=welcome", *args),
        env=installed,
        **options,
    )


def test_a_rendezvous_that_extends_torch_s_class(elrun, script, installed, tmp_path):
    """Its endpoint and settings reach it; ranks and role ranks span nodes that differ."""
    path = script(RANKS)
    jobs = [
        meet(elrun, installed, tmp_path, "--nproc-per-node", workers, "--role", role, path)
        for workers, role in ((1, "learner"), (2, "actor"))
    ]

    ends = [job.finish() for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends]
    assert 1 == sum("welcome" in err.splitlines() for _, _, err in ends)
    found = [json.loads(line) for _, out, _ in ends for line in out.splitlines()]
    assert ["0", "1", "2"] == sorted(rank for rank, *_ in found)
    assert {("3", "0")} == {(world, restart) for _, world, *_, restart in found}
    roles = sorted((name, rank, size) for _, _, _, name, rank, size, _ in found)
    assert [("actor", "0", "2"), ("actor", "1", "2"), ("learner", "0", "1")] == roles


def test_workers_of_a_plug_in_s_rendezvous_fail_and_meet_again(elrun, script, installed, tmp_path):
    """Each agent restarts its own workers, as torchrun's agents do; the new ones form a group."""
    path = script(FAILS_ON_ONE_NODE)
    jobs = [meet(elrun, installed, tmp_path, "--max-restarts", 2, path) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, "together 1 2\n")] * 2 == [end[:2] for end in ends], ends
