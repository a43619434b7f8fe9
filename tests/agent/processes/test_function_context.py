"""Workers that are Python functions, started in each of the three ways."""

import errno
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import signal
import sys
import tempfile
import threading
from multiprocessing import forkserver

import pytest
import worker_functions
import worker_kit
from elrun.agent.processes.start import start_processes
from elrun.agent.system.wakeup import Wakeup
from worker_kit import Ear, Logs

pytestmark = pytest.mark.integration

METHODS = ("spawn", "fork", "forkserver")


@pytest.fixture(name="method", params=METHODS)
def _method(request):
    return request.param


@pytest.fixture(name="start")
def _start(method, contexts):
    """Start workers that run a function, with arguments by local rank."""

    def start(function, *args, envs=None, logs=None):
        contexts.append(
            start_processes(
                "trainer",
                function,
                dict(enumerate(args)),
                envs or {rank: {} for rank in range(len(args))},
                logs or Logs(),
                start_method=method,
            )
        )
        return contexts[-1]

    return start


@pytest.fixture(name="error_file")
def _error_file(tmp_path):
    return str(tmp_path / "error.json")


def test_functions_get_arguments_and_environment_and_return_values(start):
    """All three are each worker's own."""
    envs = {rank: {"RANK": str(rank), "ADDED": f"added {rank}"} for rank in range(2)}
    context = start(worker_functions.return_rank_and_environment, (10,), (20,), envs=envs)

    assert {0: (0, "added 0"), 1: (20, "added 1")} == context.wait().return_values


def test_return_values_may_be_large(start):
    """50 MB from each of two workers."""
    size = 50_000_000
    values = start(worker_functions.return_bytes, (size,), (size,)).wait().return_values

    assert [size, size] == [len(value) for value in values.values()]


def test_return_values_need_no_place_for_temporary_files(start, monkeypatch):
    """A container may have none that can be written to; then they stay in memory."""

    def refuse():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)

    values = start(worker_functions.return_bytes, (1_000_000,)).wait().return_values

    assert 1_000_000 == len(values[0])


def test_an_exception_is_in_the_error_file(start, error_file, capfd):
    """The failure knows message and traceback; the worker's standard error shows it, too."""
    context = start(worker_functions.raise_value_error, (), logs=Logs({0: error_file}))

    failure = context.wait().failures[0]

    assert (1, "ValueError: no such shard") == (failure.exitcode, failure.summary)
    assert "in raise_value_error" in failure.traceback
    assert capfd.readouterr().err.rstrip().endswith("ValueError: no such shard")


@pytest.mark.parametrize(("code", "exitcode"), [(7, 7), ("a message", 1)])
def test_sys_exit_keeps_its_code(start, code, exitcode):
    """As in any Python program, text means 1."""
    assert exitcode == start(worker_functions.exit_with, (code,)).wait().failures[0].exitcode


def test_sys_exit_has_a_place(start, error_file):
    """That of the user's function, not of what starts processes."""
    context = start(worker_functions.exit_with, (7,), logs=Logs({0: error_file}))
    failure = context.wait().failures[0]

    assert failure.departure is not None
    assert "raised SystemExit(7)" == failure.departure.words
    assert f'File "{worker_functions.__file__}", line ' in failure.departure.stack
    assert "    sys.exit(code)" == failure.departure.stack.splitlines()[-1]
    assert "multiprocessing" not in failure.departure.stack


def test_sys_exit_with_a_text_has_a_traceback(start, error_file):
    """As the exception that it is."""
    context = start(worker_functions.exit_with, ("no shard",), logs=Logs({0: error_file}))
    failure = context.wait().failures[0]

    assert ("SystemExit: no shard", None) == (failure.summary, failure.departure)
    assert f'File "{worker_functions.__file__}", line ' in (failure.traceback or "")


@pytest.mark.parametrize("code", [0, None])
def test_sys_exit_without_failure_returns_none(start, code):
    """``sys.exit(0)`` is success."""
    assert {0: None} == start(worker_functions.exit_with, (code,)).wait().return_values


def test_keyboard_interrupt_ends_a_worker_as_it_ends_python(start):
    """A shell would report 130."""
    failure = start(worker_functions.interrupt, ()).wait().failures[0]

    assert -signal.SIGINT == failure.exitcode


