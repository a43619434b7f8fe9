"""Every option: its name, its variable, its default, its place in ``--help``."""

import re
from importlib import import_module

import click
import pytest
from elrun.launcher.commandline.arguments import Origin, spelling_of, variable_of
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.help import VERB_SECTION, build_command, help_page
from elrun.launcher.commandline.options import OPTIONS
from elrun.launcher.commandline.parse import parse
from elrun.launcher.commandline.verbs import VERBS
from elrun.launcher.verbs.front import LOOKING
from elrun.rendezvous.backends.registry import known_backends
from option_kit import BAD, GOOD

TORCHRUN = """
    nnodes nproc-per-node rdzv-backend rdzv-endpoint rdzv-id rdzv-conf standalone max-restarts
    monitor-interval start-method event-log-handler role module no-python run-path log-dir redirects
    tee local-ranks-filter duplicate-stdout-filters duplicate-stderr-filters node-rank master-addr
    master-port local-addr logs-specs numa-binding signals-to-handle shutdown-timeout
    virtual-local-rank log-line-prefix-template
"""
OURS = """
    preload use-env exit-barrier-timeout restart-on no-restart-on restart-delay restart-window
    restart-timeout fuse report metrics-port metrics-file no-history hang-timeout
    hang-log-pattern forward-signals
    timeout quiet log-format health-check health-check-timeout gpus
    preempt-signal grace requeue signal-to
"""

FLAGS = [option.name for option in OPTIONS if option.is_flag]
NAMES = [option.name for option in OPTIONS]


def test_there_is_every_option_of_torchrun():
    """Those of torch 2.15, none missing, and few added."""
    assert sorted(spelling_of(name) for name in f"{TORCHRUN} {OURS}".split()) == sorted(
        option.opts[-1] for option in OPTIONS
    )


def test_short_forms_are_torchrun_s():
    """``-m``, ``-r`` and ``-t``; ``-q`` is elrun's own."""
    short = {option.opts[0]: option.name for option in OPTIONS if len(option.opts) > 1}

    assert {"-m": "module", "-r": "redirects", "-t": "tee", "-q": "quiet"} == short


def test_the_samples_below_cover_every_option():
    """An option that is added gets its good and its bad value here."""
    assert set(NAMES) == set(GOOD) | set(FLAGS) == set(BAD)


@pytest.mark.parametrize("name", GOOD)
def test_a_variable_stands_for_an_option(elrun, name):
    """``PET_<NAME>=value`` is ``--name value``."""
    typed = elrun.given(spelling_of(name), GOOD[name], "x.py").answers[name]
    from_environment = elrun.given("x.py", **{variable_of(name): GOOD[name]}).answers[name]

    assert typed.value == from_environment.value
    assert (Origin.COMMAND_LINE, Origin.ENVIRONMENT) == (typed.origin, from_environment.origin)


@pytest.mark.parametrize("name", GOOD)
def test_the_command_line_beats_the_variable(elrun, name):
    """Even a variable that could not be used is not looked at then."""
    given = elrun.given(spelling_of(name), GOOD[name], "x.py", **{variable_of(name): BAD[name]})

    assert Origin.COMMAND_LINE is given.answers[name].origin


@pytest.mark.parametrize("name", GOOD)
def test_an_empty_variable_says_nothing(elrun, name):
    """Pod templates set variables to nothing."""
    assert Origin.DEFAULT is elrun.given("x.py", **{variable_of(name): ""}).answers[name].origin


@pytest.mark.parametrize("joined", [True, False], ids=["--name=", "--name ''"])
@pytest.mark.parametrize("name", [each for each in GOOD if each != "role"])
def test_an_empty_value_says_nothing(elrun, name, joined):
    """Scripts pass on variables that may not be set: ``--local-addr="$ADDRESS"``."""
    typed = [f"{spelling_of(name)}="] if joined else [spelling_of(name), ""]

    given = elrun.given(*typed, "x.py")

    assert elrun.given("x.py").answers[name] == given.answers[name]


