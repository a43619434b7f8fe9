"""``--preload auto``: the next attempt has what the first was seen to import, or starts plainly."""

import os
import shutil
import signal
import subprocess

import pytest
from test_preloaded_jobs import SEES, tidy
from test_waiting_workers import TWO, WAITING, by_name

AUTO = ("--max-restarts", 1, "--preload", "auto")
BEGIN = WAITING + "import sys; sys.stdout.reconfigure(line_buffering=False)\n"
# An import that takes so long in a worker is learnt, however slow the machine is.
MODULE = """
import os, time
IMPORTED_BY = os.getpid()
POLICY = os.sched_getscheduler(0)
in_server = open("/proc/self/comm").read() == "elrun-preload\\n"
time.sleep(0.06)
"""
IMPORTING = "if in_server: open('importing', 'w').close(); time.sleep(1000)"
SHOW = """
def show(*modules):
    '''Print whether each module was there before this process.'''
    was_there = [module.IMPORTED_BY != os.getpid() for module in modules]
    sys.stdout.write(f"{attempt} {os.environ['RANK']} {was_there}\\n"); sys.stdout.flush()

def fail_once():
    '''Fail in the first attempt, when the workers of the next are there.'''
    if attempt == 0:
        await_waiting(int(os.environ["WORLD_SIZE"])); sys.exit(1)
"""


@pytest.fixture(name="installed")
def _installed(tmp_path):
    """Write modules that count as installed; return the environment in which they are found."""

    def write(**texts):
        folder = tmp_path / "site-packages"
        folder.mkdir(exist_ok=True)
        for name, text in texts.items():
            (folder / f"{name}.py").write_text(MODULE + text)
        return {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}

    return write


def test_the_next_attempt_has_what_the_first_has_imported(elrun, script, installed):
    """With a priority of its own, and with nothing of the script, which waits for its turn."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "told = os.sched_getscheduler(0) == os.SCHED_OTHER, '__main__' in vars(heavy)\n"
        "sys.stdout.write('%s %s\\n' % told)\n"
        "fail_once()\n"
    )

    code, out, err = elrun(*TWO, *AUTO, program, env=installed(heavy="")).finish()

    expected = ["0 0 [False]", "0 1 [False]", "1 0 [True]", "1 1 [True]", *["True False"] * 4]
    assert (0, expected) == (
        code,
        sorted(out.splitlines()),
    ), err


def test_a_module_that_is_imported_late_is_learnt_as_well(elrun, script, installed):
    """Also behind the first: those that wait are replaced by others that have both."""
    program = script(
        BEGIN + SHOW + "import first\n"
        "if attempt == 0: before = await_waiting(1)\n"
        "import second\nshow(first, second)\n"
        "if attempt == 0:\n"
        "    while not waiting() or waiting() == before: time.sleep(0.02)\n"
        "    sys.exit(1)\n"
    )

    job = elrun("--standalone", *AUTO, program, env=installed(first="", second=""))
    code, out, err = job.finish()

    assert (0, "0 0 [False, False]\n1 0 [True, True]\n") == (code, out), err


def test_what_files_hold_is_written_at_the_end(elrun, script, installed, tmp_path):
    """Files of the script's, and those that it has put into a module that was learnt."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\nfail_once()\n"
        "own = open('own', 'w'); own.write('kept')\n"
        "heavy.log = open('module', 'w'); heavy.log.write('kept')\n"
    )

    code, out, err = elrun("--standalone", *AUTO, program, env=installed(heavy="")).finish()

    assert (0, "0 0 [False]\n1 0 [True]\n") == (code, out), err
    assert ["kept", "kept"] == [(tmp_path / name).read_text() for name in ("own", "module")]


def test_names_are_imported_at_the_start_and_the_rest_is_learnt(elrun, script, installed):
    """``--preload named,auto``: the first attempt waits for what is named, for nothing else."""
    program = script(BEGIN + SHOW + "import named, learnt\nshow(named, learnt)\nfail_once()\n")

    job = elrun(
        *("--standalone", "--max-restarts", 1, "--preload", "named,auto", program),
        env=installed(named="", learnt=""),
    )
    code, out, err = job.finish()

    assert (0, "0 0 [True, False]\n1 0 [True, True]\n") == (code, out), err


