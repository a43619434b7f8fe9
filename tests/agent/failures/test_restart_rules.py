"""Restart by cause: histories of attempts, and what is decided after the last one."""

import pytest
from elrun.agent.failures.restart_causes import Causes, Death
from elrun.agent.failures.restart_rules import (
    GiveUp,
    Restart,
    RestartRules,
    decide,
)

KILLED, IMPORT_ERROR = -9, "builtins.ImportError"
OUT_OF_MEMORY = "torch.OutOfMemoryError"


def died(exitcode=1, exception="", lived_s=60.0, at_s=0.0, **more):
    """Return the end of an attempt that lived for a minute, unless it is told otherwise."""
    return Death(exitcode, exception, lived_s, at_s, **more)


def decided(deaths, max_restarts=3, restarts=0, chance=0.0, **rules):
    """Return the decision after some attempts."""
    return decide(RestartRules(**rules), max_restarts, deaths, restarts, chance)


def reason(decision):
    """Return why the job ends, or "" where it goes on."""
    return decision.reason if isinstance(decision, GiveUp) else ""


@pytest.mark.parametrize(("restarts", "goes_on"), [(0, True), (2, True), (3, False), (4, False)])
def test_any_failure_spends_one_of_the_budget(restarts, goes_on):
    """As under torchrun, if nothing else is asked for."""
    decision = decided([died()], restarts=restarts)

    assert goes_on is isinstance(decision, Restart)


@pytest.mark.parametrize(
    ("max_restarts", "words"),
    [
        (0, "no restart is allowed (--max-restarts)"),
        (2, "restarts spent: 2 of 2 (--max-restarts)"),
    ],
)
def test_a_spent_budget_is_named(max_restarts, words):
    """With its option."""
    assert GiveUp(words, is_usual=True) == decided([died()], max_restarts, max_restarts)


def test_a_syntax_error_of_the_script_is_never_restarted():
    """Whatever else is asked for: every node has the same file."""
    last = died(exception="builtins.SyntaxError", is_of_syntax=True)
    asked = Causes.parse("SyntaxError")

    assert "syntax error" in reason(decided([last], only_on=asked))