@pytest.mark.parametrize("name", [each for each in GOOD if each != "role"])
def test_an_empty_value_leaves_what_was_said_elsewhere(elrun, name):
    """Before it on the command line, or in the environment."""
    empty = f"{spelling_of(name)}="
    typed = elrun.given(spelling_of(name), GOOD[name], "x.py").answers[name]

    before = elrun.given(spelling_of(name), GOOD[name], empty, "x.py").answers[name]
    outside = elrun.given(empty, "x.py", **{variable_of(name): GOOD[name]}).answers[name]

    assert (typed, typed.value) == (before, outside.value)


def test_a_role_may_be_empty(elrun):
    """TorchX starts each job so, for lines that begin with the rank alone."""
    assert "" == elrun.plan("--role", "", "x.py").config.role
    assert "" == elrun.plan("--role=", "x.py", PET_ROLE="trainer").config.role


@pytest.mark.parametrize("name", ["nnodes", "nproc_per_node", "node_rank"])
def test_an_empty_number_that_shapes_the_job_is_noticed(name):
    """Two nodes that both take the default would be two jobs."""
    notices = parse([f"{spelling_of(name)}=", "x.py"], Environment({}))[1]

    assert (f"{spelling_of(name)} is empty, which counts as not given",) == notices


def test_what_launchers_pass_in_vain_needs_no_word():
    """TorchX, and wrappers that name every option."""
    words = "--role= --rdzv-endpoint= --rdzv-id= --log-dir= --local-addr= --tee= x.py"

    assert () == parse(words.split(), Environment({}))[1]


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", True), ("true", True), ("YES", True), ("on", True), ("y", True), (" T ", True),
        ("0", False), ("False", False), ("no", False), ("off", False), ("N", False), ("", False),
    ],
)  # fmt: skip
def test_a_flag_s_variable_is_a_yes_or_a_no(elrun, name, text, expected):
    """Torchrun takes whole numbers only, and fails on the rest."""
    assert expected is elrun.given("x.py", **{variable_of(name): text})[name]


def test_a_variable_that_is_nearly_an_option_s_is_noticed():
    """What was meant is named; a variable that is nobody's may be somebody else's."""
    wrong = {"PET_NPROC_PER_NOD": "2", "PET_nnodes": "2", "PET_SHOP": "rex", "PET_NNODES": "1"}
    wrong |= {"PET_NPROC": "2", "PET_NODE": "1", "PET_RDZV": "x", "PET_LOG": "info"}

    notices = parse(["x.py"], Environment(wrong))[1]

    assert (
        "PET_NPROC_PER_NOD has no effect; did you mean PET_NPROC_PER_NODE?",
        "PET_nnodes has no effect; did you mean PET_NNODES?",
        "PET_NPROC has no effect; did you mean PET_NPROC_PER_NODE?",
    ) == notices