@pytest.mark.parametrize(
    "text",
    [
        "RANK = os.environ.get('RANK')",
        "RANK = os.environ['LOCAL_RANK']",
        "KNOWN = 'MASTER_PORT' in os.environ",
        "ALL = dict(os.environ)",
        "KEY = os.environb.get(b'TORCHELASTIC_RESTART_COUNT')",
        "IS_ELASTIC = any(name.startswith('TORCHELASTIC_') for name in os.environ)",
    ],
)
def test_a_module_that_asks_for_the_rank_is_left_to_the_worker(elrun, script, installed, text):
    """And so is what imports it; what it imports itself is learnt in its stead."""
    program = script(
        BEGIN + SHOW + "import outer, asking, deep\nshow(outer, asking, deep)\nfail_once()\n"
    )
    modules = installed(outer="import asking", asking=f"import deep\n{text}", deep="")

    code, out, err = elrun("--standalone", *AUTO, program, env=modules).finish()

    assert (0, "0 0 [False, False, False]\n1 0 [False, False, True]\n") == (code, out), err


def test_a_module_that_can_not_be_looked_at_is_imported_as_ever(elrun, script, installed):
    """A library may put anything in its place; what that raises is no fault of the import."""
    odd = (
        "import sys\nclass Odd:\n"
        "    def __getattr__(self, name): raise ImportError(name)\n"
        "sys.modules[__name__] = Odd()\n"
    )
    program = script(BEGIN + SHOW + "import odd, heavy\nshow(heavy)\nfail_once()\n")

    code, out, err = elrun(
        "--standalone", *AUTO, program, env=installed(odd=odd, heavy="")
    ).finish()

    assert (0, "0 0 [False]\n1 0 [True]\n") == (code, out), err


def test_a_module_that_imports_one_that_asked_before_is_refused(elrun, script, installed):
    """It was there already when the other was imported; in the server it would ask in vain."""
    program = script(
        BEGIN + SHOW + "import asking, other\n"
        "show(asking, other)\n"
        "if attempt == 0: time.sleep(3); sys.exit(1)\n"
    )
    modules = installed(asking="RANK = os.environ.get('RANK')", other="import asking")

    code, out, err = elrun("--standalone", *AUTO, program, env=modules).finish()

    assert (0, "0 0 [False, False]\n1 0 [False, False]\n") == (code, out), err
    assert 1 == err.count("preloading other: asking")
    assert 1 == err.count("workers start without")


def test_the_user_s_own_modules_are_left_to_the_worker(elrun, script, installed):
    """They may be changed between two attempts; what they import is learnt."""
    script(MODULE + "import heavy", "own.py")
    program = script(BEGIN + SHOW + "import own, heavy\nshow(own, heavy)\nfail_once()\n")

    code, out, err = elrun("--standalone", *AUTO, program, env=installed(heavy="")).finish()

    assert (0, "0 0 [False, False]\n1 0 [False, True]\n") == (code, out), err


def test_a_module_on_a_path_of_the_script_s_is_left_to_the_worker(elrun, script, installed):
    """Another process would not find it there, or find another one."""
    env = installed(heavy="", far="import heavy")
    folder = os.path.join(env["PYTHONPATH"], "more", "site-packages")
    os.makedirs(folder)
    shutil.move(os.path.join(env["PYTHONPATH"], "far.py"), folder)
    program = script(
        BEGIN + SHOW + f"sys.path.insert(0, {folder!r})\n"
        "import far, heavy\nshow(far, heavy)\nfail_once()\n"
    )

    code, out, err = elrun("--standalone", *AUTO, program, env=env).finish()

    assert (0, "0 0 [False, False]\n1 0 [False, True]\n") == (code, out), err


def test_only_what_all_ranks_import_is_learnt(elrun, script, installed):
    """Another rank must not get what it never asked for."""
    program = script(
        BEGIN + SHOW + "import common\n"
        "if os.environ['RANK'] == '0': import single\n"
        "show(common, *([single] if os.environ['RANK'] == '0' else []))\nfail_once()\n"
    )

    code, out, err = elrun(*TWO, *AUTO, program, env=installed(common="", single="")).finish()

    assert 0 == code, err
    assert ["0 0 [False, False]", "0 1 [False]", "1 0 [True, False]", "1 1 [True]"] == sorted(
        out.splitlines()
    )


def test_what_the_script_sets_before_an_import_is_set_in_the_server(elrun, script, installed):
    """A library reads its settings while it is imported; the worker sets them itself again."""
    program = script(
        BEGIN + SHOW + "print(os.environ.get('MODE'))\n"
        "os.environ['MODE'] = 'fast'; del os.environ['OTHER']\n"
        "import heavy\nprint(heavy.MODE, heavy.OTHER)\nshow(heavy)\nfail_once()\n"
    )
    env = installed(heavy="MODE, OTHER = os.environ.get('MODE'), os.environ.get('OTHER')")

    job = elrun("--standalone", *AUTO, program, env={**env, "OTHER": "1"})
    code, out, err = job.finish()

    each = "None\nfast None\n{} 0 [{}]\n"
    assert (0, each.format(0, False) + each.format(1, True)) == (code, out), err


