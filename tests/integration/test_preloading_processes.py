"""Workers are forked from a preloading process; where there is none, they are executed."""

import os
import re
import select
import signal
import sys
from pathlib import Path

import pytest
from preload_kit import ONE_THREAD, PRELOAD

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("preloadable")]

TELL_IMPORTER = """
import os, sys, preloadable
how = "executed" if preloadable.IMPORTED_BY == os.getpid() else "forked"
sys.stdout.write(f"{how} {preloadable.IMPORTED_BY} {preloadable.THREADS}\\n")
"""


def test_workers_are_forked_and_nothing_is_said(elrun, script):
    """All workers come from one process that imported the module; the user hears of no trouble."""
    code, out, err = elrun(
        "--standalone", "--nproc-per-node", 2, *PRELOAD, script(TELL_IMPORTER), env=ONE_THREAD
    ).finish()

    assert (0, "") == (code, err)
    assert 2 == len(out.splitlines())
    assert 1 == len(set(out.splitlines()))
    assert out.startswith("forked ")


def test_modules_find_the_threads_that_workers_get(elrun, script):
    """OMP_NUM_THREADS is read when a library is loaded, so it is set by then."""
    _, out, _ = elrun(
        "--standalone", "--nproc-per-node", 2, *PRELOAD, script(TELL_IMPORTER)
    ).finish()

    assert ["1", "1"] == [line.split()[2] for line in out.splitlines()]


def test_a_restart_is_a_fork_from_the_same_process(elrun, script):
    """What was imported once serves every attempt."""
    program = script(TELL_IMPORTER + "sys.exit(os.environ['TORCHELASTIC_RESTART_COUNT'] == '0')")
    code, out, _ = elrun("--standalone", "--max-restarts", 1, *PRELOAD, program).finish()

    assert 0 == code
    assert 2 == len(out.splitlines())
    assert 1 == len(set(out.splitlines()))


def test_without_its_process_the_next_attempt_is_executed(elrun, script):
    """One warning, and the job goes on."""
    program = script(
        TELL_IMPORTER
        + "import signal\n"
        + "if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        + "    os.kill(preloadable.IMPORTED_BY, signal.SIGKILL); sys.exit(1)\n"
    )
    code, out, err = elrun(
        "--standalone", "--nproc-per-node", 1, "--max-restarts", 2, *PRELOAD, program
    ).finish()

    assert 0 == code
    assert ["forked", "executed"] == [line.split()[0] for line in out.splitlines()]
    assert 1 == err.count("workers start without")
    assert "ended (exit code -9); workers start without" in err


def test_a_worker_lives_on_when_its_origin_dies(elrun, script):
    """Exit codes come back all the same."""
    program = script(
        "import os, signal, sys, preloadable\n"
        "end = os.pidfd_open(preloadable.IMPORTED_BY)\n"
        "os.kill(preloadable.IMPORTED_BY, signal.SIGKILL)\n"
        "import select; select.select([end], [], [])\n"
        "sys.exit(7)\n"
    )

    assert 7 == elrun("--standalone", *PRELOAD, program).finish()[0]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "import no_such",
            "odd can't be imported (ModuleNotFoundError: No module named 'no_such')",
        ),
        ("1 / 0", "odd can't be imported (ZeroDivisionError: division by zero)"),
        ("import sys; sys.exit(5)", "odd can't be imported (SystemExit: 5)"),
        ("import os; os._exit(5)", "the preloading process ended (exit code 5) while it imported"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "the preloading process ended (exit code -9) while it imported",
        ),
        (
            "from threading import *; Thread(target=Event().wait, name='ear', daemon=True).start()",
            "a module started threads (ear), which a fork would lose",
        ),
        (
            "import sys; sys.modules['torch'] = sys.cuda = sys; sys.is_initialized = lambda: True",
            "a module initialised CUDA, which can't be used after a fork",
        ),
    ],
)
def test_where_it_cannot_be_the_job_starts_all_the_same(elrun, script, tmp_path, text, sentence):
    """One sentence says why, whatever goes wrong."""
    (tmp_path / "odd.py").write_text(text)
    code, out, err = elrun(
        "--standalone", "--preload", "preloadable,odd", script(TELL_IMPORTER)
    ).finish()

    assert (0, True) == (code, out.startswith("executed"))
    assert f"elrun: preloading preloadable, odd: {sentence}; workers start without\n" == err


def test_a_script_that_starts_an_interpreter_is_none(elrun, script, tmp_path):
    """It may do more than that, so it is executed for each worker."""
    wrapper = tmp_path / "python3"
    wrapper.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    code, out, err = elrun(
        "--standalone", *PRELOAD, script(TELL_IMPORTER), env={"PYTHON_EXEC": str(wrapper)}
    ).finish()

    assert (0, True) == (code, out.startswith("executed"))
    assert "is not a Python interpreter itself; workers start without" in err


def test_what_a_module_prints_is_seen_once(elrun, script, tmp_path):
    """On standard error, as standard output belongs to the workers."""
    (tmp_path / "chatty.py").write_text("print('hello')")
    _, out, err = elrun(
        *("--standalone", "--nproc-per-node", 2, "--preload", "chatty"),
        script("import chatty"),
        env=ONE_THREAD,
    ).finish()

    assert ("", "hello\n") == (out, err)


