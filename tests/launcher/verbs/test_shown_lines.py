"""What a follower sees of lines that have no end yet: prompts, and the bars of tqdm."""

import re

import pytest
from elrun.launcher.verbs.log_lines import Lines
from elrun.launcher.verbs.log_sources import KeptOutput, LogFile
from elrun.launcher.verbs.logs import _Choice, _Shown
from elrun.launcher.verbs.ranks import WantedRanks

LONG = "x" * (3 << 19)


class Followed:
    """Two ranks that print into log files, and what is shown of them look by look."""

    def __init__(self, folder, pattern=None):
        pattern = pattern and re.compile(pattern)
        self._shown = _Shown(_Choice(WantedRanks(()), pattern))
        self._paths = [folder / f"{rank}.log" for rank in range(2)]
        for path in self._paths:
            path.touch()
        self._logs = [LogFile(str(path), rank, 0) for rank, path in enumerate(self._paths)]

    def print(self, text, rank=0):
        with self._paths[rank].open("a", newline="") as file:
            file.write(text)

    def look(self, *, is_last=False, merge=True):
        text = ""
        for log in self._logs:
            lines = self._shown.wanted(log, log.read(is_last=is_last))
            if merge:
                text += "".join(self._shown.marked((log, line) for line in lines))
            else:
                text += "".join(self._shown.titled(log, lines))
        return text


@pytest.fixture(name="followed")
def _followed(tmp_path):
    return Followed(tmp_path)


def test_steps_of_a_progress_bar_are_shown_as_they_come(followed):
    """Each ends with a carriage return, and the last one once nothing has followed it."""
    seen = []
    for text in ("\r 1%\r 2%", "", "\r 3%", "", "\r 4%\n"):
        followed.print(text)
        seen.append(followed.look())

    assert ["[0]:  1%\r", "[0]:  2%", "\r", "[0]:  3%", "\r[0]:  4%\n"] == seen


def test_without_ranks_the_bytes_are_those_that_were_printed(followed):
    """Nothing is added but the title."""
    seen = ""
    for text in ("start\r\n\r 1%", "", "\r", "", "\r 2%\r\r\n", "prompt> ", "", "yes\r", "", "\n"):
        followed.print(text)
        seen += followed.look(merge=False)

    title = "==> attempt 0, rank 0, 0 <==\n"
    assert f"{title}start\r\n\r 1%\r\r 2%\r\r\nprompt> yes\r\n" == seen


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_of_another_rank_begins_where_none_stands(followed, end):
    """And the rest of the line that was cut has its rank again."""
    followed.print("loading ... ")
    seen = [followed.look(), followed.look()]
    followed.print("other\n", rank=1)
    seen.append(followed.look())
    followed.print(f"done{end}")
    seen += [followed.look(is_last=True)]

    assert ["", "[0]: loading ... ", "\n[1]: other\n", "[0]: done\n"] == seen


def test_an_end_that_comes_late_adds_no_empty_line(followed):
    """The line of the other rank has ended the line already."""
    followed.print("loading")
    followed.look()
    followed.look()
    followed.print("other\n", rank=1)
    followed.look()
    followed.print("\n")

    assert "" == followed.look()


def test_bars_of_two_ranks_do_not_overwrite_each_other(followed):
    """Each step stands on a line of its own, once another rank's was written."""
    for rank in range(2):
        followed.print(f"\r{rank}a\r{rank}b\r", rank=rank)

    assert "[0]: 0a\r\n[1]: 1a\r" == followed.look()
    assert "\n[0]: 0b\n[1]: 1b" == followed.look()


def test_a_line_is_wanted_by_all_that_it_has(tmp_path):
    """It is not shown before the word that is looked for has come, and then from its beginning."""
    followed = Followed(tmp_path, "loss$")
    seen = []
    for text in ("step 1: lo", "", "ss", "", "\n", "step 2: x", "", "y\r", "loss\r", "end\n"):
        followed.print(text)
        seen.append(followed.look())

    assert ["", "", "", "[0]: step 1: loss", "\n"] == seen[:5]
    assert "" == "".join(seen[5:8])
    assert "[0]: loss\r" == "".join(seen[8:])


def test_the_end_of_a_kept_output_is_shown_once_it_is_quiet():
    """As that of a log file."""
    kept, seen = KeptOutput(0), []
    for end in (b"\r 1%\r 2%", b"\r 1%\r 2%", b"\r 1%\r 2%\r 3%"):
        kept.offer(len(end), end)
        seen.append(list(kept.read(is_last=False)))

    assert [["\r", " 1%\r"], [" 2%"], ["\r"]] == seen
    assert [" 3%\n"] == list(kept.read(is_last=True))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("text", ["a\r\nb\rc\n\r\r\nd", "\r", "\r\n\r", LONG])
def test_no_byte_is_lost_or_added_however_it_comes(text, size):
    """But for the end of the last line."""
    lines, data, found = Lines(), text.encode(), ""
    size = size if len(data) < 100 else len(data) // size
    for start in range(0, len(data), size):
        found += "".join(lines.feed(data[start : start + size]))
        if start % 2:
            found += "".join(lines.beginning())
    found += "".join(lines.finish())

    assert found == (text if text.endswith("\n") else f"{text}\n")
