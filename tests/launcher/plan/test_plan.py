# ruff: noqa: E501  sentences are quoted whole, so that they can be searched for
"""From what the user gave to what is launched."""

import re

import pytest
from elrun.agent.failures.restart_causes import Causes
from elrun.agent.failures.restart_rules import RestartRules
from elrun.agent.hardware.devices import Count
from elrun.agent.hardware.numa import AffinityMode, NumaOptions
from elrun.agent.output.specs import DefaultLogsSpecs, Std
from elrun.launcher.plan.config import LaunchConfig


def test_options_become_a_launch_config(elrun):
    """Each to its field."""
    options = """
        --nnodes 2:4 --nproc-per-node 3 --rdzv-backend c10d --rdzv-endpoint n1:29400 --rdzv-id job
        --max-restarts 5 --monitor-interval 0.5 --start-method fork --role trainer --local-addr n7
        --signals-to-handle SIGTERM,SIGUSR1 --shutdown-timeout 60 --virtual-local-rank
        --duplicate-stdout-filters a,b --duplicate-stderr-filters c
    """

    config = elrun.plan(*options.split(), "x.py").config

    assert (2, 4, 3) == (config.min_nodes, config.max_nodes, config.nproc_per_node)
    assert (5, 0.5, "fork") == (config.max_restarts, config.monitor_interval, config.start_method)
    assert ("trainer", "n7", True) == (config.role, config.local_addr, config.virtual_local_rank)
    assert ("SIGTERM,SIGUSR1", 60) == (config.signals_to_handle, config.shutdown_timeout)
    assert (["a", "b"], ["c"]) == (
        config.duplicate_stdout_filters,
        config.duplicate_stderr_filters,
    )


def test_the_log_options_become_a_layout(elrun):
    """Streams by local rank, and which ranks the console shows."""
    options = "--nproc-per-node 4 --log-dir logs -r 0:1,3:3 -t 2 --local-ranks-filter 0,1"

    specs = elrun.plan(*options.split(), "x.py").config.logs_specs

    assert DefaultLogsSpecs("logs", {0: Std.OUT, 3: Std.ALL}, Std.ERR, {0, 1}) == specs


@pytest.mark.parametrize(
    ("options", "notice"),
    [
        (
            "--nproc-per-node 2 --local-ranks-filter 5",
            "--local-ranks-filter 5: local rank 5 is not among this node's 2 workers; the console shows none of them",
        ),
        (
            "--nproc-per-node 2 --local-ranks-filter 0,7,5",
            "--local-ranks-filter 0,7,5: local rank 5 is not among this node's 2 workers",
        ),
        ("--redirects 2:1", "--redirects 2:1: local rank 2 is not among this node's worker, 0"),
        ("--tee 0:3,1:3", "--tee 0:3,1:3: local rank 1 is not among this node's worker, 0"),
    ],
)
def test_a_local_rank_that_is_not_there_is_noticed(elrun, options, notice):
    """Another node of the job may have it, and the same words start all."""
    plan = elrun.plan(*options.split(), "x.py", OMP_NUM_THREADS="1")

    assert (notice,) == plan.notices


@pytest.mark.parametrize("options", ["--local-ranks-filter 0", "--tee 3", "-r 0:1", "-r 3"])
def test_a_local_rank_that_is_there_needs_no_word(elrun, options):
    """Nor does one setting for all."""
    assert () == elrun.plan(*options.split(), "x.py").notices


UNKNOWN = "is not known; give ${role_name}, ${local_rank}, ${rank}, ${hostname} or "


@pytest.mark.parametrize(
    ("template", "sentence"),
    [
        ("[${foo}]", f"${{foo}} {UNKNOWN}${{restart_count}}, or $${{foo}} for the text itself"),
        ("${local-rank} ", f"${{local-rank}} {UNKNOWN}"),
        ("${rank}${ rank }", f"${{ rank }} {UNKNOWN}"),
        ("${RANK}", f"${{RANK}} {UNKNOWN}"),
        ("${}", f"${{}} {UNKNOWN}"),
        ("$$${foo}", f"${{foo}} {UNKNOWN}"),
        ("[${rank", "${rank has no closing brace"),
        ("a\nb", "it stands before each line, and is none; leave the line breaks out"),
    ],
)
def test_a_prefix_names_what_there_is(elrun, template, sentence):
    """Wherever it comes from: else it stands as it is before every line of the job."""
    name = "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE"
    with pytest.raises(ValueError, match=re.escape(f": {sentence}")):
        LaunchConfig(1, 1, 1, log_line_prefix_template=template)

    refusals = {
        "--log-line-prefix-template ": elrun.refusal("--log-line-prefix-template", template, "x"),
        "PET_LOG_LINE_PREFIX_TEMPLATE=": elrun.refusal("x", PET_LOG_LINE_PREFIX_TEMPLATE=template),
        f"{name}=": elrun.refusal("x.py", **{name: template}),
    }
    for begin, refusal in refusals.items():
        assert refusal.startswith(begin)
        assert f": {sentence}" in refusal


