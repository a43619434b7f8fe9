"""Workers of the next attempt that wait while this one runs: used by a restart, and never left."""

import os
import re
import select
import signal
from pathlib import Path

import pytest
from preload_kit import PRELOAD
from test_preloaded_jobs import SEES, tidy

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("preloadable")]

TWO = ("--standalone", "--nproc-per-node", 2)
WAITING = """
import os, sys, time

def waiting():
    '''Return the agent's children that wait to be workers.'''
    agent, found = os.getppid(), []
    for pid in open(f"/proc/{agent}/task/{agent}/children").read().split():
        try:
            with open(f"/proc/{pid}/comm") as file:
                if file.read() == "elrun-waiting\\n":
                    found.append(int(pid))
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has ended meanwhile
    return found

def await_waiting(count=2):
    while len(waiting()) < count:
        time.sleep(0.02)
    return waiting()

attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
"""


def restarted(text):
    """Return a script that is the text from its second attempt on; before, it waits, and fails."""
    return (
        WAITING
        + "if '--waits' in sys.argv: await_waiting(1)\n"
        + f"with open('new', 'w') as file: file.write({text!r})\n"
        + "os.replace('new', __file__)\n"
        + "os._exit(1)\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("arguments", "main", "path", "environment", "umask", "signals", "streams"),
        *("descriptors", "session", "threads", "pool", "end", "exception", "signal", "memory"),
        *("handler", "hooks", "imported", "process", "interpreter"),
    ],
)
def test_a_worker_that_has_waited_sees_and_shows_the_same(elrun, script, name):
    """As one that was executed for the same attempt."""
    ends = []
    for how, waits in (((), "--quick"), (PRELOAD, "--waits")):
        path = script(restarted(f"import os, sys\n{SEES[name]}"))
        options = ("--standalone", "--max-restarts", 1, *how)
        code, out, err = elrun(*options, path, waits, "ü").finish()
        err = re.sub(r"elrun: .* restarting all workers .*\n", "", err, count=1)
        ends.append(tidy((code, out.replace(waits, "…"), err.replace(waits, "…"))))

    assert ends[0] == ends[1]


def test_each_restart_takes_those_that_wait(elrun, script):
    """With their own ranks; the last attempt, which no restart may follow, has no successors."""
    program = script(
        WAITING
        + "rank = os.environ['RANK']\n"
        + "sys.stdout.write(f'{attempt} {rank} {os.getpid()} {sys.argv[1:]}\\n')\n"
        + "sys.stdout.flush()\n"
        + "if attempt < 2 and rank == '0':\n"
        + "    sys.stdout.write(f'next {attempt} {sorted(await_waiting())}\\n'); sys.exit(1)\n"
        + "if attempt < 2: time.sleep(1000)\n"
        + "time.sleep(2.5)\n"
        + "sys.stdout.write(f'last {waiting()}\\n')\n"
    )

    code, out, err = elrun(*TWO, "--max-restarts", 2, *PRELOAD, program, "${local_rank}").finish()

    lines = out.splitlines()
    assert 0 == code, err
    for attempt in (1, 2):
        pids = {line.split()[1]: int(line.split()[2]) for line in lines if line[0] == f"{attempt}"}
        assert f"next {attempt - 1} {sorted(pids.values())}" in lines
        assert {f"{attempt} {rank} {pid} ['{rank}']" for rank, pid in pids.items()} <= {*lines}
    assert 2 == lines.count("last []")


def test_without_restarts_nobody_waits(elrun, script):
    """And nothing is forked for nobody."""
    program = script(WAITING + "time.sleep(2.5); print(waiting())")

    assert (0, "[]\n") == elrun("--standalone", *PRELOAD, program).finish()[:2]


def test_a_waiting_worker_that_was_killed_is_replaced(elrun, script):
    """By one that is forked when it is needed."""
    program = script(
        WAITING
        + "if attempt == 0:\n"
        + "    os.kill(await_waiting()[0], 9); sys.exit(1)\n"
        + "sys.stdout.write(f'worked {os.environ[\"RANK\"]}\\n')\n"
    )

    code, out, err = elrun(*TWO, "--max-restarts", 1, *PRELOAD, program).finish()

    assert (0, ["worked 0", "worked 1"]) == (code, sorted(out.splitlines())), err


def test_functions_wait_as_well(elrun, script):
    """Their arguments and their results go through descriptors that each attempt opens anew."""
    program = script(
        WAITING
        + "import preloadable\n"
        + "from elrun import LaunchConfig, elastic_launch\n"
        + "def work(factor):\n"
        + "    attempt = int(os.environ['TORCHELASTIC_RESTART_COUNT'])\n"
        + "    if attempt == 0:\n"
        + "        open('pids', 'a').write(f'{await_waiting()}\\n')\n"
        + "        raise ValueError\n"
        + "    rank = int(os.environ['RANK'])\n"
        + "    return rank * factor, str(os.getpid()) in open('pids').read()\n"
        + "if __name__ == '__main__':\n"
        + "    config = LaunchConfig(1, 1, 2, preload=['preloadable'], max_restarts=1)\n"
        + "    print(elastic_launch(config, work)(3))\n"
    ).with_name("script.py")

    code, out, err = elrun(command=(program,), env={"TORCHELASTIC_RESTART_COUNT": "0"}).finish()

    assert (0, "{0: (0, True), 1: (3, True)}\n") == (code, out), err


IDLE = (
    WAITING
    + """
if os.environ["RANK"] == "0":
    sys.stdout.write(f"waiting {' '.join(map(str, await_waiting()))}\\n"); sys.stdout.flush()
time.sleep(1000)
"""
)


