"""The kernel's log is not read where an attempt begins: after a death, only what is new."""

import contextlib
import os
import socket
import time

import pytest
from elrun.agent.failures.kernel_log import KernelLog
from elrun.agent.failures.memory_events import KERNEL_LOG, KernelWatch, open_kernel_log

BEGAN_S = 100.0
OLD = b"6,1,90000000,-;usb 1-1: new device\n"
NEW = b"4,2,101000000,-;python[77]: segfault at 0\n SUBSYSTEM=pci\n"
NEWER = b"3,3,102000000,-;NVRM: Xid (PCI:0000:3b:00): 79\n"
TEXTS = ["python[77]: segfault at 0", "NVRM: Xid (PCI:0000:3b:00): 79"]


class Kernel:
    """A log like ``/dev/kmsg``: one record a read, none of which blocks."""

    def __init__(self):
        self._theirs, self._ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs.setblocking(False)
        self._overruns = 0
        self.reads = 0

    def write(self, *records):
        for record in records:
            self._ours.send(record)

    def overrun(self, times=1):
        """Let the next reads report that records were overwritten."""
        self._overruns += times

    def fileno(self):
        return self._theirs.fileno()

    def read(self, fd, most):
        self.reads += 1
        if self._overruns:
            self._overruns -= 1
            raise BrokenPipeError(32, "Broken pipe")
        return os.read(fd, most)

    def close(self):
        self._theirs.close()
        self._ours.close()


@pytest.fixture(name="kernel")
def _kernel():
    kernel = Kernel()
    yield kernel
    kernel.close()


@pytest.fixture(name="log")
def _log(kernel):
    return KernelLog(kernel.fileno(), BEGAN_S, kernel.read)


def texts(log):
    return [record.text for record in log.records()]


def test_each_record_is_read_once(kernel, log):
    """However often it is asked."""
    kernel.write(OLD, OLD, NEW)
    first = texts(log)
    kernel.reads = 0
    kernel.write(NEWER)

    found = texts(log), texts(log)

    assert (TEXTS[:1], (TEXTS, TEXTS)) == (first, found)
    assert 1 + 2 == kernel.reads  # the record, and twice that there is none


def test_what_was_logged_before_the_attempt_is_not_of_it(kernel, log):
    """The clocks of both may differ by two seconds."""
    kernel.write(OLD, b"6,5,98500000,-;a little earlier\n")

    assert ["a little earlier"] == texts(log)


def test_records_that_were_overwritten_cost_no_other(kernel, log):
    """The kernel reports it by EPIPE, once for each gap, and goes on with the oldest it has."""
    kernel.write(NEW)
    kernel.overrun(3)
    first = texts(log)
    kernel.overrun()
    kernel.write(NEWER)

    assert (TEXTS[:1], TEXTS) == (first, texts(log))


@pytest.mark.parametrize("junk", [b"junk", b"6,7", b"6,x,y,-;text\n", b";", b"\xff\xfe,1,2"])
def test_what_is_no_record_is_passed_over(kernel, log, junk):
    """Another kernel may write anything."""
    kernel.write(junk, NEW)

    assert TEXTS[:1] == texts(log)


def test_a_log_that_reports_nothing_but_errors_is_left(kernel, log):
    """No read of it is tried for ever."""
    kernel.overrun(1_000_000)

    assert [] == texts(log)


class Opened:
    """Stands for the log: a file, which has a place of reading as the log has."""

    def __init__(self, path):
        self.path, self.fds = path, []

    def write(self, *records):
        with open(self.path, "ab") as file:
            file.write(b"".join(records))

    def open(self):
        self.fds.append(os.open(self.path, os.O_RDONLY | os.O_CREAT))
        return self.fds[-1]


@pytest.fixture(name="opened")
def _opened(tmp_path):
    return Opened(tmp_path / "log")


def recent(text, behind_s=0.0):
    """Return a record of this moment, by a clock of the kernel that may be behind."""
    return f"4,2,{int((time.monotonic() - behind_s) * 1e6)},-;{text}\n".encode()


def test_an_attempt_begins_where_the_log_ends(opened):
    """The whole log takes as long to read as a restart may take; a later attempt begins anew."""
    opened.write(recent("before"))
    kernel = KernelWatch(keeps_log=True, open_log=opened.open)

    kernel.begin()
    opened.write(recent("during the first"))
    first = texts(kernel.log)
    kernel.begin()
    opened.write(recent("during the second"))
    second = texts(kernel.log)
    kernel.end()

    assert (["during the first"], ["during the second"]) == (first, second)
    assert 1 == len(opened.fds)


def test_what_comes_while_an_attempt_runs_is_not_asked_for_its_age(opened):
    """The kernel's clock isn't the monotonic one: after a month, a minute may lie between them."""
    opened.write(recent("before"))
    kernel = KernelWatch(keeps_log=True, open_log=opened.open)

    kernel.begin()
    opened.write(recent("an OOM kill", behind_s=52.0))
    found = texts(kernel.log)
    kernel.end()

    assert ["an OOM kill"] == found


def test_a_log_that_has_no_end_to_go_to_is_asked_for_the_age_of_its_records(kernel):
    """Its first records may be of any time before."""
    kernel.write(recent("before", behind_s=52.0))
    watch = KernelWatch(keeps_log=True, open_log=lambda: os.dup(kernel.fileno()))

    watch.begin()
    kernel.write(recent("during"))
    found = texts(watch.log)
    watch.end()

    assert ["during"] == found


def test_workers_that_are_forked_find_no_log(opened):
    """It is opened when it is needed, and what is older than the attempt is left out."""
    opened.write(recent("as old as the attempt"))
    kernel = KernelWatch(open_log=opened.open)

    kernel.begin()
    before = len(opened.fds)
    found = texts(kernel.log)
    kernel.begin()

    assert (0, ["as old as the attempt"]) == (before, found)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(opened.fds[0])


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, OSError])
def test_a_log_that_can_not_be_opened_is_empty(error):
    """Not everybody may read it."""

    def refuse():
        raise error(1, "no")

    kernel = KernelWatch(keeps_log=True, open_log=refuse)
    kernel.begin()

    assert [] == texts(kernel.log)
    kernel.end()


def test_another_file_in_its_place_is_not_read(tmp_path):
    """In some containers a terminal stands there, whose input is not elrun's."""
    (tmp_path / "kmsg").write_bytes(NEW)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "kmsg", tmp_path / "fifo", "/dev/null", tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError):
            open_kernel_log(str(path))


def test_the_log_of_this_kernel_can_be_read():
    """What comes while an attempt runs is found, as by one who reads the whole log."""
    kernel = KernelWatch(keeps_log=True)
    line = f"elrun: a test of {time.monotonic_ns()}"
    with contextlib.ExitStack() as descriptors:
        try:
            whole = open_kernel_log()
            descriptors.callback(os.close, whole)
            descriptors.callback(kernel.end)
            kernel.begin()
            with open(KERNEL_LOG, "w", encoding="ascii") as file:
                file.write(f"{line}\n")
        except OSError as error:
            pytest.skip(f"the kernel's log can't be written or read here: {error}")

        new, all_texts = texts(kernel.log), texts(KernelLog(whole, 0.0))

    # Both are 0 where the kernel takes no more lines for now.
    assert sum(line in text for text in all_texts) == sum(line in text for text in new)
    assert len(new) < len(all_texts)