def test_what_differs_from_rank_to_rank_is_not_learnt(elrun, script, installed):
    """As where each script chooses its device before it imports."""
    program = script(
        BEGIN + SHOW + "import common\nos.environ['DEVICE'] = os.environ['LOCAL_RANK']\n"
        "import heavy\nshow(common, heavy)\nfail_once()\n"
    )

    code, out, err = elrun(*TWO, *AUTO, program, env=installed(common="", heavy="")).finish()

    assert 0 == code, err
    assert [f"1 {rank} [True, False]" for rank in (0, 1)] == sorted(out.splitlines())[2:]


@pytest.mark.parametrize("how", ["auto", "heavy"])
def test_a_variable_that_a_module_sets_is_set_in_the_worker(elrun, script, installed, how):
    """As if the worker had imported the module."""
    program = script(
        BEGIN + "import heavy\nprint(os.environ['MADE'], flush=True)\n"
        "os.system('echo $MADE')\n"
        "if attempt == 0: await_waiting(1); sys.exit(1)\n"
    )
    options = ("--standalone", "--max-restarts", 1, "--preload", how)

    job = elrun(*options, program, env=installed(heavy="os.environ['MADE'] = 'yes'"))
    code, out, err = job.finish()

    assert (0, "yes\n" * 4) == (code, out), err


def test_a_variable_of_the_worker_s_own_stays(elrun, script, installed):
    """Whatever a module has put in its place in the process that imported it."""
    program = script("import os, heavy; print(os.environ['RANK'])")
    env = installed(heavy="os.environ['RANK'] = '9'")

    executed, forked = (
        elrun("--standalone", *how, program, env=env).finish()
        for how in ((), ("--preload", "heavy"))
    )

    assert ((0, "9\n", ""), (0, "0\n", "")) == (executed, forked)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("if in_server: raise RuntimeError('not here')", "(RuntimeError: not here)"),
        ("if in_server: raise SystemExit", "(SystemExit: )"),
        ("if in_server: os._exit(3)", "ended (exit code 3) while it imported"),
        (
            "import threading; threading.Thread(target=time.sleep, args=(9,), daemon=True).start()",
            "started threads",
        ),
        ("import socket; S = socket.socket()", "opened socket:"),
        ("F = open('left', 'w')", "/left, which all"),
        ("import subprocess; P = subprocess.Popen(['sleep', '7'])", "started a process"),
    ],
)
def test_what_can_t_be_shared_is_refused_in_one_line(elrun, script, installed, text, reason):
    """And the next attempt starts as ever."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "if 'P' in vars(heavy): heavy.P.kill(); heavy.P.wait()\n"
        "if attempt == 0:\n"
        "    while not os.path.exists('known'): time.sleep(0.02)\n"
        "    sys.exit(1)\n"
    )
    job = elrun("--standalone", *AUTO, program, env=installed(heavy=text))
    line = next(line for line in job.process.stderr if "workers start without" in line)
    script("", "known")
    code, out, err = job.finish()

    assert reason in line, line
    assert (0, "0 0 [False]\n1 0 [False]\n", 0) == (code, out, err.count("preloading")), err


def test_an_attempt_that_ends_before_anything_is_learnt_is_followed_at_once(elrun, script):
    """There is nothing to wait for."""
    program = script("import os, sys; sys.exit(os.environ['TORCHELASTIC_RESTART_COUNT'] == '0')")

    assert (0, "") == elrun("--standalone", *AUTO, program).finish()[:2]


def test_an_attempt_that_left_no_cpu_is_followed_by_the_import(elrun, script, installed):
    """Nothing was imported behind it; the next one waits for that as long as a worker took."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "if attempt == 0:\n"
        "    time.sleep(6)\n"
        "    open('over', 'w').close(); sys.exit(1)\n"
    )
    starved = (
        "while in_server and not os.path.exists('over'): time.sleep(0.01)\n"
        "time.sleep(0 if in_server else 5)\n"
    )

    job = elrun("--standalone", *AUTO, program, env=installed(heavy=starved))
    code, out, err = job.finish()

    assert (0, "0 0 [False]\n1 0 [True]\n") == (code, out), err


WAITS_FOR_ITS_TURN = """
if in_server:
    open('importing', 'w').close()
    while os.sched_getscheduler(0) == os.SCHED_IDLE: time.sleep(0.02)
    open('hurries', 'w').close()
"""