def test_a_stop_does_not_wait_for_an_import(elrun, script, tmp_path):
    """A signal ends the job while modules are still being imported."""
    os.mkfifo(tmp_path / "never")
    (tmp_path / "slow.py").write_text("import sys; sys.stderr.write('slow\\n'); open('never')")
    job = elrun("--standalone", "--preload", "slow", script("print('started')"))
    assert "slow\n" == job.process.stderr.readline()

    job.signal(signal.SIGTERM)

    assert (143, "") == job.finish()[:2]


def test_a_line_names_the_suspended_process_that_holds_up_the_start(elrun, script, tmp_path):
    """Else a job that was to start would say nothing for five minutes."""
    (tmp_path / "held.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    job = elrun("--standalone", "--preload", "held", script("import held"), env=ONE_THREAD)
    line = job.process.stderr.readline()
    (pid,) = re.findall(r"process (\d+) has not finished importing held \(--preload\)", line)
    os.kill(int(pid), signal.SIGCONT)

    assert (0, "", "") == job.finish()
    assert "workers do not start yet" in line
    assert "; it is stopped (SIGSTOP); they start without that in 2" in line


def test_nothing_outlives_an_agent_that_is_killed(elrun, script, request):
    """Workers, what they started, and the process that they were forked from."""
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    program = script(
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0: sys.stdout.write('ready\\n')\n"
        "signal.pause()\n"
    )
    job = elrun("--standalone", *PRELOAD, program)
    job.wait_for_line("ready")
    ends = [os.pidfd_open(pid) for pid in conftest.processes_with(elrun.token)]
    assert len(ends) >= 6  # agent, guardian, preloading process, and three of the script's

    job.signal(signal.SIGKILL)

    for end in ends:  # readable once its process has ended; the test's time-out bounds the wait
        select.select([end], [], [])
        os.close(end)


def test_what_a_worker_leaves_behind_is_stopped_with_it(elrun, script):
    """A process that only forked, and has lost its parent, carries the worker's mark."""
    program = script(
        "import os, signal, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        os.setsid(); sys.stdout.write('left\\n'); signal.pause()\n"
        "    os._exit(0)\n"
        "os.wait(); signal.pause()\n"
    )
    job = elrun("--standalone", *PRELOAD, program)
    job.wait_for_line("left")

    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]


def test_gloo_workers_are_forked_with_torch_loaded(elrun, script):
    """They form a group in each attempt, and a failure restarts them."""
    program = script(
        "import os, sys, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo')\n"
        "one = torch.ones(1)\n"
        "dist.all_reduce(one)\n"
        "sys.stdout.write(f'sum {int(one)}\\n')\n"
        "dist.barrier()\n"  # both have said so
        "if os.environ['TORCHELASTIC_RESTART_COUNT'] < '2' and dist.get_rank() == 0: os._exit(1)\n"
        "dist.barrier()\n"
        "dist.destroy_process_group()\n"
    )
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 2, "--preload", "torch")
    code, out, err = elrun(*options, program).finish()

    assert (0, ["sum 2"] * 6) == (code, out.splitlines())
    assert "preloading" not in err


FUNCTION = """
import os, sys
import preloadable
from elrun import LaunchConfig, elastic_launch

def work(factor, queue):
    queue.put(os.environ["RANK"])
    return preloadable.IMPORTED_BY != os.getpid(), int(os.environ["RANK"]) * factor, __name__

if __name__ == "__main__":
    import multiprocessing
    queue = multiprocessing.get_context("spawn").Queue()
    method = sys.argv[1]
    config = LaunchConfig(1, 1, 2, preload=["preloadable"], start_method=method)
    print(elastic_launch(config, work)(3, queue))
    print(sorted([queue.get(), queue.get()]))
"""


def test_functions_run_in_forked_workers(elrun, script):
    """With arguments that bring descriptors along; values come back."""
    code, out, err = elrun("spawn", command=(script(FUNCTION),)).finish()

    assert (0, "") == (code, err)
    expected = {0: (True, 0, "__mp_main__"), 1: (True, 3, "__mp_main__")}
    assert f"{expected}\n['0', '1']\n" == out


def test_other_start_methods_have_a_way_of_their_own(elrun, script):
    """Their workers are copies of the agent or of multiprocessing's server."""
    code, out, err = elrun("fork", command=(script(FUNCTION),)).finish()

    assert 0 == code
    assert "start_method='fork' has a way of its own; workers start without" in err
    assert "['0', '1']" in out


def test_the_preloading_process_is_fresh_and_holds_nothing(elrun, script):
    """No descriptor of the job, no standard stream, and a name of its own."""
    program = script(
        "import os, preloadable, sys\n"
        "folder = f'/proc/{preloadable.IMPORTED_BY}'\n"
        "fds = sorted(os.readlink(f'{folder}/fd/{fd}') for fd in os.listdir(f'{folder}/fd'))\n"
        "print(fds[:-1], fds[-1].split(':')[0], open(f'{folder}/comm').read())\n"
    )
    _, out, _ = elrun("--standalone", *PRELOAD, program).finish()

    assert "['/dev/null', '/dev/null', '/dev/null'] socket elrun-preload\n\n" == out