@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_on_the_command_line_beats_a_no(elrun, name):
    """``PET_STANDALONE=0 elrun --standalone``."""
    assert elrun.given(spelling_of(name), "x.py", **{variable_of(name): "0"})[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_variable_is_refused_by_its_name(elrun, name):
    """The option that nobody typed is not what the user must look for."""
    sentence = elrun.refusal("x.py", **{variable_of(name): BAD[name]})

    assert sentence.startswith(f"{variable_of(name)}=")


@pytest.mark.parametrize("name", GOOD)
def test_a_bad_value_is_refused_by_its_option(elrun, name):
    """With the value, and with what would be right."""
    sentence = elrun.refusal(spelling_of(name), BAD[name], "x.py")

    assert sentence.startswith(f"{spelling_of(name)} ")


def test_all_defaults_are_torchrun_s(elrun):
    """``elrun x.py`` is what ``torchrun x.py`` would be."""
    given = elrun.given("x.py")

    assert {
        "nnodes": "1",
        "nproc_per_node": "1",
        "rdzv_backend": "static",
        "rdzv_endpoint": "None",
        "rdzv_id": "none",
        "rdzv_conf": "{}",
        "max_restarts": "0",
        "monitor_interval": "0.1",
        "start_method": "spawn",
        "event_log_handler": "null",
        "role": "default",
        "node_rank": "0",
        "master_addr": "127.0.0.1",
        "master_port": "None",
        "signals_to_handle": "SIGTERM,SIGINT,SIGHUP,SIGQUIT",
        "shutdown_timeout": "None",
    }.items() <= {name: str(given[name]) for name in NAMES}.items()


@pytest.fixture(name="help_text")
def _help_text():
    return help_page()


@pytest.mark.parametrize("option", OPTIONS, ids=NAMES)
def test_help_shows_every_option_once(help_text, option):
    """With its value's name and, where there is one, its default."""
    lines = [line for line in help_text.splitlines() if line.startswith("  -")]
    (shown,) = [line for line in lines if option.opts[-1] in line.split("  ")[1].split()]

    assert option.is_flag or option.metavar in shown


@pytest.mark.parametrize(
    "option", [each for each in OPTIONS if each.default], ids=lambda each: each.name
)
def test_help_tells_the_default(help_text, option):
    """Where the default is more than nothing."""
    start = help_text.index(f"{option.opts[-1]} {option.metavar}")

    assert f"[default: {option.default}]" in help_text[start:].split("\n  -")[0]


def test_help_is_readable_at_80_columns(help_text):
    """No line is longer, and no option takes more than two lines of words."""
    assert max(len(line) for line in help_text.splitlines()) <= 80
    descriptions = help_text.replace("\n\n", "\n  -").split("\n  -")
    assert max(len(each.splitlines()) for each in descriptions[6:] if each) <= 3


def test_help_names_the_variables_once(help_text):
    """A rule for all, instead of a word at each."""
    assert 1 == help_text.count("PET_")


def test_help_has_groups_in_one_order(help_text):
    """Where it runs, how it meets, what is run, how it ends, where output goes."""
    titles = [line[:-1] for line in help_text.splitlines() if line.endswith(":") and line[0] != " "]

    assert [VERB_SECTION, *dict.fromkeys(option.group for option in OPTIONS)] == titles


@pytest.mark.parametrize("verb", VERBS)
def test_help_names_each_verb_and_says_what_it_does(help_text, verb):
    """Nobody finds `elrun status` otherwise."""
    (line,) = [line for line in help_text.splitlines() if line.split()[:1] == [verb]]

    assert f"  {verb}  {VERBS[verb].help}".split() == line.split()


@pytest.mark.parametrize("verb", LOOKING)
def test_the_table_of_verbs_has_the_options_that_a_verb_reads(verb):
    """And the values of each that are few."""
    command = import_module(f"elrun.launcher.verbs.{verb}").command
    options = {
        spelling: None if option.is_flag else tuple(getattr(option.type, "choices", ()))
        for option in command.params
        if isinstance(option, click.Option)
        for spelling in option.opts
    }

    assert options == VERBS[verb].options


def test_the_table_has_every_verb():
    """Those that look at runs, and those that have a job's options."""
    jobs = [name for name, verb in VERBS.items() if verb.options is None]

    assert ({*VERBS}, ["doctor", "run"]) == ({*LOOKING, *jobs}, jobs)


def test_environment_shows_no_secret():
    """What is shown of it names no variable."""
    assert "Environment()" == repr(Environment({"TOKEN": "secret"}))


@pytest.mark.parametrize("name", GOOD)
def test_click_knows_the_options_as_they_are_read(name):
    """What ``--help`` shows is what elrun reads: the same words mean the same to both."""
    words = [spelling_of(name), GOOD[name], "x.py", spelling_of(name)]

    context = build_command().make_context("elrun", words)

    assert (GOOD[name], ("x.py", spelling_of(name))) == (
        context.params[name],
        context.params["command"],
    )


def test_nodes_with_an_empty_run_id_have_the_same_one(elrun):
    """A script passes on a variable that is not set: random names would never meet."""
    words = ("--nnodes=2", "--rdzv-backend=c10d", "--rdzv-endpoint=n1:29400", "--rdzv-id=", "x.py")

    assert "none" == elrun.plan(*words).config.run_id


def test_help_names_all_backends_that_a_refusal_offers(help_text):
    """And no other, besides plug-ins."""
    words = help_text.partition("How nodes meet: ")[2].partition(", or a plug-in")[0]

    assert set(known_backends()) == set(re.split(r",?\s+(?:or\s+)?", words))