def test_an_import_has_its_priority_while_workers_still_end(elrun, script, installed):
    """The next attempt waits for both: here a worker saves its state until the import goes on."""
    program = script(
        BEGIN + SHOW + "import heavy, signal\n"
        "def save(*_):\n"
        "    while not os.path.exists('hurries'): time.sleep(0.02)\n"
        "    sys.stdout.write('saved\\n'); sys.stdout.flush(); sys.exit()\n"
        "if attempt == 0:\n"
        "    signal.signal(signal.SIGTERM, save)\n"
        "    while not os.path.exists('importing'): time.sleep(0.02)\n"
        "    if os.environ['RANK'] == '0': sys.exit(1)\n"
        "    while True: signal.pause()\n"
    )

    job = elrun(*TWO, *AUTO, program, env=installed(heavy=WAITS_FOR_ITS_TURN))
    code, out, err = job.finish()

    assert (0, "saved\n") == (code, out), err


def test_an_import_that_does_not_end_holds_no_attempt_up(elrun, script, installed):
    """The next one waits as long as the import took the worker, and then imports itself."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "if attempt == 0:\n"
        "    while not os.path.exists('importing'): time.sleep(0.02)\n"
        "    sys.exit(1)\n"
    )

    job = elrun(
        *("--standalone", *AUTO, program),
        env=installed(heavy=IMPORTING),
    )
    code, out, err = job.finish()

    assert (0, "0 0 [False]\n1 0 [False]\n") == (code, out), err


IDLE = (
    "import heavy, os, sys, time\n"
    "while not os.path.exists('importing'): time.sleep(0.02)\n"
    "sys.stdout.write('importing\\n'); sys.stdout.flush(); time.sleep(1000)\n"
)


def test_a_stop_does_not_wait_for_an_import(elrun, script, installed):
    """The fixture looks for what is left."""
    job = elrun("--standalone", *AUTO, script(IDLE), env=installed(heavy=IMPORTING))
    job.wait_for_line("importing")

    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]


def test_an_import_ends_with_a_killed_agent(elrun, script, installed):
    """The fixture looks for what is left."""
    job = elrun("--standalone", *AUTO, script(IDLE), env=installed(heavy=IMPORTING))
    job.wait_for_line("importing")
    assert "elrun-preload" in by_name(job.process.pid)

    job.signal(signal.SIGKILL)

    assert -signal.SIGKILL == job.finish()[0]


def test_without_restarts_nothing_is_learnt(elrun, script, installed):
    """No process imports anything, and the worker sees no trace."""
    program = script(
        WAITING + "import heavy; time.sleep(0.5)\n"
        "print(os.popen('ps -o comm= --ppid %d' % os.getppid()).read().count('elrun-preload'))\n"
        "print([name for name in os.environ if name.startswith('ELRUN_L')])\n"
    )

    job = elrun("--standalone", "--preload", "auto", program, env=installed(heavy=""))
    code, out, err = job.finish()

    assert (0, "0\n[]\n") == (code, out), err


def test_other_programs_are_run_as_ever(elrun):
    """From them nothing can be learnt."""
    shell = ("--standalone", *AUTO, "--no-python", "bash", "-c", "env | grep -c ^ELRUN_L; exit 0")

    assert (0, "0\n", "") == elrun(*shell).finish()


@pytest.mark.parametrize("is_allowed", [True, False])
def test_workers_have_their_priority_whether_or_not_it_can_be_regained(
    elrun, script, installed, is_allowed
):
    """Few users may raise a priority: for them the process that imports makes pauses."""
    if not is_allowed and (os.geteuid() or shutil.which("setpriv") is None):
        pytest.skip("only root can do without the right to raise priorities")
    prefix = () if is_allowed else ("setpriv", "--bounding-set", "-sys_nice")
    may = subprocess.run(
        [*prefix, "chrt", "--idle", "0", "chrt", "--other", "0", "true"],
        check=False,
        capture_output=True,
    )
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "print(heavy.POLICY == os.SCHED_IDLE, os.sched_getscheduler(0) == os.SCHED_OTHER)\n"
        "fail_once()\n"
    )

    job = elrun("--standalone", *AUTO, program, env=installed(heavy=""), prefix=prefix)
    code, out, err = job.finish()

    expected = f"0 0 [False]\nFalse True\n1 0 [True]\n{may.returncode == 0} True\n"
    assert (0, expected) == (code, out), err


def test_functions_learn_as_well(elrun, script, installed):
    """Their arguments and results go through descriptors that each attempt opens anew."""
    program = script(
        WAITING + "from elrun import LaunchConfig, elastic_launch\n"
        "def work(factor):\n"
        "    import heavy\n"
        "    if os.environ['TORCHELASTIC_RESTART_COUNT'] == '0':\n"
        "        await_waiting(); raise ValueError\n"
        "    return factor * int(os.environ['RANK']), heavy.IMPORTED_BY != os.getpid()\n"
        "if __name__ == '__main__':\n"
        "    config = LaunchConfig(1, 1, 2, preload=['auto'], max_restarts=1)\n"
        "    print(elastic_launch(config, work)(3))\n"
    )
    env = {**installed(heavy=""), "TORCHELASTIC_RESTART_COUNT": "0"}

    code, out, err = elrun(command=(program,), env=env).finish()

    assert (0, "{0: (0, True), 1: (3, True)}\n") == (code, out), err


@pytest.mark.parametrize(
    "name",
    [
        *("arguments", "main", "path", "modules", "environment", "signals", "streams"),
        *("descriptors", "session", "threads", "pool", "pickle", "end", "exception", "stack"),
        *("exception with a cause", "own excepthook", "syntax error", "memory", "hooks"),
        *("process", "interpreter"),
    ],
)
def test_a_worker_that_reports_its_imports_sees_and_shows_the_same(elrun, script, name):
    """As one that does not: the first attempt."""
    path = script(f"import os, sys\n{SEES[name]}")
    ends = [
        elrun("--standalone", "--max-restarts", 1, *how, path, "a", "ü").finish()
        for how in ((), ("--preload", "auto"))
    ]

    assert tidy(ends[0]) == tidy(ends[1])


@pytest.mark.parametrize(
    "text",
    [
        "import nothing_of_this_name",
        "import failing",
        "from json import nothing_of_this_name",
        "import broken",
    ],
)
def test_the_traceback_of_an_import_is_python_s(elrun, script, text):
    """No frame of elrun's stands in it."""
    script("def f(): raise ValueError('no such shard')\nf()\n", "failing.py")
    script("def f(:\n", "broken.py")
    ends = [
        elrun("--standalone", "--max-restarts", 1, *how, script(text)).finish()
        for how in ((), ("--preload", "auto"))
    ]

    assert tidy(ends[0]) == tidy(ends[1])


