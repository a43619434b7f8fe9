"""A report that is there, but is broken or another elrun's: no verb says that there is none."""

import json
import signal

import pytest
from elrun.launcher.report.choice import chosen_records
from elrun.launcher.report.refusal import VerbRefusal
from elrun.launcher.verbs import logs, status


@pytest.fixture(autouse=True)
def _interrupts():
    """The verbs let Ctrl-C end them, as each runs in a process of its own."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def asked(verb):
    """Return what asks a verb for the run."""
    return lambda env: verb.command.main(["gamma"], obj=env, standalone_mode=False)


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """The folder of a run that has ended."""
    folder = tmp_path / "c_n0_5.run"
    folder.mkdir()
    record = {"run_id": "gamma", "name": "train.py", "agent_pid": 50}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize(
    "ask",
    [lambda env: chosen_records(["gamma"], env), asked(status), asked(logs)],
    ids=["report", "status", "logs"],
)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "it is no JSON"),
        ('{"version": 1, "run', "it is no JSON"),
        ("null", ""),
        ('{"version": 99}', "its version is 99, and this elrun reads version 1"),
    ],
)
def test_it_is_said_what_is_wrong_with_it(folder, ask, text, why):
    """The file is named, too."""
    (folder / "report.json").write_text(text)

    with pytest.raises(VerbRefusal) as refused:
        ask({"ELRUN_RUN_DIR": str(folder.parent)})

    expected = (
        f"the report of gamma (train.py, agent 50) can't be used: {folder}/report.json is no "
        f"report of elrun: {why}"
    )
    assert str(refused.value).startswith(expected), refused.value


@pytest.mark.parametrize(
    "ask", [lambda env: chosen_records(["gamma"], env), asked(status)], ids=["report", "status"]
)
def test_a_run_without_one_has_none(folder, ask):
    """It ended before five seconds were over."""
    with pytest.raises(VerbRefusal) as refused:
        ask({"ELRUN_RUN_DIR": str(folder.parent)})

    assert "gamma (train.py, agent 50) has ended, and has no report" == str(refused.value)
