"""``elrun logs`` where log files are gone, can't be read, or are empty: a sentence says which."""

import json
import re
import shutil
import signal

import pytest
from elrun.launcher.report.refusal import VerbRefusal
from elrun.launcher.verbs.logs import command

BOTH = ("stdout", "stderr")


@pytest.fixture(autouse=True)
def _interrupts():
    """The verb lets Ctrl-C end it, as it runs in a process of its own."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(name="logs")
def _logs(tmp_path):
    """Make the run of a job of two ranks, and return what shows its logs."""

    def make(*streams):
        ranks = []
        for rank in range(2):
            folder = tmp_path / "logs" / str(rank)
            folder.mkdir(parents=True)
            paths = {each: str(folder / f"{each}.log") for each in streams}
            for path in paths.values():
                open(path, "x").close()
            ranks.append({"rank": rank, "stdout": None, "stderr": None} | paths)
        run = tmp_path / "runs" / "x.run"
        run.mkdir(parents=True)
        record = {"run_id": "j", "name": "train.py", "agent_pid": 50}
        (run / "run.json").write_text(json.dumps(record | {"attempts": [{"ranks": ranks}]}))
        return tmp_path / "logs"

    def show(*options):
        variables = {"ELRUN_RUN_DIR": str(tmp_path / "runs")}
        return command.main(["j", *options], obj=variables, standalone_mode=False)

    make.show = show
    return make


def refusal(logs, *options):
    with pytest.raises(VerbRefusal) as refused:
        logs.show(*options)
    return str(refused.value)


def test_ranks_that_have_printed_nothing_into_their_files_are_said_to_have_printed_nothing(logs):
    """The advice to keep their output would be wrong: it is kept."""
    logs(*BOTH)

    assert "j (train.py, agent 50): no rank has printed anything" == refusal(logs)
    assert "j (train.py, agent 50): rank 1 has printed nothing" == refusal(logs, "--rank", "1")
    assert "j (train.py, agent 50): ranks 0-1 have printed nothing" == refusal(
        logs, "--rank", "0-1"
    )


def test_a_stream_without_a_log_file_may_have_had_more(logs):
    """Of the other stream, nothing is known."""
    logs("stdout")

    assert (
        "nothing that was printed of rank 1 is kept of j (train.py, agent 50), and the log files "
        "of stdout are empty: what elrun does not carry goes straight to its terminal or file; "
        "--tee 3 with --log-dir keeps it"
    ) == refusal(logs, "--rank", "1")


def test_log_files_that_were_removed_are_named(logs):
    """With how many more there are."""
    folder = logs(*BOTH)
    shutil.rmtree(folder)

    pattern = (
        r"log file .*/logs/{}/stdout\.log can't be read: No such file or directory; nor can {}"
    )
    assert re.fullmatch(pattern.format(0, "3 other log files"), refusal(logs))
    assert re.fullmatch(pattern.format(1, "1 other log file"), refusal(logs, "--rank", "1"))


def test_one_log_file_that_can_t_be_read_is_named_beside_what_the_others_have(logs, capfd):
    """It may be the one that matters; a folder stands for a file without permission."""
    folder = logs(*BOTH)
    (folder / "0" / "stdout.log").write_text("one\n")
    (folder / "1" / "stderr.log").unlink()
    (folder / "1" / "stderr.log").mkdir()

    code = logs.show()

    out, err = capfd.readouterr()
    assert (0, "==> attempt 0, rank 0, stdout <==\none\n") == (code, out)
    assert re.fullmatch(
        r"elrun: log file .*/logs/1/stderr\.log can't be read: Is a directory\n", err
    )
