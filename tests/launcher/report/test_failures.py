"""Each failure of a run once, with the end of the log of the rank that failed first."""

import os

import pytest
from elrun.launcher.report.failures import failures_of
from elrun.launcher.report.logs import MOST_BYTES, MOST_LINE_CHARS, log_ends
from elrun.launcher.report.records import NodeRecord
from run_kit import attempt, report, root


def failed(rank, **more):
    return {
        "rank": rank,
        "local_rank": rank,
        "pid": 7,
        "exitcode": 1,
        "message": "m",
        "exception": "",
        "error_file": "",
        **more,
    }


def test_several_nodes_tell_of_one_failure():
    """Each adds its own workers; the node that knows the traceback is heard."""
    quiet = attempt(0, 5, failures=[failed(4)])
    quiet["end"]["root"] = None
    records = [
        NodeRecord("0", report(quiet, node="n0"), []),
        NodeRecord("1", report(attempt(0, 5, failures=[failed(1)]), node="n1"), []),
    ]

    (found,) = failures_of(records, [0.0, 0.0])

    assert (1, "rank 1 failed", "restart") == (found.rank, found.reason, found.then)
    assert [("n0", 4), ("n1", 1)] == [(each["node"], each["rank"]) for each in found.others]


def test_a_success_and_a_node_that_joined_are_no_failures():
    """Rounds end for other reasons, too."""
    attempts = [
        {**attempt(0, 5, number=number, verdict=verdict)}
        for number, verdict in enumerate(["done", "node waiting", "aborted"])
    ]

    assert [] == failures_of([NodeRecord("", report(*attempts), [])], [0.0])


def test_the_cause_that_the_job_ended_with_goes_before_the_round_s():
    """More was known once all were stopped."""
    whole = report(attempt(0, 5), root=root(rank=0, message="the cause"), state="failed")

    (found,) = failures_of([NodeRecord("", whole, [])], [0.0])

    assert (0, "rank 0 on n0 failed: the cause") == (found.rank, found.reason)


def test_failures_stand_in_the_order_of_time():
    """By the clock of the first node."""
    early = NodeRecord("0", report(attempt(0, 5), attempt(6, 50, number=1), node="n0"), [])
    late = NodeRecord("1", report(attempt(1_006, 1_020, number=2), node="n1"), [])

    found = failures_of([early, late], [0.0, -1_000.0])

    assert [0, 2, 1] == [each.round for each in found]


@pytest.fixture(name="folder")
def _folder(tmp_path):
    folder = tmp_path / "logs" / "job_1" / "attempt_0" / "1"
    folder.mkdir(parents=True)
    return folder


def test_the_log_s_end_is_found_beside_the_error_file(folder):
    """Standard error first."""
    (folder / "stdout.log").write_text("out\n")
    (folder / "stderr.log").write_text("err\n")

    found = list(log_ends(str(folder / "error.json")))

    assert [("stderr.log", "err\n", True), ("stdout.log", "out\n", True)] == [
        (os.path.basename(each.path), each.text, each.is_whole) for each in found
    ]


def test_of_a_long_log_whole_lines_are_shown(folder):
    """The last ones."""
    (folder / "stderr.log").write_text("".join(f"line {n}\n" for n in range(50_000)))

    (found,) = log_ends(str(folder / "stderr.log"))

    assert found.text.endswith("line 49999\n")
    assert found.text.startswith("line ")
    assert len(found.text) <= MOST_BYTES
    assert not found.is_whole


@pytest.mark.parametrize("line", [b"x" * (10 << 20), b"\xff" * (10 << 20), b"\0\x1b" * (1 << 20)])
def test_a_line_of_ten_megabytes_is_cut(folder, line):
    """And shown as text, whatever it is."""
    (folder / "stderr.log").write_bytes(line)

    (found,) = log_ends(str(folder / "stderr.log"))

    assert len(found.text) < 5 * MOST_LINE_CHARS
    assert found.text.isprintable()
    assert "more characters)" in found.text


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "/proc/self/environ", "attempt_0/0/stderr.log", "{}/other.log", "{}/../x"],
)
def test_only_log_files_of_elrun_s_are_read(folder, path):
    """A report that somebody sends could name anything, and its page may be passed on."""
    (folder / "other.log").write_text("secret")

    assert [] == list(log_ends(path.format(folder)))


def test_neither_links_nor_pipes_are_followed(folder, tmp_path):
    """Nor does anybody wait for one."""
    (tmp_path / "secret").write_text("secret")
    (folder / "stderr.log").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "stdout.log")

    assert [] == list(log_ends(str(folder / "stderr.log")))