def test_a_killed_function_has_a_negative_exit_code(start):
    """The signal's number, as for commands."""
    failure = start(worker_functions.kill_itself, ()).wait().failures[0]

    assert -signal.SIGKILL == failure.exitcode


def test_a_return_value_that_cannot_be_pickled_is_a_failure(start, error_file):
    """The sentence names the function and says what to do."""
    context = start(worker_functions.return_nothing_picklable, (), logs=Logs({0: error_file}))

    failure = context.wait().failures[0]

    assert 1 == failure.exitcode
    assert "return value of return_nothing_picklable on local rank 0" in failure.summary


def test_a_return_value_that_cannot_be_restored_is_a_failure(start):
    """Unpickling happens in the agent, and fails there for this worker only."""
    failure = start(worker_functions.return_what_cannot_be_restored, ()).wait().failures[0]

    assert 1 == failure.exitcode
    assert "can't be read back" in failure.summary


def test_functions_are_stopped_like_commands(start):
    """Those that run when another fails are stopped by the death signal."""
    context = start(worker_functions.hang, (), ())
    pids = context.pids().values()
    assert context.wait(0) is None

    context.close()

    assert all(end.exitcode == -15 and end.stopped for end in context.exits.values())
    assert worker_kit.have_ended(pids)


@pytest.mark.usefixtures("heeded_signals")
def test_a_function_runs_in_a_session_of_its_own_without_the_agents_handlers(start, tmp_path):
    """Nothing of how the agent handles signals is left in it, and SIGINT is Python's."""
    forkserver._forkserver._stop()  # one that runs was started before SIGINT was heeded
    wakeup = Wakeup()
    previous = signal.set_wakeup_fd(wakeup.notify_fd)
    handler = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        seen = start(worker_functions.describe_itself, (str(tmp_path),)).wait().return_values[0]
    finally:
        signal.signal(signal.SIGTERM, handler)
        signal.set_wakeup_fd(previous)
        wakeup.close()

    assert {
        "leads_session": True,
        "death_signal": 9,
        "term_handler": signal.SIG_DFL,
        "int_handler_is_pythons": True,
        "wakeup_fd": -1,
        "mask": set(),
    } == seen


def test_what_functions_print_goes_where_the_logs_say(start, tmp_path):
    """Written or printed, on either stream."""
    out, err = tmp_path / "out", tmp_path / "err"
    context = start(
        worker_functions.say, ("word",), logs=Logs(stdouts={0: str(out)}, stderrs={0: str(err)})
    )
    context.wait()
    context.close()

    assert ("word\nword printed\n", "word on stderr\n") == (out.read_text(), err.read_text())


def test_a_daemon_that_executed_nothing_is_stopped(start, tmp_path):
    """Forked twice from a function, in a session of its own, it still carries the mark."""
    ear = Ear(tmp_path)
    context = start(worker_functions.leave_daemon_and_hang, (ear.path,))
    (daemon,) = ear.hear()
    pidfds = worker_kit.hold(daemon)

    context.close()

    assert worker_kit.all_end(pidfds)


def test_multiprocessing_objects_can_be_arguments(start, method):
    """Queues, locks and the like reach the worker as with ``multiprocessing.Process``."""
    queue = multiprocessing.get_context(method).Queue()

    context = start(worker_functions.put, (queue, "from the worker"))

    assert "from the worker" == queue.get(timeout=worker_kit.PATIENCE_S)
    assert not context.wait().is_failed()
    queue.close()
    queue.join_thread()


@pytest.mark.parametrize("method", ["spawn", "forkserver"], indirect=True)
@pytest.mark.parametrize(
    ("function", "args"), [(lambda: None, ()), (worker_functions.put, (threading.Lock(), 0))]
)
def test_what_cannot_be_pickled_is_refused_at_the_start(start, function, args):
    """The error says what to do, and nothing is left running."""
    children = worker_kit.children()

    with pytest.raises(ValueError, match="can't be sent to a new process.*start_method='fork'"):
        start(function, args, args)

    helpers = _multiprocessing_helpers()
    assert children - helpers == worker_kit.children() - helpers