@pytest.mark.parametrize(
    "template",
    ["", "plain", "$rank:", "$$5 $", "100$ ", "$${foo}", "${rank}${restart_count}", "\x1b[1m$rank"],
)
def test_a_prefix_may_be_any_text(elrun, template):
    """What works under torchrun goes on."""
    plan = elrun.plan(f"--log-line-prefix-template={template}", "x.py")

    assert (template or None, ()) == (plan.config.log_line_prefix_template, plan.notices)


def test_a_name_without_braces_that_is_not_known_is_told(elrun):
    """It may be meant as it stands, so it is not refused."""
    plan = elrun.plan("--log-line-prefix-template", "$rnk $rank $HOST:", "x.py")

    (notice,) = plan.notices
    assert notice == (
        "--log-line-prefix-template '$rnk $rank $HOST:': $rnk, $HOST: not known, "
        "shown as text; known are role_name, local_rank, rank, hostname, restart_count"
    )


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ([], {}, None),
        ([], {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "[${rank}] "}, "[${rank}] "),
        ([], {"PET_LOG_LINE_PREFIX_TEMPLATE": "p"}, "p"),
        (
            ["--log-line-prefix-template", "o"],
            {"PET_LOG_LINE_PREFIX_TEMPLATE": "p", "TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "t"},
            "o",
        ),
        (
            ["--log-line-prefix-template="],
            {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": "t"},
            "t",
        ),
    ],
)
def test_a_prefix_template_is_an_option_or_torch_s_variable(elrun, options, variables, expected):
    """The option goes before it."""
    plan = elrun.plan(*options, "x.py", **variables)

    assert expected == plan.config.log_line_prefix_template


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ([], {}, 300),
        ([], {"TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT": "5"}, 5),
        ([], {"PET_EXIT_BARRIER_TIMEOUT": "0"}, 0),
        (["--exit-barrier-timeout", "7"], {"TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT": "5"}, 7),
        (["--exit-barrier-timeout", "0"], {}, 0),
    ],
)
def test_the_exit_barrier_has_two_defaults(elrun, options, variables, expected):
    """The option, else the variable of torch, else 300 s."""
    assert expected == elrun.plan(*options, "x.py", **variables).config.exit_barrier_timeout


