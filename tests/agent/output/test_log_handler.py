"""Log handlers that must not hold up an agent."""

import logging
import os
import threading

import pytest
import worker_kit
from elrun.agent.output import log_handler
from elrun.agent.output.log_handler import MAX_WAITING, LogRelay
from elrun.agent.output.log_relay import relayed_logs


class Recorder(logging.Handler):
    """Keeps what it gets; holds it up first, where it is told to."""

    def __init__(self):
        super().__init__()
        self.lines = []
        self.threads = set()
        self.gate = threading.Event()
        self.gate.set()

    def emit(self, record):
        self.gate.wait(10)
        self.threads.add(threading.current_thread())
        self.lines.append(record.getMessage())


@pytest.fixture(name="recorder")
def _recorder():
    """A handler of elrun's logger."""
    recorder = Recorder()
    logger = logging.getLogger("elrun")
    logger.addHandler(recorder)
    yield recorder
    recorder.gate.set()
    logger.removeHandler(recorder)
    for thread in threading.enumerate():  # else what it held back would reach the next test
        if thread.name == "elrun-log":
            thread.join(worker_kit.PATIENCE_S)


log = logging.getLogger("elrun.agent.anything")


def test_a_line_is_handled_before_the_caller_goes_on(recorder, monkeypatch):
    """In another thread, and in order with what else happens."""
    monkeypatch.setattr(log_handler, "PATIENCE_S", worker_kit.PATIENCE_S)
    with relayed_logs():
        for number in range(100):
            log.warning("line %d", number)
            assert f"line {number}" == recorder.lines[-1]

    assert {threading.current_thread()}.isdisjoint(recorder.threads)


def test_a_handler_that_is_held_up_holds_nobody_up(recorder):
    """The caller goes on; what could not be shown comes when the handler goes on."""
    recorder.gate.clear()
    with relayed_logs():
        for number in range(50):
            log.warning("line %d", number)
        assert [] == recorder.lines
        recorder.gate.set()

    assert [f"line {number}" for number in range(50)] == recorder.lines


def test_a_handler_that_never_goes_on_costs_a_bounded_time(recorder):
    """The end of the agent does not wait for it."""
    recorder.gate.clear()

    with relayed_logs(settle_s=0.01):
        log.warning("nobody sees this")

    assert [] == recorder.lines
    assert logging.getLogger("elrun").handlers == [recorder]


def test_what_is_too_far_behind_is_counted(recorder):
    """Memory is bounded, and the gap is named."""
    recorder.gate.clear()
    with relayed_logs():
        for _ in range(MAX_WAITING + 7):
            log.warning("line")
        recorder.gate.set()

    assert MAX_WAITING + 1 == len(recorder.lines)
    assert "7 lines of elrun's own were left out, since nobody took them" == recorder.lines[-1]


def test_agents_of_one_process_share_it(recorder):
    """The first to end takes nothing from the other."""
    logger = logging.getLogger("elrun")
    before = logger.propagate, list(logger.handlers)
    with relayed_logs():
        with relayed_logs():
            log.warning("one")
        assert isinstance(logger.handlers[0], LogRelay)
        log.warning("two")

    assert ["one", "two"] == recorder.lines
    assert before == (logger.propagate, logger.handlers)


def test_handlers_of_the_program_get_the_lines_too(caplog):
    """Those of the root logger, where most programs have theirs."""
    with relayed_logs():
        log.warning("careful")

    assert ["careful"] == caplog.messages


def test_a_handler_that_is_added_meanwhile_stays(recorder):
    """A program configures its logging whenever it likes."""
    logger = logging.getLogger("elrun")
    other = Recorder()
    with relayed_logs():
        logger.addHandler(other)

    assert [recorder, other] == logger.handlers
    logger.removeHandler(other)


def test_a_handler_may_log_itself(recorder):
    """It must not wait for itself."""

    class Chatty(logging.Handler):
        def emit(self, record):
            if record.getMessage() == "hello":
                log.warning("echo")

    logger = logging.getLogger("elrun")
    chatty = Chatty()
    logger.addHandler(chatty)
    try:
        with relayed_logs():
            log.warning("hello")
    finally:
        logger.removeHandler(chatty)

    assert ["hello", "echo"] == sorted(recorder.lines, reverse=True)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_logs_by_itself(monkeypatch):
    """The thread is not in it."""
    monkeypatch.setattr(log_handler, "PATIENCE_S", worker_kit.PATIENCE_S)
    reader, writer = os.pipe()
    handler = logging.StreamHandler(os.fdopen(writer, "w"))
    logger = logging.getLogger("elrun")
    logger.addHandler(handler)
    try:
        with relayed_logs():
            log.warning("parent")
            pid = os.fork()
            if pid == 0:
                log.warning("child")
                os._exit(0)
            os.waitpid(pid, 0)
    finally:
        logger.removeHandler(handler)
        handler.stream.close()

    with open(reader) as pipe:
        assert "parent\nchild\n" == pipe.read()
