"""Scripts that ask whether they are to leave, and handle no signal."""

import os
import signal

import pytest

pytestmark = pytest.mark.integration

# Without a handler; it says whether its child process, which asks as well, was told.
ASKS = """
import os, sys, threading, time
from multiprocessing import get_context
import elrun

def ask():
    while not elrun.preemption().pending:
        time.sleep(0.02)
    assert 0 < elrun.preemption().seconds_left <= 30

def main():
    elrun.preemption()  # from here on the signals end nothing
    child = get_context(sys.argv[1]).Process(target=ask)
    child.start()
    thread = threading.Thread(target=ask)
    thread.start()
    sys.stdout.write(f"ready {os.getpid()} {os.getppid()} {child.pid}\\n")
    if sys.argv[2] == "main":
        ask()
    thread.join()
    child.join()
    sys.stdout.write(f"saved {os.environ['RANK']} {child.exitcode}\\n")

if __name__ == "__main__":
    main()
"""
LOADS = """
import os, sys, time, torch
import elrun

class Items(torch.utils.data.Dataset):
    def __len__(self):
        return 1000000

    def __getitem__(self, index):
        time.sleep(0.01)
        return elrun.preemption().pending

told = 0
for batch in torch.utils.data.DataLoader(Items(), num_workers=2, batch_size=2):
    if not told:
        told = 1
        sys.stdout.write(f"ready {os.getpid()}\\n")
    if batch.any():
        assert elrun.preemption().pending
        sys.stdout.write(f"saved {os.environ['RANK']} {elrun.preemption().seconds_left > 0}\\n")
        break
"""
FUNCTION = """
import sys, time
import elrun

def train():
    sys.stdout.write("ready\\n")
    while not elrun.preemption().pending:
        time.sleep(0.02)
    sys.stdout.write("saved\\n")

if __name__ == "__main__":
    config = elrun.LaunchConfig(min_nodes=1, max_nodes=1, nproc_per_node=1, preempt_signal="USR1")
    try:
        elrun.elastic_launch(config, train)()
    except Exception as error:
        sys.stdout.write(f"{error}\\n")
"""
FORKED = """
import sys, time
import elrun

answer = elrun.preemption()  # as where the function was tried before

def train():
    sys.stdout.write("ready\\n")
    while not answer.pending:
        time.sleep(0.02)
    sys.stdout.write(f"saved {elrun.preemption().pending}\\n")

config = elrun.LaunchConfig(1, 1, 1, preempt_signal="USR1", start_method="fork")
try:
    elrun.elastic_launch(config, train)()
except Exception as error:
    sys.stdout.write(f"{error}\\n")
"""
PRELOADED = """
import elrun

answer = elrun.preemption()
"""
USES_PRELOADED = """
import os, sys, time
from asking import answer

sys.stdout.write(f"ready {os.getpid()} {os.getppid()}\\n")
while not answer.pending:
    time.sleep(0.02)
sys.stdout.write("saved\\n")
"""
SAVES_AT_SIGTERM = """
import os, signal, sys, time
import elrun

def save(*_):
    time.sleep(0.2)
    sys.stdout.write("saved\\n")
    sys.exit(0)

elrun.preemption()
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    sys.exit(0)
if os.environ["RANK"] == "0":
    while not os.path.exists("asked"):
        time.sleep(0.02)
    sys.exit(3)
signal.signal(signal.SIGTERM, save)
open("asked", "w").close()
time.sleep(1000)
"""
HANGS_AFTER_ONE_FAILED = """
import os, sys, time
import elrun

elrun.preemption()
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "1":
    sys.exit(0)
if os.environ["RANK"] == "0":
    while not os.path.exists("asked"):
        time.sleep(0.02)
    sys.exit(3)
open("asked", "w").close()
time.sleep(1000)
"""


def saved_in(out):
    return sorted(line for line in out.splitlines() if line.startswith("saved"))


@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["plain", "preloaded"])
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
@pytest.mark.parametrize(("method", "who"), [("fork", "main"), ("spawn", "thread")])
def test_a_script_asks_from_anywhere_and_saves(elrun, script, options, name, method, who):
    """In the main thread, in another one, in child processes; preloaded or not."""
    options = ("--nproc-per-node", 2, "--preempt-signal", name, *options)
    job = elrun(*options, script(ASKS), method, who)
    for _ in range(2):
        job.wait_for_line("ready")
    job.signal(signal.Signals[name])

    code, out, err = job.finish()

    assert (75, ["saved 0 0", "saved 1 0"]) == (code, saved_in(out)), err
    assert "did not leave" not in err


