"""Options from ``--config FILE.toml`` and from ``[tool.elrun]`` of this folder's pyproject.toml."""

import os
import sys

import pytest
from elrun.launcher.commandline.arguments import Origin

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")

ACCELERATE = """
compute_environment: LOCAL_MACHINE
main_process_ip: 10.0.0.1
main_process_port: 29500
num_machines: 2
num_processes: 16
"""


@pytest.fixture(name="file")
def _file(tmp_path):
    """Write a file of a name in the current folder."""

    def write(text, name="train.toml"):
        (tmp_path / name).write_text(text)
        return name

    return write


def test_names_are_the_options_in_either_spelling(elrun, file):
    """Numbers, texts, lists, tables and flags."""
    name = file(
        """
        nnodes = "1:4"
        nproc_per_node = 2
        rdzv-backend = "c10d"
        rdzv-endpoint = "n1:29400"
        rdzv-conf = {join_timeout = 30, last_call_timeout = 1.5}
        local-ranks-filter = [0, 1]
        virtual-local-rank = true
        """
    )

    config = elrun.plan("--config", name, "x.py").config

    assert (1, 4, 2, True) == (
        config.min_nodes,
        config.max_nodes,
        config.nproc_per_node,
        config.virtual_local_rank,
    )
    assert {"join_timeout": "30", "last_call_timeout": "1.5"} == config.rdzv_configs


@pytest.mark.parametrize(
    ("typed", "variables", "workers", "origin"),
    [
        ((), {}, 2, Origin.CONFIG),
        ((), {"PET_NPROC_PER_NODE": "3"}, 3, Origin.ENVIRONMENT),
        (("--nproc-per-node", "4"), {"PET_NPROC_PER_NODE": "3"}, 4, Origin.COMMAND_LINE),
    ],
)
def test_what_is_typed_goes_first_then_the_environment(
    elrun, file, typed, variables, workers, origin
):
    """The file is for what nobody said."""
    name = file("nproc-per-node = 2")

    given = elrun.given("--config", name, *typed, "x.py", **variables)

    assert (workers, origin) == (given["nproc_per_node"], given.answers["nproc_per_node"].origin)


def test_a_file_goes_before_the_scheduler(elrun, file):
    """It was written for this job."""
    name = file("nproc-per-node = 2")
    step = {
        "SLURM_JOB_ID": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_NODES": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_PROCID": "0",
        "SLURM_NODEID": "0",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_GPUS_ON_NODE": "8",
    }

    assert (2, 2) == (
        elrun.plan("--config", name, "x.py", **step).config.nproc_per_node,
        elrun.plan("--config", name, "x.py", **step).config.max_nodes,
    )


def test_the_project_s_own_table_is_read_and_named(elrun, file):
    """Nobody typed its name, so a line says what was taken."""
    file(
        '[project]\nname = "x"\n[tool.elrun]\nmax-restarts = 3\nstandalone = true\n',
        "pyproject.toml",
    )

    plan = elrun.plan("x.py")

    assert 3 == plan.config.max_restarts


def test_the_notice_of_the_project_s_table(elrun, file):
    """As options that could be typed; none where the file was named."""
    file("[tool.elrun]\nmax-restarts = 3\nstandalone = true\n", "pyproject.toml")

    notices = [elrun.notices(*words, "x.py") for words in ((), ("--config", "pyproject.toml"))]

    assert [("from [tool.elrun] of pyproject.toml: --standalone --max-restarts 3",), ()] == notices


