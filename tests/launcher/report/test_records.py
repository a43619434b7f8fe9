"""Whatever is no report is refused at the door, by a sentence that names the file."""

import copy
import json
import os

import pytest
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.report.page import page_of
from elrun.launcher.report.records import cleaned, read_record, shortened
from elrun.launcher.report.story import story_of
from elrun.launcher.report.text import text_of
from run_kit import START, attempt, event, report, root, sample, written

FULL = report(
    attempt(1, 5),
    attempt(
        6,
        9,
        failures=[
            {
                "rank": 1,
                "local_rank": 1,
                "pid": 7,
                "exitcode": -9,
                "message": "m",
                "exception": "",
                "error_file": "",
            }
        ],
    ),
    root=root(),
    ranks=[
        {
            "node": "n0",
            "state": "failed",
            "file": "",
            "words": "w",
            "global_rank": 1,
            "local_rank": 1,
            "pid": 7,
            "exitcode": -9,
            "after_s": None,
        }
    ],
    places={
        "at": "x",
        "why": "hang",
        "ranks": [{"rank": 0, "pid": 1, "place": "p", "silence": "", "stack": "s"}],
    },
)


def test_a_folder_and_its_report_are_the_same(tmp_path):
    """With the history that stands beside the report."""
    folder = written(tmp_path / "x.run", report(), [event(2, "end"), event(1, "start")])

    records = [read_record(str(path)) for path in (folder, folder / "report.json")]

    assert [START + 1, START + 2] == [line["at"] for line in records[0].history]
    assert records[0] == records[1]


def test_the_latest_word_of_a_killed_agent_ends_its_run(tmp_path):
    """Its report says that it runs."""
    running = report(attempt(1), state="running", ended_at=None)
    folder = written(tmp_path / "x.run", running, [event(1, "start"), sample(50, {})])

    assert START + 50 == read_record(str(folder)).ended_at


@pytest.mark.parametrize(
    "text", ["", "no JSON", "[]", "7", "null", "{}", "[" * 100_000, '{"version": 1}', "\0", "NaN"]
)
def test_what_is_no_report_is_refused(tmp_path, text):
    """Whatever it is."""
    path = tmp_path / "r.json"
    path.write_text(text)

    with pytest.raises(Refusal, match="r.json is no report of elrun: "):
        read_record(str(path))


@pytest.mark.parametrize("kind", ["missing", "fifo", "device"])
def test_what_can_not_be_read_is_refused(tmp_path, kind):
    """Nobody waits for a FIFO."""
    path = tmp_path / "r.json"
    if kind == "fifo":
        os.mkfifo(path)

    with pytest.raises(Refusal, match="can't be read: "):
        read_record("/dev/zero" if kind == "device" else str(path))


def places_in(value, place=()):
    """Yield where the fields and items of a value are."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in pairs:
        yield (*place, key)
        if isinstance(each, (dict, list)):
            yield from places_in(each, (*place, key))


@pytest.mark.integration  # some hundred reports
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "x",
        [],
        {},
        -1,
        1e300,
        "x" * 10,
        [[]],
        True,
        pytest.param(10**400, id="huge"),
        float("nan"),
    ],
)
def test_a_field_of_another_type_is_refused_or_shown(tmp_path, wrong):
    """None leads to a fault, whatever stands where."""
    for number, place in enumerate(places_in(FULL)):
        changed = copy.deepcopy(FULL)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = wrong
        path = tmp_path / f"{number}.json"
        path.write_text(json.dumps(changed))
        try:
            record = read_record(str(path))
        except Refusal as refusal:
            assert "is no report of elrun: " in str(refusal)  # noqa: PT017
            continue
        story = story_of([record])
        text_of(story)
        if number % 9 == 0:
            page_of(story)


@pytest.mark.integration  # some hundred reports
@pytest.mark.parametrize(
    "wrong",
    [
        None,
        7,
        "x",
        [],
        {},
        -1,
        1e300,
        [[]],
        True,
        {"0": "x"},
        pytest.param(10**400, id="huge"),
        {"9" * 5_000: [1, 2, 3]},
    ],
)
def test_nonsense_in_a_history_leads_to_no_fault(tmp_path, wrong):
    """It may be anybody's, too."""
    lines = [
        event(1, "running", ranks=[0], round=0),
        sample(2, {"0": [1.0, 2, 3]}, agent=[1.0, 2], beat_age_s=0.5, gpus=[[5, 6]]),
        sample(7, {"0": [5.0, 2, 9]}, gpus=[None]),
        event(8, "ended", then="restart", reason="r", delay_s=1.0, verdict="v", by=0),
        event(9, "joining"),
    ]
    for number, place in enumerate(places_in(lines)):
        changed = copy.deepcopy(lines)
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = wrong
        record = read_record(str(written(tmp_path / str(number), report(attempt(0, 9)), changed)))
        story = story_of([record])
        text_of(story)
        page_of(story)


def test_texts_act_on_nothing():
    """Neither on a terminal, nor on a page: they are shown as they are."""
    found = cleaned({"a\x1b": ["\x1b[31m", "\ud800", {"b": "ok\n\tx"}, 5, None]})

    assert {"a\\x1b": ["\\x1b[31m", "\\ud800", {"b": "ok\n    x"}, 5, None]} == found


def test_a_long_text_loses_its_middle():
    """A traceback's ends say most."""
    assert "aaaaa\n… (90 characters are left out) …\nbbbbb" == shortened("a" * 50 + "b" * 50, 10)