@pytest.mark.parametrize("own", ["", "signal.signal(signal.SIGTERM, print); "])
def test_a_signal_that_comes_while_python_ends_changes_no_exit_code(elrun, script, own):
    """Python puts default actions back before the process is gone; a script's own handler stays."""
    program = script(
        "import atexit, signal, sys\n"
        "def show():\n"
        "    handler = signal.getsignal(signal.SIGTERM)\n"
        "    sys.stdout.write(getattr(handler, 'name', 'own') + '\\n')\n"
        "atexit.register(show)\n"  # the first to be registered is the last to be called
        f"import elrun; elrun.preemption(); {own}\n"
    )

    code, out, err = elrun("--preempt-signal", "SIGTERM", program).finish()

    assert (0, "own\n" if own else "SIG_IGN\n") == (code, out), err


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_scheduler_that_signals_all_processes_ends_none_that_asks(elrun, script, name):
    """SLURM does; a forked process of the worker's lives as well, but at SIGTERM."""
    job = elrun("--preempt-signal", name, script(ASKS), "fork", "main")
    worker, agent, child = map(int, job.wait_for_line("ready").split()[1:])
    others = {worker} if name == "SIGTERM" else {worker, child}
    for pid in {agent, *others, *children_of(agent)}:
        os.kill(pid, signal.Signals[name])

    code, out, err = job.finish()

    assert (75, ["saved 0 0"]) == (code, saved_in(out)), err


def test_the_processes_of_a_data_loader_are_told(elrun, script):
    """They have their worker's environment."""
    job = elrun("--preempt-signal", "USR1", script(LOADS))
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    assert (75, ["saved 0 True"]) == (code, saved_in(out)), err


def test_a_function_asks_as_well(elrun, script):
    """Its program has named the signal."""
    job = elrun(command=(script(FUNCTION),))
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    host = os.uname().nodename
    assert (0, ["ready", "saved", f"preempted by SIGUSR1 on {host}"]) == (code, out.splitlines()), (
        err
    )


@pytest.mark.parametrize("name", ["USR1", "TERM"])
def test_a_worker_that_asks_is_stopped_for_a_restart(elrun, script, name):
    """It survives the job's signal only where that means to leave."""
    options = ("--nproc-per-node", 2, "--max-restarts", 1, "--preempt-signal", name)
    job = elrun(*options, "--shutdown-timeout", 600, script(HANGS_AFTER_ONE_FAILED))

    code, _, err = job.finish()

    assert 0 == code, err


def test_a_handler_that_a_worker_sets_after_it_has_asked_saves_before_a_restart(elrun, script):
    """Though the job's signal is SIGTERM: only workers without a handler are killed at once."""
    options = ("--nproc-per-node", 2, "--max-restarts", 1, "--preempt-signal", "USR1,TERM")
    job = elrun(*options, script(SAVES_AT_SIGTERM))

    code, out, err = job.finish()

    assert (0, ["saved"]) == (code, saved_in(out)), err


def test_a_function_that_is_forked_from_a_program_that_has_asked_is_told(elrun, script):
    """What the program was told, outside a job, holds no more in its worker."""
    job = elrun(command=(script(FORKED),))
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)

    code, out, err = job.finish()

    host = os.uname().nodename
    assert (0, ["ready", "saved True", f"preempted by SIGUSR1 on {host}"]) == (
        code,
        out.splitlines(),
    ), err


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_a_worker_whose_preloaded_module_has_asked_is_told(elrun, script, tmp_path, name):
    """It survives the signal as well, which SLURM sends to it, too."""
    (tmp_path / "asking.py").write_text(PRELOADED)
    job = elrun("--preload", "asking", "--preempt-signal", name, script(USES_PRELOADED))
    worker, agent = map(int, job.wait_for_line("ready").split()[1:])
    for pid in (agent, worker):
        os.kill(pid, signal.Signals[name])

    code, out, err = job.finish()

    assert (75, ["saved"]) == (code, saved_in(out)), err


def test_a_signal_that_is_only_passed_on_leaves_nothing_pending(elrun, script, tmp_path):
    """The job goes on, with a worker that asks and handles nothing."""
    text = ASKS.replace("while not elrun", "while os.path.exists('on') and not elrun")
    text = text.replace("    assert 0 <", "    assert not elrun.preemption().pending or 0 <")
    (tmp_path / "on").touch()
    job = elrun("--forward-signals", "USR1", script(text), "fork", "main")
    job.wait_for_line("ready")
    job.signal(signal.SIGUSR1)
    assert next(line for line in job.process.stderr if "SIGUSR1 is passed on to 1 worker" in line)
    (tmp_path / "on").unlink()

    code, out, err = job.finish()

    assert (0, ["saved 0 0"]) == (code, saved_in(out)), err


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]