def by_name(agent):
    """Return the agent's children by the names that ps shows."""
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return {Path(f"/proc/{pid}/comm").read_text().strip(): int(pid) for pid in children}


@pytest.mark.parametrize(
    "victims",
    [
        ("agent",),
        ("elrun-preload", "agent"),
        ("elrun-guardian", "agent"),
        ("elrun-preload", "elrun-guardian", "agent"),
    ],
)
def test_none_waits_for_an_agent_that_was_killed(elrun, script, request, victims):
    """Whatever else was killed before: the kernel, the guardian, and the line each end it."""
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    job = elrun(*TWO, "--max-restarts", 1, *PRELOAD, script(IDLE))
    job.wait_for_line("waiting")
    pids = by_name(job.process.pid) | {"agent": job.process.pid}
    ends = [os.pidfd_open(pid) for pid in conftest.processes_with(elrun.token)]
    assert len(ends) >= 7  # agent, guardian, preloading process, two workers, two that wait

    for victim in victims:
        os.kill(pids[victim], signal.SIGKILL)

    for end in ends:  # readable once its process has ended; the test's time-out bounds the wait
        select.select([end], [], [])
        os.close(end)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_leaves_none(elrun, script, number):
    """The fixture looks for what is left."""
    job = elrun(*TWO, "--max-restarts", 1, *PRELOAD, script(IDLE))
    pids = [int(pid) for pid in job.wait_for_line("waiting").split()[1:]]

    job.signal(number)

    assert 128 + number == job.finish()[0]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


ENDS = (
    WAITING
    + """
if os.environ["RANK"] == "0" and attempt == 0:
    sys.stdout.write(f"waiting {' '.join(map(str, await_waiting()))}\\n"); sys.stdout.flush()
    open("there", "w").close()
while not os.path.exists("there"): time.sleep(0.02)
if sys.argv[1] == "idle": time.sleep(1000)
sys.exit(int(sys.argv[1]))
"""
)


@pytest.mark.parametrize(
    ("options", "how", "act", "code"),
    [
        ((), "0", None, 0),
        ((), "1", None, 1),  # the restart is spent as well
        (("--timeout", 8), "idle", None, 124),
        ((), "idle", "stop", 143),
        ((), "idle", signal.SIGHUP, 128 + signal.SIGHUP),
        ((), "idle", signal.SIGQUIT, 128 + signal.SIGQUIT),
        (("--preempt-signal", "USR1"), "idle", signal.SIGUSR1, 75),
        ((), "idle", "elrun-guardian", 143),
        ((), "idle", "elrun-preload", 143),
        ((), "idle", "elrun-waiting", 143),
    ],
)
def test_no_kind_of_end_leaves_any(elrun, script, options, how, act, code):
    """A success, spent restarts, time that is up, a stop, signals; also after a helper's death."""
    runs = {"ELRUN_RUN_DIR": str(script("", "unused").with_name("runs"))}
    options = (*TWO, "--max-restarts", 1, *options, *PRELOAD)
    job = elrun(*options, script(ENDS), how, env=runs)
    job.wait_for_line("waiting")
    if act == "stop":
        elrun("stop", env=runs).finish()
    elif isinstance(act, str):
        os.kill(by_name(job.process.pid)[act], signal.SIGKILL)
        job.signal(signal.SIGTERM)
    elif act is not None:
        job.signal(act)

    found, _, err = job.finish()

    assert code == found, err  # the fixture looks for what is left


def test_a_preloading_process_that_has_died_takes_nobody_along(elrun, script):
    """Those that wait already are used; for the attempt after that there is none to fork from."""
    program = script(
        WAITING
        + "import preloadable, signal\n"
        + "if attempt == 0:\n"
        + "    pids = await_waiting(1)\n"
        + "    os.kill(preloadable.IMPORTED_BY, signal.SIGKILL)\n"
        + "    open('pids', 'w').write(str(pids)); sys.exit(1)\n"
        + "sys.stdout.write(f'{attempt} {str(os.getpid()) in open(\"pids\").read()}\\n')\n"
        + "sys.exit(attempt == 1)\n"
    )

    code, out, err = elrun("--standalone", "--max-restarts", 2, *PRELOAD, program).finish()

    assert (0, ["1 True", "2 False"]) == (code, out.splitlines()), err
    assert 1 == err.count("workers start without")


def test_a_preloading_process_that_does_not_answer_holds_nobody_up(elrun, script):
    """The agent's loop goes on while a fork is asked for: a signal ends the job at once."""
    program = script(
        "import os, preloadable, signal, sys, time\n"
        "os.kill(preloadable.IMPORTED_BY, signal.SIGSTOP)\n"
        "time.sleep(2.5)\n"
        "sys.stdout.write('asked\\n'); sys.stdout.flush()\n"
        "time.sleep(1000)\n"
    )
    job = elrun("--standalone", "--max-restarts", 1, *PRELOAD, program)
    job.wait_for_line("asked")

    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    assert (143, False) == (code, "does not answer" in err)


def test_restarts_in_a_row_succeed(elrun, script):
    """At whatever moment of the forking the attempt dies."""
    program = script(
        WAITING
        + "deadline = time.monotonic() + 1.3 + attempt % 7 * 0.1\n"
        + "while time.monotonic() < deadline and attempt < 10: time.sleep(0.005)\n"
        + "if attempt < 10 and os.environ['RANK'] == '0': sys.exit(1)\n"
        + "if attempt < 10: time.sleep(1000)\n"
        + "sys.stdout.write('end\\n')\n"
    )

    code, out, err = elrun(*TWO, "--max-restarts", 10, *PRELOAD, program).finish()

    assert (0, "end\nend\n") == (code, out), err