@pytest.mark.parametrize(
    "text",
    [
        '[project]\nname = "x"\n',
        "",
        "[tool.other]\nx = [\n",
        "[tool.elrunner]\nmax-restarts = 3\n",
        "[other]\nelrun = 3\n",
    ],
)
def test_a_project_without_such_a_table_changes_nothing(elrun, file, text):
    """Not even if it is no TOML: it is somebody else's."""
    file(text, "pyproject.toml")

    assert () == elrun.notices("x.py")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("nnods = 2", "train.toml: nnods is no option of elrun; did you mean nnodes?"),
        ("lr = 0.1", "train.toml: lr is no option of elrun"),
        ("nnodes = 'x'", "nnodes = x in train.toml: give a number of nodes"),
        ("nnodes = true", "train.toml: nnodes: give N|MIN:MAX as a text or a number"),
        ("standalone = 'yes'", "train.toml: standalone is a flag; give true or false"),
        ("rdzv-conf = {a = {b = 1}}", "train.toml: rdzv-conf: give plain values in it"),
        ("rdzv-conf = {a = 'x,b=c'}", "train.toml: rdzv-conf: x,b=c has a comma"),
        ("preload = ['a,b']", "train.toml: preload: a,b has a comma"),
        ("nnodes = 2\nnnodes = 3", "train.toml: it is no TOML: "),
        ("nnodes = ", "train.toml: it is no TOML: "),
    ],
)
def test_what_can_t_be_used_is_refused_by_its_name(elrun, file, text, sentence):
    """With the file's, and the nearest option's."""
    assert sentence in elrun.refusal("--config", file(text), "x.py")


def test_a_contradiction_names_the_file(elrun, file):
    """As it names an option or a variable."""
    name = file("standalone = true\nnnodes = 2")

    assert "nnodes = 2 in train.toml: standalone = true in train.toml is for one node" in (
        elrun.refusal("--config", name, "x.py")
    )


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("no\0file.toml", "no path has a NUL character"),
        ("missing.toml", "--config missing.toml: it can't be read: No such file or directory"),
        (".", "--config .: it can't be read: Is a directory"),
        ("", "--config needs a value"),
    ],
)
def test_a_file_that_can_t_be_read_is_refused(elrun, name, sentence):
    """Nobody names a file that may be missing."""
    words = ["--config", name] if name else ["--config"]
    assert sentence in elrun.refusal(*words, *(["x.py"] if name else []))


def test_accelerate_s_file_is_refused_with_the_options_that_say_the_same(elrun, file):
    """Its number of processes is the job's, ours a node's."""
    refusal = elrun.refusal("--config", file(ACCELERATE, "default_config.yaml"), "x.py")

    assert "this is accelerate's configuration, which elrun does not read" in refusal
    options = "--nproc-per-node 8 --nnodes 2 --master-addr 10.0.0.1 --master-port 29500"
    assert refusal.endswith(f"give these options instead: {options}")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            "num_processes: 4\nnum_machines: 1\nmachine_rank: 0\nrdzv_backend: static\n",
            "--nproc-per-node 4",
        ),
        ("num_processes: '4'  # all\ngpu_ids: 0,1\n", "--nproc-per-node 4 --gpus 0,1"),
        ("num_processes: 4\ngpu_ids: all\nmain_process_ip: null\n", "--nproc-per-node 4"),
        ("num_processes: 1\nnum_machines: 0\n", "--nproc-per-node 1 --nnodes 0"),
        (f"num_processes: {'9' * 5000}\ngpu_ids: 0\n", "--gpus 0"),
        (
            "num_machines: 2\nnum_processes: 2\nmachine_rank: 1\nmain_process_ip: a\n",
            "--nproc-per-node 1 --nnodes 2 --node-rank 1 --master-addr a",
        ),
    ],
)
def test_the_values_of_accelerate_s_file_are_those_of_the_options(elrun, file, text, options):
    """A line to copy."""
    refusal = elrun.refusal("--config", file(text, "a.yaml"), "x.py")

    assert refusal.endswith(f"give these options instead: {options}")


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("nproc", "nproc-per-node"),
        ("nproc_per_nod", "nproc-per-node"),
        ("NNODES", "nnodes"),
        ("rdzv-enpoint", "rdzv-endpoint"),
        ("max-restart", "max-restarts"),
    ],
)
def test_a_key_is_named_that_may_be_meant(elrun, file, key, meant):
    """Files have no abbreviations."""
    refusal = elrun.refusal("--config", file(f"{key} = 2"), "x.py")

    assert refusal.endswith(f"{key} is no option of elrun; did you mean {meant}?")


