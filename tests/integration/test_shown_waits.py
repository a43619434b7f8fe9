"""How a wait for other nodes goes is shown in one line of a terminal."""

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration


class Terminal:
    """A terminal that is the standard error of an elrun."""

    def __init__(self):
        self._ours, self._theirs = os.openpty()
        self.shown = ""

    def start(self, *words, folder):
        words = [sys.executable, "-m", "elrun", *map(str, words)]
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._theirs,
            cwd=folder,
        )  # fmt: skip
        os.close(self._theirs)
        return process

    def read_until(self, words):
        while words not in self.shown:
            self.shown += os.read(self._ours, 4096).decode()

    def read_all(self):
        try:
            while data := os.read(self._ours, 4096):
                self.shown += data.decode()
        except OSError:  # nobody has it open any more
            pass
        os.close(self._ours)
        return self.shown


@pytest.fixture(name="options")
def _options(script, vacant_endpoint):
    meeting = ("--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint={vacant_endpoint}")
    return (*meeting, "--rdzv-id=job", script(""))


def test_one_line_shows_how_it_goes_and_goes_itself(elrun, options, tmp_path):
    """The job's own output begins on a line of its own."""
    terminal = Terminal()
    first = terminal.start(*options, folder=tmp_path)
    terminal.read_until("\r\x1b[Kelrun: 1 of 2 nodes is here (")
    second = elrun(*options)

    shown = terminal.read_all()

    assert (0, 0) == (first.wait(60), second.finish()[0])
    assert shown.endswith("\r\x1b[K")
    assert "\n" not in shown


def test_a_line_takes_the_place_of_what_was_shown(options, tmp_path):
    """So does the last one."""
    terminal = Terminal()
    job = terminal.start(*options, folder=tmp_path)
    terminal.read_until("1 of 2 nodes is here")
    job.send_signal(signal.SIGTERM)

    shown = terminal.read_all()

    assert 143 == job.wait(60)
    assert "\r\x1b[Kelrun: stopped by SIGTERM; none of its workers is left" in shown


@pytest.mark.parametrize("words", [["--quiet"], ["--log-format=json"]])
def test_it_is_not_shown_where_it_is_not_wanted(options, tmp_path, words):
    """What reads the lines would have to take it apart."""
    terminal = Terminal()
    words = (*words, "--rdzv-conf=join_timeout=3")
    job = terminal.start(*words, *options, folder=tmp_path)

    assert "\r\x1b" not in terminal.read_all()
    assert 75 == job.wait(60)