@pytest.mark.parametrize(
    ("causes", "death", "is_included"),
    [
        ("2", died(2), True),
        ("2", died(3), False),
        ("2", died(-2), False),
        ("64-113", died(64), True),
        ("64-113", died(113), True),
        ("64-113", died(114), False),
        ("SIGKILL", died(KILLED), True),
        ("sigkill", died(KILLED), True),
        ("SIGKILL", died(9), False),
        ("SIGKILL", died(-8), False),
        ("SIGKILL", died(-10), False),
        ("255", died(255), True),
        ("SIGKILL", died(137), False),
        ("ImportError", died(1, IMPORT_ERROR), True),
        ("builtins.ImportError", died(1, IMPORT_ERROR), True),
        ("OutOfMemoryError", died(1, OUT_OF_MEMORY), True),
        ("torch.OutOfMemoryError", died(1, OUT_OF_MEMORY), True),
        ("torch.cuda.OutOfMemoryError", died(1, OUT_OF_MEMORY), True),
        ("jax.OutOfMemoryError", died(1, OUT_OF_MEMORY), False),
        ("137", died(KILLED), True),
        ("130-140", died(KILLED), True),
        ("138", died(KILLED), False),
        ("137", died(137), True),
        ("OSError", died(1, "builtins.FileNotFoundError"), True),
        ("IOError", died(1, "builtins.FileNotFoundError"), True),
        ("Exception", died(1, IMPORT_ERROR), True),
        ("BaseException", died(1, "builtins.KeyboardInterrupt"), True),
        ("FileNotFoundError", died(1, "builtins.OSError"), False),
        ("OSError", died(1, "train.NoDisk", bases=("builtins.OSError",)), True),
        ("base.Shard", died(1, "train.NoDisk", bases=("base.io.Shard",)), True),
        ("OSError", died(1, "train.NoDisk", bases=("mine.Error",)), False),
        ("OSError", died(1, "FileNotFoundError"), True),
        ("builtins.OSError", died(1, "builtins.FileNotFoundError"), True),
        ("hang", died(1, is_hang=True), True),
        ("Hang", died(1, is_hang=True), True),
        ("1-255,Exception,SIGTERM", died(1, is_hang=True), False),
        ("hang", died(1), False),
        ("hang", died(1, "train.hang"), False),
        ("ImportError", died(1), False),
        ("Error", died(1, IMPORT_ERROR), False),
        ("1", died(1, IMPORT_ERROR), True),
        ("SIGSEGV, 3 ,ImportError", died(3), True),
        ("", died(1), False),
    ],
)
def test_causes_are_codes_signals_and_exceptions(causes, death, is_included):
    """Of an exception also each base, with or without its package; 128+n is signal n, too."""
    assert is_included is Causes.parse(causes).include(death)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0", "exit codes of failures are 1 to 255"),
        ("256", "exit codes of failures are 1 to 255"),
        ("0-5", "exit codes of failures are 1 to 255"),
        ("1-256", "exit codes of failures are 1 to 255"),
        ("AB", "AB is the name of no exception"),
        ("5-3", "a range begins with its lowest code: 3-5"),
        ("1,,2", "there is nothing between two commas"),
        ("1,", "there is nothing between two commas"),
        ("1-2-3", "'1-2-3' is neither an exit code"),
        ("-9", "'-9' is neither an exit code"),
        ("SIGNOTHING", "SIGNOTHING is no signal of this system"),
        ("a b", "'a b' is neither"),
        ("3.5", "'3.5' is neither"),
        ("x!", "'x!' is neither"),
        ("-9", "for signal 9 give SIGKILL"),
        ("*", "without --restart-on, any cause is restarted"),
        ("ALL", "ALL is the name of no exception; without --restart-on, any cause"),
        ("oom", "oom is the name of no exception; give SIGKILL for memory of the host"),
        ("none", "give --max-restarts 0"),
        ("KILL", "give SIGKILL for the signal"),
        ("term", "give SIGTERM for the signal"),
        ("int", "give SIGINT for the signal"),
        ("importerror", "did you mean ImportError?"),
        ("ImportEror", "did you mean ImportError?"),
        ("FileNotFounError", "did you mean FileNotFoundError?"),
        ("TimeOutError", "did you mean TimeoutError?"),
        ("print", "print is the name of no exception"),
        ("len", "give one such as ImportError, and one of your own with its module"),
        ("NODE_LOST", "NODE_LOST is the name of no exception"),
    ],
)
def test_what_is_no_cause_is_refused(text, words):
    """The message says what would be one."""
    with pytest.raises(ValueError, match=words.replace("(", r"\(")):
        Causes.parse(text)


@pytest.mark.parametrize(
    "name",
    ["MyError", "ConnectError", "mine.ImportEror", "mine.OOM", "error", "zlib.error", "Full", "X"],
)
def test_a_name_that_may_be_a_user_s_is_taken(name):
    """Nobody but the user knows of it."""
    assert (name,) == Causes.parse(name).exceptions


def test_a_hang_is_named_as_a_cause():
    """It has no exit code of its own."""
    asked = Causes.parse("hang")

    assert "a worker hung, which is not to be restarted (--no-restart-on)" == reason(
        decided([died(is_hang=True)], never_on=asked)
    )


def test_a_hang_is_no_equal_of_an_exit_code():
    """A fuse counts them apart."""
    deaths = [died(1, lived_s=1.0), died(1, lived_s=1.0, is_hang=True)]

    assert isinstance(decided(deaths, 9, fuse=2), Restart)


def test_named_causes_end_the_job():
    """The message names what happened, and the option."""
    asked = Causes.parse("2,ImportError")

    assert [
        "a worker exited with code 2, which is not to be restarted (--no-restart-on)",
        "a worker raised ImportError, which is not to be restarted (--no-restart-on)",
        "",
    ] == [
        reason(decided([last], never_on=asked))
        for last in (died(2), died(1, IMPORT_ERROR), died(3))
    ]


def test_other_causes_than_the_named_ones_end_the_job():
    """Also those whose exception is not known."""
    asked = Causes.parse("SIGKILL,ConnectionError")
    deaths = (died(KILLED), died(1, "builtins.ConnectionError"), died(1), died(-15))

    assert [True, True, False, False] == [
        isinstance(decided([last], only_on=asked), Restart) for last in deaths
    ]


def test_an_empty_list_of_causes_restarts_nothing():
    """`--restart-on ""` is no wish to restart on everything."""
    assert isinstance(decided([died()], only_on=Causes()), GiveUp)