@pytest.mark.parametrize(
    ("options", "variables", "expected"),
    [
        ([], {}, 30),
        ([], {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5"}, 5),
        (["--shutdown-timeout", "7"], {"TORCH_ELASTIC_SHUTDOWN_TIMEOUT": "5"}, 7),
        (["--shutdown-timeout", "0"], {}, 0),
    ],
)
def test_the_shutdown_timeout_has_two_defaults(elrun, options, variables, expected):
    """The option, else the variable of torch, else 30 s."""
    assert expected == elrun.plan(*options, "x.py", **variables).config.shutdown_timeout


def test_kinds_of_workers_are_counted(elrun):
    """By what the node has."""
    assert 8 == elrun.plan("--nproc-per-node", "gpu", "x.py").config.nproc_per_node


def test_several_workers_are_told_about_their_threads(elrun):
    """Once, in one line."""
    notices = elrun.plan("--nproc-per-node=2", "x.py").notices

    assert ("OMP_NUM_THREADS=1 for each of the 2 workers; set it for another number",) == notices


@pytest.mark.parametrize(
    ("options", "variables"), [(["--nproc-per-node=2"], {"OMP_NUM_THREADS": "4"}), ([], {})]
)
def test_threads_are_no_subject_otherwise(elrun, options, variables):
    """One worker gets all, and a number that the user set stands."""
    assert () == elrun.plan(*options, "x.py", **variables).notices


def test_workers_that_cannot_be_bound_run_anyway(elrun):
    """From the command line: binding makes a job faster, and must not keep one from running."""
    plan = elrun.plan("--numa-binding", "core-complex", "x.py")

    expected = NumaOptions(AffinityMode.CORE_COMPLEX, should_fall_back_if_binding_fails=True)
    assert expected == plan.config.numa_options


@pytest.fixture(name="plug_in")
def _plug_in(tmp_path, monkeypatch):
    """An installed package whose entry points name two layouts, one of which is broken."""
    installed = tmp_path / "site" / "mylogs-1.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mylogs\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text(
        "[torchrun.logs_specs]\nmylogs = elrun_mylogs:Specs\nbroken = elrun_mylogs:Missing\n"
    )
    (tmp_path / "site" / "elrun_mylogs.py").write_text(
        "class Specs:\n"
        "    def __init__(self, **settings): self.settings = settings\n"
        "    def reify(self, envs): raise NotImplementedError\n"
    )
    monkeypatch.syspath_prepend(tmp_path / "site")


@pytest.mark.usefixtures("plug_in")
def test_a_layout_comes_from_another_package(elrun):
    """It is found by its entry point, and gets what the default layout gets."""
    specs = elrun.plan("--logs-specs", "mylogs", "--tee", "3", "x.py").config.logs_specs

    expected = {"log_dir": None, "redirects": 0, "tee": 3, "local_ranks_filter": None}
    assert expected == specs.settings


@pytest.mark.usefixtures("plug_in")
def test_an_unknown_layout_is_refused_with_those_there_are(elrun):
    """The nearest is named."""
    sentence = elrun.refusal("--logs-specs", "mylog", "x.py")

    assert sentence.startswith("--logs-specs mylog: there is no such plug-in; give ")
    assert sentence.endswith("; did you mean mylogs?")


@pytest.mark.usefixtures("plug_in")
def test_a_broken_layout_is_refused(elrun):
    """With what Python says about it."""
    sentence = elrun.refusal("--logs-specs", "broken", "x.py")

    assert sentence.startswith("--logs-specs broken: elrun_mylogs:Missing can't be used: ")


def test_the_layout_default_is_elrun_s(elrun):
    """Torch registers its own under that name; loading it would import torch."""
    assert DefaultLogsSpecs() == elrun.plan("--logs-specs=default", "x.py").config.logs_specs


def test_why_auto_counted_no_gpu_is_said(elrun):
    """In one line, with the option that it is about."""
    elrun.count = lambda _kind, _variables: Count(4, "X=all hides the 2 GPUs of this node")

    plan = elrun.plan("--nproc-per-node", "auto", "x.py", OMP_NUM_THREADS="1")

    assert (4, ("--nproc-per-node auto: X=all hides the 2 GPUs of this node",)) == (
        plan.config.nproc_per_node,
        plan.notices,
    )


def test_a_pattern_goes_with_output_that_elrun_sees(elrun):
    """In log files, or kept."""
    options = ("--hang-log-pattern", "step", "--hang-timeout", "5")
    for more in (("--tee", "1"), ("--redirects", "0:2")):
        config = elrun.plan(*options, *more, "x.py").config
        assert (5, "step") == (config.hang_timeout, config.hang_log_pattern)
    assert None is elrun.plan("x.py").config.hang_timeout


def test_rules_of_restarts_become_one_value(elrun):
    """None where none is given: then the budget alone decides."""
    options = ("--max-restarts", "3", "--no-restart-on", "2", "--restart-delay", "1.5")
    rules = elrun.plan(*options, "--restart-window=60", "--fuse=2", "--restart-timeout=4", "x.py")

    assert RestartRules(None, Causes.parse("2"), 1.5, 60.0, 2, 4.0) == rules.config.restart_rules
    assert None is elrun.plan("--max-restarts", "3", "x.py").config.restart_rules


def test_an_empty_list_of_causes_to_restart_is_none_given(elrun):
    """As where a script passes on a variable that is not set."""
    plan = elrun.plan("--max-restarts=1", "--restart-on", "", "--fuse", "2", "x.py")

    assert None is plan.config.restart_rules.only_on


@pytest.mark.parametrize("variables", [{}, {"PET_MAX_RESTARTS": "0"}])
def test_rules_of_restarts_without_restarts_are_named(elrun, variables):
    """They are kept all the same: a variable may be set for many jobs."""
    plan = elrun.plan("--fuse", "2", "x.py", PET_RESTART_ON="SIGKILL", **variables)

    assert (
        "PET_RESTART_ON=SIGKILL, --fuse 2: no effect without restarts (--max-restarts)"
    ) in plan.notices


def test_a_time_for_no_check_is_noticed(elrun):
    """Something was left out."""
    (notice,) = elrun.plan("--health-check-timeout", "5", "x.py").notices

    assert "--health-check-timeout 5: no effect without --health-check" == notice
    assert () == elrun.plan("--health-check=true", "--health-check-timeout=5", "x.py").notices


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--gpus=4"], "--gpus 4: there is no GPU 4 here: elrun sees GPUs 0 to 3"),
        (["--gpus=GPU-x"], "--gpus GPU-x: GPU-x: there is no such GPU here"),
        (["--gpus=n1:0;n2:1"], "it has no list for this node, "),
        (["--gpus=MIG-a,MIG-b"], "give --virtual-local-rank as well"),
    ],
)
def test_gpus_that_can_t_be_had_are_refused(elrun, words, sentence):
    """The workers would see others, or fewer."""
    assert sentence in elrun.refusal(*words, "x.py")


@pytest.mark.parametrize(
    ("words", "workers", "notice"),
    [
        (["--nproc-per-node=gpu"], 2, "OMP_NUM_THREADS=1 for each of the 2 workers"),
        (["--nproc-per-node=auto"], 2, "OMP_NUM_THREADS=1 for each of the 2 workers"),
        (["--nproc-per-node=3"], 3, "--gpus 0,2: 3 workers share 2 GPUs"),
        (["--nproc-per-node=cpu"], 4, "--gpus 0,2: 4 workers share 2 GPUs"),
    ],
)
def test_chosen_gpus_are_counted(elrun, words, workers, notice):
    """``gpu`` and ``auto`` mean these; more workers share them."""
    plan = elrun.plan("--gpus=0,2", *words, "x.py")

    assert (workers, {"CUDA_VISIBLE_DEVICES": "0,2"}) == (
        plan.config.nproc_per_node,
        plan.variables,
    )
    assert any(each.startswith(notice) for each in plan.notices)
