"""What nodes have kept of a run: a report on the first line, and a history on those that follow."""

import os
import tempfile

from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.report.page import page_of
from elrun.launcher.report.records import read_record
from elrun.launcher.report.refusal import VerbRefusal
from elrun.launcher.report.runs import read_json, run_in
from elrun.launcher.report.story import story_of
from elrun.launcher.report.text import text_of
from elrun.launcher.verbs.log_sources import Sources
from fuzz_sentences import require_sentence

_FOLDER = tempfile.TemporaryDirectory(prefix="elrun-fuzz-")
_FILES = {name: os.path.join(_FOLDER.name, name) for name in ("report.json", "history.jsonl")}
_RECORDS = [os.path.join(_FOLDER.name, name) for name in ("run.json", "output.json")]


def attempt(data: bytes) -> None:
    """It is refused, or can be shown as a text and as a page that acts on nothing."""
    report, _, history = data.partition(b"\n")
    contents = {_FILES["report.json"]: report, _FILES["history.jsonl"]: history}
    contents |= dict.fromkeys(_RECORDS, report)
    for path, content in contents.items():
        with open(path, "wb") as file:
            file.write(content)
    _look_at_run()
    try:
        record = read_record(_FOLDER.name)
    except Refusal as refusal:
        require_sentence(refusal)
        return
    other = record._replace(report={**record.report, "node": "b"})
    for records in ([record], [record, other]):
        story = story_of(records)
        text = text_of(story)
        assert all(each.isprintable() or each == "\n" for each in text)
        page_of(story).encode()


def _look_at_run():
    for path in _RECORDS:
        read_json(path)
    run = run_in(_FOLDER.name)
    if run is None:
        return
    run.run_id, run.agent_pid, run.job, run.name, run.label  # noqa: B018
    sources = Sources([run], [_Agent(run)])
    for is_last in (False, False, True):
        for source in sources.look():
            lines = list(source.read(is_last=is_last))
            assert not is_last or all(line.endswith("\n") for line in lines)


class _Agent:
    """Answers once with what the file has, and has ended when it is asked again."""

    def __init__(self, run):
        self.run = run
        self._answers = [read_json(_RECORDS[1])]

    def ask(self, _path):
        if not self._answers:
            raise VerbRefusal("it has ended")
        return self._answers.pop()

    def wait_for_end(self, _timeout_s):
        return True