@pytest.mark.parametrize(
    ("last", "what"),
    [
        (died(1, "builtins.ValueError"), "raised ValueError and exited with code 1"),
        (died(1), "exited with code 1"),
        (died(KILLED), "was killed by SIGKILL"),
    ],
)
def test_lists_that_name_one_death_by_two_of_its_sides_are_told_apart(last, what):
    """By its exit code and by its exception: the sentence has both, and says which list counts."""
    named = Causes.parse("1,SIGKILL,ValueError")

    assert (
        f"a worker {what}, which --no-restart-on and --restart-on both name: the first goes before"
    ) == reason(decided([last], never_on=named, only_on=named))


def test_what_is_never_restarted_goes_before_what_is():
    """A range with an exception to it."""
    asked = {"only_on": Causes.parse("1-255"), "never_on": Causes.parse("2")}

    assert "--no-restart-on" in reason(decided([died(2)], **asked))


@pytest.mark.parametrize(
    ("ends_at_s", "goes_on"),
    [
        ([0, 10, 20, 30], False),
        ([0, 10, 20, 100], True),
        ([0, 50, 60, 110], True),
        ([0, 1000, 2000, 3000, 4000], True),
        ([0, 60, 70, 80, 119], False),
    ],
)
def test_only_the_window_s_restarts_count(ends_at_s, goes_on):
    """A job of weeks may spend its budget again and again."""
    deaths = [died(at_s=at_s) for at_s in ends_at_s]

    assert goes_on is isinstance(decided(deaths, restarts=1000, window_s=60.0), Restart)


def test_a_spent_window_is_named():
    """With its length."""
    deaths = [died(at_s=0.0), died(at_s=1.0)]

    assert "restarts spent in 60 s: 1 of 1 (--restart-window)" == reason(
        decided(deaths, 1, 1, window_s=60.0)
    )


AT_START = {"lived_s": 1.0}


@pytest.mark.parametrize(
    ("deaths", "goes_on"),
    [
        ([died(**AT_START)], True),
        ([died(**AT_START), died(**AT_START)], False),
        ([died(**AT_START), died(2, **AT_START)], True),
        ([died(1, IMPORT_ERROR, **AT_START), died(1, OUT_OF_MEMORY, **AT_START)], True),
        ([died(**AT_START), died()], True),
        ([died(**AT_START), died(), died(**AT_START)], True),
        ([died(), died(**AT_START), died(**AT_START)], False),
    ],
)
def test_a_fuse_ends_equal_deaths_at_the_start(deaths, goes_on):
    """One after the other, of one cause, within five seconds."""
    assert goes_on is isinstance(decided(deaths, 99, fuse=2), Restart)


def test_a_blown_fuse_is_named():
    """With what happened each time."""
    words = reason(decided([died(KILLED, **AT_START)] * 2, 99, fuse=2))

    assert (
        "2 attempts in a row have ended within 5 s of their start by the same cause: a worker was "
        "killed by SIGKILL (--fuse)"
    ) == words


def test_the_third_equal_death_at_the_start_looks_hopeless():
    """It is said, and done all the same."""
    deaths = [died(**AT_START)] * 3

    assert ["", ""] == [decided(deaths[:count], 9).doubt for count in (1, 2)]
    assert "death 3 in a row" in decided(deaths, 9).doubt


def test_delays_double_with_each_failure_in_a_row():
    """Five minutes at most."""
    deaths = [died()] * 12

    assert [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0] == [
        decided(deaths[:count], 99, delay_s=10.0).delay_s for count in (1, 2, 3, 4, 5, 6, 12)
    ]


def test_an_attempt_that_lived_long_begins_delays_anew():
    """Ten minutes of work are no failure in a row."""
    deaths = [died(), died(), died(lived_s=601.0), died()]

    assert [20.0, 10.0, 20.0] == [
        decided(deaths[:count], 99, delay_s=10.0).delay_s for count in (2, 3, 4)
    ]


@pytest.mark.parametrize(("chance", "delay_s"), [(0.0, 8.0), (0.5, 7.0), (1.0, 6.0)])
def test_delays_are_spread(chance, delay_s):
    """A thousand jobs that a file server stopped do not come back at once."""
    assert delay_s == decided([died()], chance=chance, delay_s=8.0).delay_s


def test_without_a_delay_a_restart_comes_at_once():
    """As ever."""
    assert Restart() == decided([died()] * 9, 9, chance=0.7)