@pytest.mark.parametrize("method", ["spawn"], indirect=True)
def test_an_interpreter_that_does_not_read_holds_up_nobody(start, tmp_path):
    """Its arguments are more than a pipe holds; it gets them when it goes on."""
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), 19)")
    large = bytes(1_000_000)
    envs = {0: {"PYTHONPATH": str(tmp_path)}, 1: {}}
    context = start(worker_functions.length_of, (large,), (large,), envs=envs)
    stopped, goes_on = context.pids().values()
    assert worker_kit.all_end(worker_kit.hold(goes_on))
    assert context.wait(0) is None
    worker_kit.wait_until(lambda: worker_kit.is_suspended(stopped))

    worker_kit.kill(stopped, signal.SIGCONT)

    assert {0: 1_000_000, 1: 1_000_000} == context.wait().return_values


@pytest.mark.parametrize("method", ["spawn"], indirect=True)
def test_an_interpreter_that_never_reads_can_be_stopped(start, tmp_path):
    """And nothing of what was meant for it is left."""
    (tmp_path / "sitecustomize.py").write_text("import os, signal; os.kill(os.getpid(), 19)")
    threads = {*threading.enumerate()}
    envs = {0: {"PYTHONPATH": str(tmp_path)}}
    context = start(worker_functions.length_of, (bytes(1_000_000),), envs=envs)

    context.close(signal.SIGKILL)

    assert -signal.SIGKILL == context.exits[0].exitcode
    assert set() == {*threading.enumerate()} - threads  # another test's may have ended


@pytest.mark.parametrize("method", ["fork"], indirect=True)
def test_a_fork_takes_any_function(start):
    """Nothing is pickled on the way into a copy of this process."""
    assert {0: 42} == start(lambda: 42, ()).wait().return_values


@pytest.mark.parametrize("method", ["fork"], indirect=True)
def test_forked_workers_hold_no_pipe_of_the_others(start, tmp_path):
    """Else a pipe would not end for its reader before the last worker has."""
    ears = [Ear(tmp_path, f"ear {rank}") for rank in range(2)]
    logs = Logs(stderrs={rank: str(tmp_path / f"{rank}.log") for rank in range(2)})
    context = start(worker_functions.tell_and_hang, *[(ear.path,) for ear in ears], logs=logs)
    for ear in ears:
        ear.hear()
    pids = context.pids()
    guardians = {os.readlink(f"/proc/self/fd/{fd}") for fd in context._guardian.inherited_fds}

    first_pipe = os.readlink(f"/proc/{pids[0]}/fd/2")
    seconds = worker_kit.write_ends(pids[1])

    assert first_pipe in worker_kit.write_ends(pids[0])
    assert first_pipe not in seconds
    assert not seconds & guardians


def test_nothing_is_left_in_the_agent_by_function_workers(start, method):
    """No descriptor and no child stays behind, but multiprocessing's own helpers."""
    start(worker_functions.exit_with, (0,)).close()
    fds, children = worker_kit.open_fds(), worker_kit.children()

    for _ in range(5):
        context = start(worker_functions.exit_with, (0,), (3,))
        context.wait()
        context.close()

    assert worker_kit.open_fds() <= fds
    assert worker_kit.children() <= children


def test_an_unknown_start_method_is_refused():
    """The known ones are listed."""
    with pytest.raises(ValueError, match="spawn, fork, forkserver"):
        start_processes("trainer", len, {0: ()}, {0: {}}, Logs(), start_method="clone")


def test_commands_do_not_import_multiprocessing():
    """It costs 20 ms, which a command's start must not pay."""
    program = (
        "import sys; from worker_kit import start_shells; start_shells('true').wait();"
        "print('multiprocessing' in sys.modules)"
    )
    code = f"import sys; sys.path.insert(0, {os.path.dirname(worker_kit.__file__)!r}); {program}"

    assert "False\n" == worker_functions.run_command([sys.executable, "-c", code])


def _multiprocessing_helpers():
    """Pids of multiprocessing's resource tracker and fork server, which live as long as we."""
    return {
        multiprocessing.resource_tracker._resource_tracker._pid,
        multiprocessing.forkserver._forkserver._forkserver_pid,
    }


def test_what_c_does_at_the_end_changes_no_result(start):
    """torch aborts there, now and then, where nobody has destroyed a process group."""
    assert {0: 42} == start(worker_functions.abort_at_the_end_of_c, ()).wait().return_values


def test_python_cleans_up_at_the_end(start, tmp_path):
    """Threads are waited for, and what is registered is called."""
    path = tmp_path / "words"

    start(worker_functions.clean_up_in_python, (str(path),)).wait()

    assert ["a thread", "atexit"] == path.read_text().splitlines()
