"""``--dry-run`` shows what would be launched, and where each value comes from."""

import json
import os
import sys

import pytest
from elrun.launcher import cli


@pytest.fixture(name="dry_run")
def _dry_run(tmp_path, monkeypatch, capfd):
    """Run the command in a folder with ``x.py``; return the exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("raise SystemExit('it was run')\n")
    for name in [each for each in os.environ if each.startswith(("PET_", "SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)

    def run(*args, **variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        code = cli.run(["--dry-run", *args])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def found_by(dry_run, *args, **variables):
    code, out, _ = dry_run("--format=json", *args, **variables)
    assert 0 == code
    return json.loads(out)


def test_nothing_is_started(dry_run):
    """The command that each worker would run comes first."""
    code, out, _ = dry_run("--nproc-per-node=2", "x.py", "--lr", "a b")

    first = f"2 workers on this node would run: {sys.executable} -u x.py --lr 'a b'"
    assert (0, first) == (code, out.splitlines()[0])


def test_each_value_has_its_origin(dry_run, tmp_path):
    """The option, the variable, the file, the scheduler, or the default."""
    (tmp_path / "pyproject.toml").write_text("[tool.elrun]\nmax-restarts = 3\n")
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
        "SLURM_STEP_NODELIST": "n[1-2]",
    }

    options = found_by(dry_run, "--role=learner", "x.py", PET_TEE="3", **step)["options"]

    assert [
        {"value": "learner", "origin": "command line"},
        {"value": "3", "origin": "environment", "source": "PET_TEE"},
        {"value": "2", "origin": "scheduler"},
        {"value": "1", "origin": "default"},
    ] == [options[name] for name in ("role", "tee", "nnodes", "nproc_per_node")]
    if sys.version_info >= (3, 11):
        assert {"value": "3", "origin": "config file", "source": "pyproject.toml"} == (
            options["max_restarts"]
        )


def test_one_node_knows_its_workers_ranks(dry_run):
    """Where they meet is chosen at the start."""
    found = found_by(dry_run, "--standalone", "--nproc-per-node=2", "x.py")

    environments = [worker["environment"] for worker in found["workers"]]
    assert [("0", "2", None), ("1", "2", None)] == [
        (each["RANK"], each["WORLD_SIZE"], each["MASTER_PORT"]) for each in environments
    ]


def test_of_several_nodes_the_round_knows(dry_run):
    """What one node can't know is no guess."""
    words = ("--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=n1:29400", "x.py")

    (worker,) = found_by(dry_run, *words)["workers"]
    _, out, _ = dry_run(*words)

    assert (None, "0", "1") == tuple(
        worker["environment"][name] for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    )
    assert "(known when the job starts)" in out


def test_static_says_where_the_workers_meet(dry_run):
    """As the user said."""
    words = ("--nnodes=2", "--node-rank=1", "--master-addr=n1", "--master-port=1234", "x.py")

    (worker,) = found_by(dry_run, *words)["workers"]

    assert ("n1", "1234") == (
        worker["environment"]["MASTER_ADDR"],
        worker["environment"]["MASTER_PORT"],
    )


def test_what_would_be_refused_is_refused(dry_run):
    """With the exit code and the sentence of the real thing."""
    code, out, err = dry_run("--nnodes=2", "x.py")

    assert (2, "") == (code, out)
    assert "--nnodes 2: say where the nodes meet" in err


def test_the_secret_is_not_shown(dry_run):
    """Nor is what else workers inherit."""
    code, out, err = dry_run("x.py", ELRUN_RDZV_SECRET="hush hush", OTHER="thing")

    assert 0 == code
    assert "hush" not in out + err
    assert "thing" not in out


def test_defaults_that_are_computed_are_shown(dry_run):
    """As the job would have them."""
    words = ("--nnodes=2", "--master-addr=n1", "x.py")
    options = found_by(dry_run, *words, SLURM_JOB_ID="1", TORCH_ELASTIC_SHUTDOWN_TIMEOUT="7")

    expected = {
        "rdzv_endpoint": "n1:29500",
        "master_port": "29500",
        "shutdown_timeout": "7",
        "restart_timeout": "7",
        "exit_barrier_timeout": "300",
        "forward_signals": "SIGUSR1,SIGUSR2",
        "logs_specs": "default",
        "hang_timeout": None,
    }
    assert expected == {name: options["options"][name]["value"] for name in expected}
    assert "(never)" in dry_run(*words)[1]


def test_the_workers_environment_is_whole(dry_run):
    """With what is known only when they start."""
    (worker,) = found_by(dry_run, "x.py")["workers"]

    assert {"TORCHELASTIC_ERROR_FILE": None, "ELRUN_AGENT": None}.items() <= (
        worker["environment"].items()
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--report=no/r.json",), "there is no folder"),
        (("--log-dir=x.py",), "x.py is no folder"),
        (("--log-dir=x.py/logs",), "x.py is no folder"),
    ],
)
def test_places_that_can_t_be_had_are_refused(dry_run, tmp_path, words, sentence):
    """As the job would refuse them."""
    code, out, err = dry_run(*words, "x.py")

    assert (2, "", ["x.py"]) == (code, out, os.listdir(tmp_path))
    assert sentence in err


def test_no_folder_is_made(dry_run, tmp_path):
    """It would be there as if the job had run."""
    code, out, _ = dry_run("--log-dir=logs/deep", "--report=r.json", "x.py")

    assert (0, ["x.py"]) == (code, os.listdir(tmp_path))
    assert "logs/deep" in out


def test_a_form_without_a_dry_run_is_refused(tmp_path, monkeypatch, capfd):
    """Who gives it may mean elrun's own lines."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.py").write_text("raise SystemExit('it was run')\n")

    code = cli.run(["--format", "json", "x.py"])

    _, err = capfd.readouterr()
    assert (2, True) == (code, "--format json: it is for --dry-run and for verbs" in err)
