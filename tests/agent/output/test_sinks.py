"""Writing to files and consoles that may fail."""

import errno
import logging
import os
import threading

import pytest
from elrun.agent.output.sinks import SHOWN, Faults, LogFile, Sink, open_log_file

FULL = "/dev/full"  # takes nothing: No space left on device


@pytest.fixture(name="faults")
def _faults():
    return Faults()


@pytest.fixture(name="full")
def _full():
    fd = os.open(FULL, os.O_WRONLY)
    yield fd
    os.close(fd)


@pytest.fixture(name="pipe")
def _pipe():
    ends = list(os.pipe())
    yield ends
    for fd in ends:
        if fd is not None:
            os.close(fd)


def close_reader(pipe):
    os.close(pipe[0])
    pipe[0] = None


def warnings_in(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_all_is_written(tmp_path, faults):
    """In the order in which it came."""
    file = LogFile(str(tmp_path / "log"), faults, retry_s=0)
    file.write(b"first\n")
    file.write(b"\xff second")
    file.close()

    assert b"first\n\xff second" == (tmp_path / "log").read_bytes()


def test_an_earlier_file_is_emptied(tmp_path, faults):
    """A log file tells of one attempt."""
    (tmp_path / "log").write_bytes(b"old")
    LogFile(str(tmp_path / "log"), faults, retry_s=0).close()

    assert b"" == (tmp_path / "log").read_bytes()


def test_a_file_that_is_emptied_while_it_grows_goes_on_from_its_start(tmp_path, faults):
    """A person who empties a log to gain room gets that room: no hole is left."""
    path = tmp_path / "log"
    file = LogFile(str(path), faults, retry_s=0)
    file.write(b"much output\n")
    os.truncate(path, 0)
    file.write(b"more\n")
    file.close()

    assert b"more\n" == path.read_bytes()


def test_a_full_disk_is_one_warning(full, faults, caplog):
    """However many files are on it, and however often they are written."""
    for name in ("one", "two"):
        sink = Sink(full, name, faults, retry_s=0)
        sink.write(b"lost")
        sink.write(b"lost, too")

    expected = (
        "cannot write one: No space left on device; what workers print there is lost while this "
        "lasts, and the job goes on"
    )
    assert [expected] == warnings_in(caplog)


def test_the_warning_says_where_a_file_is_cut_and_that_the_console_has_the_rest(
    full, tmp_path, faults, caplog
):
    """A file that isn't shown is another matter, and gets a warning of its own."""
    path = str(tmp_path / "log")
    file = open_log_file(path, faults, retry_s=0, fate=SHOWN)
    file.write(b"kept")
    os.dup2(full, file.fd)
    file.write(b"not kept")
    file.close()

    expected = (
        f"cannot write {path!r} after its first 4 bytes: No space left on device; what workers "
        "print is missing there while this lasts, but the console shows it, and the job goes on"
    )
    assert [expected] == warnings_in(caplog)


def test_another_fault_is_another_warning(faults, caplog):
    """And so is the same fault on another file system."""
    for device, number in ((1, errno.ENOSPC), (1, errno.EIO), (2, errno.ENOSPC), (1, errno.EIO)):
        faults.tell("file", device, OSError(number, os.strerror(number)))

    assert 3 == len(warnings_in(caplog))


@pytest.mark.parametrize(("retry_s", "kept"), [(0, b"kept\n"), (3600, b"")])
def test_a_disk_with_room_again_is_written_again_after_a_while(
    full, tmp_path, faults, retry_s, kept
):
    """What came while it was full is lost, and what comes before it is tried again."""
    sink = Sink(full, "file", faults, retry_s=retry_s)
    sink.write(b"lost\n")
    with open(tmp_path / "log", "wb") as roomy:
        os.dup2(roomy.fileno(), full)
    sink.write(b"kept\n")

    assert kept == (tmp_path / "log").read_bytes()


def test_a_reader_that_left_is_no_warning(pipe, faults, caplog):
    """`elrun … | head` has seen enough."""
    sink = Sink(pipe[1], "standard output", faults, retry_s=0)
    close_reader(pipe)
    sink.write(b"unread\n")
    sink.write(b"unread\n")

    assert [] == warnings_in(caplog)


def test_a_console_that_was_never_open_takes_everything(pipe, faults, caplog):
    """`elrun … >&-` asks for silence."""
    closed = os.dup(pipe[1])
    os.close(closed)
    Sink(closed, "standard output", faults, retry_s=0).write(b"unseen\n")

    assert [] == warnings_in(caplog)


def test_a_console_that_does_not_block_is_waited_for(pipe, faults):
    """Another program on the terminal may have made it so: nothing is lost."""
    os.set_blocking(pipe[1], False)
    data = bytes(range(256)) * 4096
    sink = Sink(pipe[1], "standard output", faults, retry_s=0)
    writer = threading.Thread(target=sink.write, args=(data,))
    writer.start()
    with open(pipe[0], "rb", closefd=False) as reader:
        seen = reader.read(len(data))
    writer.join()

    assert data == seen


def test_a_file_is_read_back_in_part(tmp_path, faults):
    """By its positions in the stream, however large."""
    file = LogFile(str(tmp_path / "log"), faults, retry_s=0)
    file.write(b"before" + b"x" * 200_000 + b"after")
    seen = b"".join(file.read_back(6, 200_006))
    file.close()

    assert b"x" * 200_000 == seen


def test_a_file_that_lost_something_is_read_back_up_to_there(full, tmp_path, faults):
    """What comes later no longer stands where the stream's positions say."""
    file = LogFile(str(tmp_path / "log"), faults, retry_s=0)
    file.write(b"kept")
    room = os.dup(file.fd)
    os.dup2(full, file.fd)
    file.write(b"lost")
    os.dup2(room, file.fd)
    file.write(b"late")
    seen = b"".join(file.read_back(2, 100))
    os.close(room)
    file.close()

    assert (b"pt", False) == (seen, file.has_all)


def test_a_device_is_not_read_back(faults):
    """A plug-in may name one; it keeps nothing."""
    file = LogFile(os.devnull, faults, retry_s=0)
    file.write(b"gone")
    file.close()

    assert not file.has_all


def test_a_file_that_cannot_be_opened_is_a_warning(tmp_path, faults, caplog):
    """And one for all files of that directory."""
    paths = [str(tmp_path / "missing" / name) for name in ("one", "two")]

    assert [None, None] == [open_log_file(path, faults, 0) for path in paths]
    (warning,) = warnings_in(caplog)
    assert f"cannot write {paths[0]!r}: No such file or directory" == warning.partition(";")[0]
