"""What stands in an error file, and how a damaged or a very long one is read."""

import json

import pytest
from elrun.agent.failures.error_record import (
    MAX_ERROR_FILE_BYTES,
    clipped,
    error_record,
    read_error_record,
    shortened,
    understand,
)
from elrun.agent.failures.failure import ProcessFailure
from elrun.agent.system.left_files import LeftFile, LeftFileReader

WHOLE = {
    "message": {
        "message": 'ValueError: "no"\\\n\u20ac \U0001f600',
        "extraInfo": {"py_callstack": "Trace", "timestamp": "1", "list": [1, True, None, {}]},
    }
}


def read(path):
    return read_error_record(str(path), LeftFileReader())


@pytest.mark.parametrize("text", [json.dumps(WHOLE), json.dumps(WHOLE, ensure_ascii=False)])
def test_a_record_that_is_cut_anywhere_is_completed(text):
    """From the message's first character on, no cut hides it; what is there is told unchanged."""
    data = text.encode()
    begin = data.index(b"ValueError")
    texts = []
    for stop in range(begin, len(data)):
        found = understand(LeftFile(data[:stop], is_whole=False)).data
        texts.append(found["message"]["message"])

    assert all(WHOLE["message"]["message"].startswith(each.rstrip("\ud83d")) for each in texts)
    assert WHOLE["message"]["message"] == texts[-1]


@pytest.mark.parametrize("size", [600_000, 3_000_000])
def test_torch_s_record_of_any_length_says_its_message(tmp_path, size):
    """torch's writer knows no limit."""
    path = tmp_path / "error.json"
    text = "ValueError: " + "é\n" * (size // 2)
    extra = {"py_callstack": "Traceback …" + text, "timestamp": "100"}
    path.write_text(json.dumps({"message": {"message": text, "extraInfo": extra}}))

    assert "ValueError: é" == ProcessFailure(0, 1, 1, str(path)).summary


@pytest.mark.parametrize("letter", ["x", "\0", "é", "\U0001f600", "\n", '"'])
def test_our_own_record_is_never_too_long_to_be_read(letter):
    """Whatever its letters take in JSON, beginning and end of both texts are kept."""
    text = f"ValueError: {letter * 2_000_000} end"

    data = error_record(text, f"Traceback\n{text}", 100)

    assert len(json.dumps(data)) < MAX_ERROR_FILE_BYTES
    message, stack = data["message"]["message"], data["message"]["extraInfo"]["py_callstack"]
    assert message.startswith(f"ValueError: {letter}")
    assert "characters are left out here" in message
    assert stack.startswith("Traceback\nValueError: ")
    assert stack.endswith(" end")


def test_what_fits_is_not_touched():
    """A text within the limit stays as it is."""
    assert "text" == clipped("text", 100)


@pytest.mark.parametrize("message", ["short", "long " * 10_000, {"message": "x" * 9000}, None])
def test_a_shortened_record_fits_and_begins_with_its_message(message):
    """Kubernetes shows the last 4096 bytes of its termination log: the whole must fit."""
    data = {"message": {"message": message, "extraInfo": {"py_callstack": "deep\n" * 5000}}}

    text = shortened(data, 4096)

    assert len(text) <= 4096
    assert text.startswith('{"message": {"message": "')
    assert json.loads(text)["message"]["message"].startswith(str(message)[:1000])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", ""),
        (b"oh no\n", "is no error record in JSON"),
        (b'{"message"', "is no error record in JSON"),
        (b"\xff\xfe\x00", "is no error record in JSON"),
        (b"{" * (2 << 20), "is no error record in JSON"),
        (b'{"a": "' + bytes(2 << 20), "is no error record in JSON"),
    ],
)
def test_what_is_no_record_is_said(tmp_path, content, problem):
    """A file of another kind explains nothing, and breaks nothing."""
    path = tmp_path / "error.json"
    path.write_bytes(content)

    assert (None, problem) == read(path)


def test_a_failure_says_what_is_wrong_with_its_error_file(tmp_path):
    """The exit code comes first, as where there is no file."""
    failure = ProcessFailure(0, 1, 3, str(tmp_path))

    assert "exited with code 3; its error file is no regular file" == failure.summary
