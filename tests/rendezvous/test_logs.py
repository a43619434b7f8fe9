"""Loggers that load ``logging`` with the first line."""

import logging
import subprocess
import sys

import pytest
from elrun.rendezvous.logs import Log, once_there

log = Log("elrun.some.module")


@pytest.mark.parametrize(
    ("write", "level"),
    [(log.debug, "DEBUG"), (log.info, "INFO"), (log.warning, "WARNING")],
)
def test_a_line_is_logged_under_the_name_at_its_level(caplog, write, level):
    """As the logger of that name would do it."""
    caplog.set_level(logging.DEBUG)

    write("%d of %d", 1, 2)

    assert [("elrun.some.module", level, "1 of 2")] == [
        (record.name, record.levelname, record.getMessage()) for record in caplog.records
    ]


def test_a_line_names_the_place_that_logs(caplog):
    """Neither this module nor ``logging`` is of interest there."""
    log.warning("here")

    (record,) = caplog.records
    assert (__file__, "test_a_line_names_the_place_that_logs") == (
        record.pathname,
        record.funcName,
    )


def test_an_exception_is_logged_with_the_line(caplog):
    """The one that is being handled."""
    try:
        raise ValueError("x")
    except ValueError:
        log.exception("failed")
        log.warning("failed", exc_info=True)

    assert ["ValueError"] * 2 == [record.exc_info[0].__name__ for record in caplog.records]


def test_set_ups_are_done_at_once_where_logging_is_there_and_undone_at_the_end():
    """In this process it is."""
    done = []
    with once_there(lambda: done.append("set up"), lambda: done.append("undone")):
        inside = list(done)

    assert (["set up"], ["set up", "undone"]) == (inside, done)


def lines_of(program):
    """Return what a fresh process prints that has not imported ``logging``."""
    start = "import sys\nfrom elrun.rendezvous.logs import Log, once_there\nlog = Log('elrun.x')\n"
    told = "def say(text): print(text, 'logging' in sys.modules)\n"
    command = [sys.executable, "-c", start + told + program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (done.stdout + done.stderr).splitlines()


def test_lines_that_nobody_can_have_asked_for_load_nothing():
    """Below WARNING nothing is shown unless ``logging`` was told so."""
    assert ["after False"] == lines_of("log.info('a'); log.debug('b'); say('after')")


def test_a_warning_loads_logging_after_which_all_lines_are_its():
    """It is shown as Python shows warnings to a program that has not set logging up."""
    program = "log.warning('a'); say('after'); import logging\n"
    program += "logging.basicConfig(level=10, format='%(message)s'); log.info('b')"

    assert ["after True", "a", "b"] == lines_of(program)


SET_UPS = """
with once_there(lambda: say("first"), lambda: say("first undone")):
    with once_there(lambda: say("second"), lambda: say("second undone")):
        {}
    say("between")
"""


def test_what_is_set_up_comes_before_the_first_line_and_in_order():
    """A handler of a line that is logged later still gets that line."""
    assert [
        "first True",
        "second True",
        "second undone True",
        "between True",
        "first undone True",
        "a",
    ] == lines_of(SET_UPS.format("log.warning('a')"))


def test_what_was_not_needed_is_neither_done_nor_undone():
    """Most jobs log nothing."""
    assert ["between False"] == lines_of(SET_UPS.format("pass"))


def test_a_warning_is_written_plainly_where_logging_can_not_be_loaded():
    """A program may have used up its descriptors just when something is to be said."""
    program = "import os, resource, select\n"
    program += "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
    program += "with once_there(lambda: say('set up'), lambda: say('undone')):\n"
    program += "    log.info('a'); log.warning('b %s', 1); say('after')"

    assert ["after False", "elrun: b 1"] == lines_of(program)


def test_logging_that_somebody_else_loads_is_set_up_with_the_next_line():
    """A plug-in may import it at any time."""
    program = SET_UPS.format("import logging; log.info('a')")

    assert ["first True", "second True"] == lines_of(program)[:2]