def test_another_yaml_is_refused_too(elrun, file):
    """Which file would do is said."""
    refusal = elrun.refusal("--config", file("a: 1", "x.yml"), "x.py")

    assert "--config x.yml: give a TOML file with the options' names and values" in refusal


@pytest.mark.parametrize(
    "text",
    ["[ tool . elrun ]\nmax-restarts = 3\n", "[tool]\nelrun = {max-restarts = 3}\n"],
)
def test_the_table_is_found_however_it_is_written(elrun, file, text):
    """TOML has several ways."""
    file(text, "pyproject.toml")

    assert 3 == elrun.plan("x.py").config.max_restarts


@pytest.mark.parametrize(
    "text",
    [
        "[tool.elrun\nmax-restarts = 3\n",
        "[tool.elrun]\nmax-restarts = 3 3\n",
        "[project\n[tool.elrun]\nmax-restarts = 3\n",
        '["tool".elrun]\nmax-restarts = \n',
        "tool.elrun.max-restarts = \n",
        "[tool]\nelrun = {max-restarts = \n",
        '[tool]\n"elrun".max-restarts = \n',
    ],
)
def test_a_torn_file_that_has_the_table_is_refused(elrun, file, text):
    """Without its options another job would run."""
    file(text, "pyproject.toml")

    assert "pyproject.toml: it is no TOML: " in elrun.refusal("x.py")


def test_a_file_of_another_name_may_have_the_project_s_table(elrun, file):
    """Whoever copies it keeps the heading."""
    name = file('[project]\nname = "x"\n[tool.elrun]\nmax-restarts = 3\n')

    assert 3 == elrun.plan("--config", name, "x.py").config.max_restarts


def test_options_beside_the_project_s_table_are_not_overlooked(elrun, file):
    """One of the two would be."""
    name = file("nnodes = 2\n[tool.elrun]\nmax-restarts = 3\n")

    assert "train.toml: tool is no option of elrun" in elrun.refusal("--config", name, "x.py")


def test_a_variable_may_name_the_file_and_says_so(elrun, file):
    """As for every option; a line says what was taken, as nobody has typed the file's name."""
    name = file("max-restarts = 3")

    plan, notices = (
        each("x.py", PET_CONFIG=name, PET_DRY_RUN="1") for each in (elrun.plan, elrun.notices)
    )

    assert (3, False) == (plan.config.max_restarts, plan.given["dry_run"])
    assert ("from train.toml: --max-restarts 3",) == notices


@pytest.mark.parametrize("kind", ["pipe", "/dev/zero", "folder"])
def test_what_never_ends_is_no_config_file(elrun, tmp_path, kind):
    """A pipe, a device, or a folder."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()

    sentence = elrun.refusal("--config", kind, "x.py")

    expected = "Is a directory" if kind == "folder" else "it is no regular file"
    assert f"--config {kind}: it can't be read: {expected}" == sentence


@pytest.mark.parametrize(
    "text", ['[tool]\n"elrun" = 3\n', "tool = {elrun = 3}\n", "[tool]\nelrun = []\n"]
)
def test_what_is_no_table_is_refused_however_it_is_written(elrun, file, text):
    """Nothing that names elrun is overlooked."""
    file(text, "pyproject.toml")

    assert "pyproject.toml: [tool.elrun] is no table; give names and values" == (
        elrun.refusal("x.py")
    )


@pytest.mark.parametrize(
    "text", ["[project]\ndependencies = ['elrun']\n", "tool = 3 # elrun\n", "elrun ]["]
)
def test_a_project_that_only_names_elrun_gives_no_options(elrun, file, text):
    """Even one that is no TOML: other tools will say so."""
    file(text, "pyproject.toml")

    assert not elrun.given("x.py").is_given("nnodes")


def test_one_option_in_two_spellings_is_refused(elrun, file):
    """The last one would win, without a word."""
    name = file("max-restarts = 1\nmax_restarts = 2\n")

    assert "max_restarts and max-restarts are the same option" in (
        elrun.refusal("--config", name, "x.py")
    )