@pytest.mark.parametrize(
    "name",
    [
        *("arguments", "main", "path", "environment", "signals", "streams", "descriptors"),
        *("session", "threads", "pool", "end", "exception", "signal", "memory", "hooks"),
    ],
)
def test_a_worker_that_was_forked_so_sees_and_shows_the_same(elrun, script, installed, name):
    """As one that was executed for the same attempt."""
    ends, text = [], f"import os, sys\n{SEES[name]}"
    env = installed(heavy="import logging, threading, multiprocessing.pool, random, json")
    for how, waits in (((), "--quick"), (("--preload", "auto"), "--waits")):
        path = script(
            WAITING + "import heavy\n"
            "if '--waits' in sys.argv: await_waiting(1)\n"
            f"with open('new', 'w') as file: file.write({text!r})\n"
            "os.replace('new', __file__)\nos._exit(1)\n"
        )
        options = ("--standalone", "--max-restarts", 1, *how)
        code, out, err = elrun(*options, path, waits, "ü", env=env).finish()
        err = "".join(line for line in err.splitlines(True) if "restarting all" not in line)
        ends.append(tidy((code, out.replace(waits, "…"), err.replace(waits, "…"))))

    assert ends[0] == ends[1]


@pytest.mark.parametrize("nodes", [2])
def test_each_node_learns_by_itself(elrun, script, installed, vacant_endpoint, nodes):
    """A restart over nodes is forked on each of them."""
    program = script(
        BEGIN + SHOW + "import heavy\nshow(heavy)\n"
        "if attempt == 0:\n"
        "    await_waiting(1); open(f'ready{os.environ[\"RANK\"]}', 'w').close()\n"
        "    while not (os.path.exists('ready0') and os.path.exists('ready1')): time.sleep(0.02)\n"
        "    if os.environ['RANK'] == '1': sys.exit(1)\n"
        "    time.sleep(1000)\n"
    )
    options = ("--nnodes", nodes, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    env = installed(heavy="")
    jobs = [elrun(*options, "--rdzv-id", "job", *AUTO, program, env=env) for _ in range(nodes)]

    ends = [job.finish() for job in jobs]

    assert [0, 0] == [end[0] for end in ends], ends
    lines = sorted(line for end in ends for line in end[1].splitlines())
    assert ["0 0 [False]", "0 1 [False]", "1 0 [True]", "1 1 [True]"] == lines
