"""The kernel's log is read once: behind the workers' backs, and after a death what is new."""

import os
import socket
import time

import pytest
from elrun.agent.failures.kernel_log import KERNEL_LOG, KernelLog, open_kernel_log

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
        self.reads = self.opened = 0

    def write(self, *records):
        for record in records:
            self._ours.send(record)

    def overrun(self, times=1):
        """Let the next reads report that records were overwritten."""
        self._overruns += times

    def open(self):
        self.opened += 1
        return os.dup(self._theirs.fileno())

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
    log = KernelLog(BEGAN_S, kernel.open, kernel.read)
    yield log
    log.close()


def texts(log):
    return [record.text for record in log.records()]


def test_only_what_is_new_is_read_after_a_death(kernel, log):
    """Each record once, however often it is asked."""
    kernel.write(OLD, OLD, NEW)
    is_all = log.read_on()
    kernel.reads = 0
    kernel.write(NEWER)

    found = texts(log), texts(log)

    assert (True, (TEXTS, TEXTS), 1) == (is_all, found, kernel.opened)
    assert 1 + 2 == kernel.reads  # the record, and twice that there is none


def test_what_was_logged_before_the_attempt_is_not_of_it(kernel, log):
    """The clocks of both may differ by two seconds."""
    kernel.write(OLD, b"6,5,98500000,-;a little earlier\n")

    assert ["a little earlier"] == texts(log)


def test_a_long_log_is_read_in_pieces(kernel, log):
    """The loop goes on in between; what is left is read when it is needed."""
    kernel.write(OLD, OLD, NEW, NEWER)

    pieces = log.read_on(2), log.read_on(1)

    assert ((False, False), TEXTS) == (pieces, texts(log))


def test_records_that_were_overwritten_cost_no_other(kernel, log):
    """The kernel reports it by EPIPE, once for each gap, and goes on with the oldest it has."""
    kernel.write(NEW)
    kernel.overrun(3)
    first = texts(log)
    kernel.overrun()
    kernel.write(NEWER)

    assert (TEXTS[:1], TEXTS) == (first, texts(log))


def test_a_later_attempt_reads_only_what_is_new(kernel, log):
    """The whole log takes as long to read as a restart may take."""
    kernel.write(*[OLD] * 50, NEW)
    log.read_on()
    before = kernel.reads
    kernel.write(NEWER)

    is_open = log.go_on_from(BEGAN_S + 3.5)

    assert (True, TEXTS[1:], 2) == (is_open, texts(log), kernel.reads - before)


def test_a_log_that_is_closed_can_not_go_on(log):
    log.close()

    assert not log.go_on_from(BEGAN_S)


@pytest.mark.parametrize("junk", [b"junk", b"6,7", b"6,x,y,-;text\n", b";", b"\xff\xfe,1,2"])
def test_what_is_no_record_is_passed_over(kernel, log, junk):
    """Another kernel may write anything."""
    kernel.write(junk, NEW)

    assert TEXTS[:1] == texts(log)


def test_a_log_that_reports_nothing_but_errors_is_left(kernel, log):
    """No read of it is tried for ever."""
    kernel.overrun(1_000_000)

    assert ([], False) == (texts(log), log.read_on(5))


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError, OSError])
def test_a_log_that_can_not_be_opened_is_empty(error):
    """Not everybody may read it, and it is tried once."""
    tries = []

    def refuse():
        tries.append(1)
        raise error(1, "no")

    log = KernelLog(BEGAN_S, refuse)

    assert ([], True, 1) == (log.records(), log.read_on(), len(tries))


def test_what_was_read_stays_when_the_log_is_closed(kernel, log):
    """A report may be written after the last attempt."""
    kernel.write(NEW)
    log.read_on()
    kernel.write(NEWER)
    log.close()

    assert TEXTS[:1] == texts(log)


def test_another_file_in_its_place_is_not_read(tmp_path):
    """In some containers a terminal stands there, whose input is not elrun's."""
    (tmp_path / "kmsg").write_bytes(NEW)
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "kmsg", tmp_path / "fifo", "/dev/null", tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError):
            open_kernel_log(str(path))


def test_the_log_of_this_kernel_can_be_read():
    """What comes while it is read in two steps is found, as by one who reads it whole."""
    log, whole = KernelLog(0.0), KernelLog(0.0)
    log.read_on()
    line = f"elrun: a test of {time.monotonic_ns()}"
    try:
        os.close(open_kernel_log())
        with open(KERNEL_LOG, "w", encoding="ascii") as file:
            file.write(f"{line}\n")
    except OSError as error:
        pytest.skip(f"the kernel's log can't be written or read here: {error}")

    steps, once = (sum(line in text for text in texts(each)) for each in (log, whole))
    log.close()
    whole.close()

    assert once == steps  # both are 0 where the kernel takes no more lines for now
