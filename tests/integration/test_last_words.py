"""A gallery of deaths: what a worker runs, and the words that the summary must have."""

import json
import os
import pty
import select
import subprocess
import sys
import textwrap

import pytest

THREAD = """
import os, threading
def work():
    raise ValueError("no such shard")
thread = threading.Thread(target=work, name="loader")
thread.start()
thread.join()
"""
FINALLY = """
import time
try:
    raise ValueError("no such shard")
finally:
    time.sleep(0.2)
"""
LITTLE_MEMORY = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 28, 1 << 28))
kept = []
while True:
    kept.append(bytearray(1 << 20))
"""
OWN_LIBRARIES = """
import os, sys
os.mkdir("lib")
sys.path.insert(0, "lib")
for name in ("json", "traceback"):
    open(f"lib/{name}.py", "w").write("1 / 0")
raise ValueError("x")
"""
FORKS = """
import os
if os.fork() == 0:
    raise KeyError("of the child")
os.wait()
raise ValueError("of the parent")
"""
# The two exceptions have one address: the first is freed before the second is made.
CAUGHT_BEFORE = """
import sys
import textwrap
def find():
    raise LookupError("not yet")
def train():
    raise ValueError("no such shard")
try:
    find()
except LookupError:
    try:
        sys.exit(4)
    except SystemExit:
        pass
try:
    train()
except ValueError:
    raise SystemExit(4)
"""
HANDLED = """
import sys, traceback
def train():
    raise ValueError("no such shard")
try:
    train()
except ValueError:
    traceback.print_exc()
    sys.exit(4)
"""
# Name, worker, and the words that a person must find in the summary.
GALLERY = {
    "plain": ("raise ValueError('no such shard')", ["ValueError: no such shard", "script.py"]),
    "chained": (
        "try:\n    {}['a']\nexcept KeyError as error:\n    raise RuntimeError('asked') from error",
        ["RuntimeError: asked", "KeyError: 'a'", "was the direct cause of"],
    ),
    "in an except block": (
        "try:\n    {}['a']\nexcept KeyError:\n    1 / 0",
        ["ZeroDivisionError: division by zero", "KeyError: 'a'", "During handling of"],
    ),
    "deep": ("def f(n):\n    return f(n + 1)\nf(0)", ["RecursionError: maximum recursion depth"]),
    "of many lines": (
        "raise ValueError('first line\\nsecond line\\nthird line')",
        ["ValueError: first line", "second line\nthird line"],
    ),
    "of an empty first line": ("raise ValueError('\\nthe reason')", ["ValueError: the reason"]),
    "followed by words": (
        "import atexit, sys\natexit.register(print, 'bye', file=sys.stderr)\nassert False, 'no'",
        ["AssertionError: no"],
    ),
    "in a thread, then os._exit": (
        THREAD + "os._exit(3)",
        ["exited with code 3", "ValueError: no such shard (in thread 'loader')", "in work"],
    ),
    "in a thread, then another": (
        THREAD + "raise KeyError('x')",
        ["KeyError: 'x'", "before that, ValueError: no such shard ended thread 'loader' in work ("],
    ),
    "in a thread, then a wait in vain": (
        "import queue\n" + THREAD + "queue.Queue().get(timeout=0.1)",
        ["Empty\n", "before that, ValueError: no such shard ended thread 'loader' in work ("],
    ),
    "in a thread, then in a second one": (
        THREAD
        + "thread = threading.Thread(target=lambda: {}['x'])\n"
        + "thread.start()\nthread.join()\nos._exit(3)",
        ["KeyError: 'x' (in thread", "before that, ValueError: no such shard ended thread 'load"],
    ),
    "in a thread, then exit with a number": (
        THREAD + "import sys; sys.exit(3)",
        ["exited with code 3", "ValueError: no such shard (in thread 'loader')", "in work"],
    ),
    "a thread's exit with a text": (
        THREAD.replace("raise ValueError", "raise SystemExit") + "raise SystemExit(3)",
        [
            "exited with code 3",
            "before that, SystemExit: no such shard ended thread 'loader' in work (",
            "it raised SystemExit(3) in <module> (",
        ],
    ),
    "a thread's exit in order, then exit with a number": (
        (
            "import sys, threading\ndef work():\n    sys.exit('done')\n"
            "threading.Thread(target=work, name='loader').start()\n"
            "def check():\n    sys.exit(3)\ncheck()"
        ),
        ["exited with code 3", "it called sys.exit(3) in check (", "stack of rank 0"],
    ),
    "in a thread, then exit with a text": (
        THREAD + "import sys; sys.exit('the loader has failed')",
        [
            "SystemExit: the loader has failed",
            "before that, ValueError: no such shard ended thread 'loader' in work (",
        ],
    ),
    "os._exit of atexit": (
        "import atexit, os\ndef bye():\n    os._exit(3)\natexit.register(bye)",
        ["exited with code 3", "it called os._exit(3) from atexit in bye (", "script.py, line 3)"],
    ),
    "os._exit as a function of atexit": (
        "import atexit, os\natexit.register(os._exit, 3)",
        ["exited with code 3", "it called os._exit(3) from atexit\n"],
    ),
    "os._exit of atexit, after an exit with it": (
        "import atexit, os\natexit.register(os._exit, 3)\nraise SystemExit(3)",
        ["it raised SystemExit(3) in <module> ("],
    ),
    "os._exit in a thread": (
        (
            "import os, threading\ndef work():\n    os._exit(3)\n"
            "thread = threading.Thread(target=work, name='watchdog')\n"
            "thread.start()\nthread.join()"
        ),
        ["exited with code 3", "it called os._exit(3) in thread 'watchdog' in work ("],
    ),
    "os._exit as a thread": (
        (
            "import _thread, os, select\n_thread.start_new_thread(os._exit, (3,))\n"
            "select.select([], [], [], 60)"
        ),
        ["exited with code 3", "it called os._exit(3) in a thread\n"],
    ),
    "os._exit long after an exit that was caught": (
        (
            "import os, sys\ndef probe():\n    sys.exit(1)\ntry:\n    probe()\nexcept SystemExit:\n"
            "    pass\ndef watchdog():\n    os._exit(1)\nwatchdog()"
        ),
        ["exited with code 1", "called os._exit(1) in watchdog"],
    ),
    "without a text": (
        "def check():\n    assert 1 > 2\ncheck()",
        ["AssertionError\n", "raised in check (", "script.py, line 2)"],
    ),
    "exit with a number": (
        "import sys\ndef check():\n    sys.exit(3)\ncheck()",
        [
            "exited with code 3",
            "it called sys.exit(3) in check (",
            "script.py, line 3)",
            "stack of",
        ],
    ),
    "exit with a number, above 255": (
        "import sys\ndef check():\n    sys.exit(259)\ncheck()",
        ["exited with code 3", "it called sys.exit(259) in check ("],
    ),
    "exit with a number that no C long holds": (
        "import sys\ndef check():\n    sys.exit(10**30)\ncheck()",
        ["exited with code 255", f"it called sys.exit({10**30}) in check ("],
    ),
    "exit with a number that a C long just holds": (
        "import sys\ndef check():\n    sys.exit(-(2**63) + 3)\ncheck()",
        ["exited with code 3", f"it called sys.exit({3 - 2**63}) in check ("],
    ),
    "exit with a number, after words": (
        "import sys\nprint('ERROR: no such shard', file=sys.stderr)\nsys.exit(3)",
        ["\n  ERROR: no such shard", "it called sys.exit(3) in <module> (", "last lines of"],
    ),
    "site's exit with a number": (
        "def check():\n    exit(3)\ncheck()",
        ["exited with code 3", "it called sys.exit(3) in check ("],
    ),
    "raised with a number, and no reason": (
        "def check():\n    raise SystemExit(3)\ncheck()",
        ["it raised SystemExit(3) in check (", "script.py, line 2)"],
    ),
    "os._exit": (
        "import os\ndef check():\n    os._exit(3)\ncheck()",
        ["exited with code 3", "it called os._exit(3) in check (", "script.py, line 3)"],
    ),
    "os._exit of a handler of signals": (
        (
            "import os, signal\ndef stop(*_):\n    os._exit(3)\n"
            "signal.signal(signal.SIGALRM, stop)\nsignal.raise_signal(signal.SIGALRM)"
        ),
        ["exited with code 3", "it called os._exit(3) in stop ("],
    ),
    "exit with a text": (
        "import sys\ndef check():\n    sys.exit('no such shard')\ncheck()",
        ["SystemExit: no such shard", "traceback of rank 0", 'script.py", line 3, in check\n'],
    ),
    "exit with an exception": (
        "import sys\ntry:\n    open('/no/such')\nexcept OSError as error:\n    sys.exit(error)",
        ["SystemExit: [Errno 2] No such file or directory: '/no/such'"],
    ),
    "an exit that was caught": (
        "import sys\ntry:\n    sys.exit('not yet')\nexcept SystemExit:\n    sys.exit(4)",
        ["exited with code 4", "it called sys.exit(4) in <module> (", "script.py, line 5)"],
    ),
    "handled, then exit with a number": (
        HANDLED,
        ["exited with code 4", "ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "handled, then site's exit": (
        HANDLED.replace("sys.exit", "exit"),
        ["ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "exit with a text while an exception is handled": (
        HANDLED.replace("(4)", "('shards are missing')"),
        ["SystemExit: shards are missing", "while handling ValueError: no such shard", "in train"],
    ),
    "handled, then raised with a number, after an exit with it that was caught": (
        "import sys\ntry:\n    sys.exit(4)\nexcept SystemExit:\n    pass"
        + HANDLED.replace("sys.exit", "raise SystemExit"),
        ["ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "the same, where the exit that was caught had another cause, long gone": (
        CAUGHT_BEFORE,
        ["ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "handled, then raised with a number": (
        HANDLED.replace("sys.exit", "raise SystemExit"),
        ["ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "raised with a number from an exception": (
        HANDLED.replace("sys.exit(4)", "raise SystemExit(4) from None"),
        ["ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "raised with a text": (
        "def check():\n    raise SystemExit('no such shard')\ncheck()",
        ["SystemExit: no such shard", "traceback of rank 0", 'script.py", line 2, in check\n'],
    ),
    "raised with a text through a finally": (
        "def check():\n    try: raise SystemExit('no such shard')\n    finally: len('x')\ncheck()",
        ["SystemExit: no such shard", 'script.py", line 2, in check\n'],
    ),
    "raised with a text while an exception is handled": (
        HANDLED.replace("sys.exit(4)", "raise SystemExit('shards are missing')"),
        ["SystemExit: shards are missing", "while handling ValueError: no such shard", "in train"],
    ),
    "handled, then os._exit": (
        HANDLED.replace("sys.exit", "import os; os._exit"),
        ["exited with code 4", "ValueError: no such shard (handled, then exit(4))", "in train"],
    ),
    "handled in a thread, then os._exit": (
        (
            "import os, threading\ndef work():\n    try: raise ValueError('no such shard')\n"
            "    except ValueError: os._exit(4)\nthreading.Thread(target=work).start()"
        ),
        ["exited with code 4", "ValueError: no such shard (handled in thread 'Thread-1", "in work"],
    ),
    "its own hook, which ends it at once": (
        "import os, sys\nsys.excepthook = lambda *_: os._exit(4)\nraise ValueError('x')",
        ["exited with code 4", "ValueError: x"],
    ),
    "an Error of a library": (
        "import locale; locale.setlocale(locale.LC_ALL, 'xx_YY')",
        ["locale.Error: unsupported locale setting"],
    ),
    "site's exit with a text": ("exit('no such shard')", ["SystemExit: no such shard"]),
    "argparse": (
        (
            "import argparse\np = argparse.ArgumentParser()\n"
            "p.add_argument('--lr', required=True)\n"
            "p.parse_args()"
        ),
        [
            "exited with code 2",
            "script.py: error: the following arguments are required: --lr",
            'script.py", line 4, in <module>\n',
        ],
    ),
    "with a note": (
        "e = ValueError('no such shard')\ne.__notes__ = ['in step 7']\nraise e",
        ["ValueError: no such shard (note: in step 7)"],
    ),
    "captured output": (
        (
            "import subprocess, sys\n"
            "subprocess.run([sys.executable, '-c', 'import no_such'], check=True, capture_output=1)"
        ),
        ["CalledProcessError", "its output ends: ModuleNotFoundError: No module named 'no_such'"],
    ),
    "syntax error": ("x = 1\ndef f(:\n    pass", ["SyntaxError: invalid syntax", "def f(:"]),
    "missing module": ("import no_such_module", ["ModuleNotFoundError: No module named 'no_such"]),
    "missing name": ("from os import no_such", ["ImportError: cannot import name 'no_such'"]),
    "missing file": ("open('shard-7')", ["FileNotFoundError: [Errno 2]", "'shard-7'"]),
    "assertion": ("assert 1 > 2, 'world size'", ["AssertionError: world size"]),
    "interrupt": ("raise KeyboardInterrupt", ["was killed by SIGINT", "KeyboardInterrupt"]),
    "memory": ("bytearray(1 << 60)", ["MemoryError"]),
    "little memory": (
        LITTLE_MEMORY,
        ["MemoryError"],
    ),
    "a text that raises": (
        "class Odd(Exception):\n    def __str__(self): raise KeyError\nraise Odd",
        ["Odd: <exception str() failed>"],
    ),
    "lone surrogates": ("raise ValueError('shard \\udcff')", ["ValueError: shard "]),
    "escapes": ("raise ValueError('\\x1b[31mred\\x07')", ["ValueError: \\x1b[31mred\\x07"]),
    "a megabyte": ("raise ValueError('x' * (1 << 20))", ["ValueError: xxx", "left out here"]),
    "its own hook": (
        "import sys\nsys.excepthook = lambda *_: print('hooked')\nraise ValueError('x')",
        ["ValueError: x"],
    ),
    "a hook that calls Python's": (
        "import sys\nsys.excepthook = lambda *e: sys.__excepthook__(*e)\nraise ValueError('x')",
        ["ValueError: x"],
    ),
    "folder gone": (
        "import os\nos.mkdir('gone')\nos.chdir('gone')\nos.rmdir('../gone')\nraise ValueError('x')",
        ["ValueError: x"],
    ),
    "standard error closed": ("import os\nos.close(2)\nraise ValueError('x')", ["ValueError: x"]),
    "a library's name": (
        OWN_LIBRARIES,
        ["ValueError: x"],
    ),
    "a child forked before": (
        FORKS,
        ["ValueError: of the parent"],
    ),
    "in a finally": (FINALLY, ["ValueError: no such shard"]),
}


@pytest.mark.parametrize("name", GALLERY)
def test_an_end_is_told(elrun, script, name):
    """On a plain console, without ``@record`` and without ``--tee``; rank and node are named."""
    source, words = GALLERY[name]

    code, _, err = elrun("--standalone", script(source)).finish()

    summary = err.partition("elrun: script.py failed: ")[2]
    assert code != 0
    assert f"(node {os.uname().nodename}, local rank 0, pid " in summary
    assert [] == [each for each in words if each not in summary]


@pytest.mark.parametrize(
    "source",
    [
        "import atexit, os\natexit.register(os._exit, 3)",
        "import _thread, os, time\n_thread.start_new_thread(os._exit, (3,))\ntime.sleep(60)",
        "import atexit, os, sys\natexit.register(os._exit, 3)\nsys.exit(4)",
    ],
    ids=["at the end", "in a thread", "at the end, after sys.exit"],
)
def test_an_end_at_once_that_c_asks_for_has_its_code(elrun, script, source):
    """No frame of Python's calls it, and nothing of ours may stand in its way."""
    assert 3 == elrun("--standalone", script(source)).finish()[0]


def test_a_signal_that_is_ignored_stays_ignored(elrun, script):
    """``trap '' XCPU`` in a batch script is for all programs that it starts."""
    source = """
        import os, signal, subprocess, sys
        kill = "import os, signal; os.kill(os.getpid(), signal.SIGXCPU); print('lives')"
        os.kill(os.getpid(), signal.SIGXCPU)
        sys.exit(subprocess.run([sys.executable, "-c", kill]).returncode)
    """
    ignored = ["--no-python", "bash", "-c", 'trap "" XCPU; exec "$0" "$1"', sys.executable]

    code, out, err = elrun("--standalone", *ignored, script(textwrap.dedent(source))).finish()

    assert (0, "lives\n") == (code, out), err


CODES = """
import copy, os, pickle, threading
leaving = SystemExit(3)
print(leaving.code, SystemExit.code, copy.copy(leaving).code, pickle.loads(pickle.dumps(leaving)))
leaving.code = 4
print(leaving.code, leaving.args, vars(leaving), hasattr(leaving, "code"))
del leaving.code
print(leaving.code)
class Own(SystemExit):
    code = 5
print(Own(7).code)
def work():
    raise SystemExit(8)
threading.Thread(target=work).start()
if os.fork():
    print(os.waitstatus_to_exitcode(os.wait()[1]))
    raise Own(9)
raise SystemExit("of a child") from ValueError("x")
"""


def test_a_code_is_what_it_is_without_the_hook(script):
    """Python reads the code of the exception that ends the program; so do programs."""
    path = script(CODES)
    # Else what is printed before the fork is printed by parent and child.
    how = {"env": {**os.environ, "PYTHONUNBUFFERED": "1"}, "capture_output": True, "text": True}
    plain = subprocess.run([sys.executable, path], check=False, **how)

    job = subprocess.run([sys.executable, "-m", "elrun", "--standalone", path], check=False, **how)

    assert 5 == plain.returncode
    assert (plain.returncode, plain.stdout) == (job.returncode, job.stdout)
    assert job.stderr.startswith(plain.stderr)
    assert "ValueError" not in job.stderr


def test_a_number_leaves_no_file_that_nobody_names(elrun, script, tmp_path):
    """The summary has all that the hook's record says; a text's record is named and stays."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    for source, left in (("sys.exit(3)", []), ("sys.exit('no')", ["error.json.kept"])):
        job = elrun("--standalone", script(f"import sys; {source}"), env={"TMPDIR": str(folder)})

        err = job.finish()[2]
        assert left == [path.name for path in folder.rglob("*") if path.is_file()]
        assert bool(left) == (f"see {folder}" in err)


AT_THE_END = """
import os
class Last:
    def __del__(self, kill=os.kill, pid=os.getpid()):
        kill(pid, 6)
last = Last()
"""
SHUT_DOWN = "its script had ended before, and the interpreter was shutting down"


@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["executed", "preloaded"])
def test_a_crash_after_the_end_of_the_script_is_told_as_such(elrun, script, options):
    """The work was done; a library crashed while the interpreter was shutting down."""
    code, _, err = elrun("--standalone", *options, script(AT_THE_END)).finish()

    assert (134, True) == (code, f"  {SHUT_DOWN}\n" in err)


def test_a_crash_before_the_end_of_the_script_is_not_told_so(elrun, script):
    """Functions for the end belong to the script."""
    source = "import atexit, os\natexit.register(os.kill, os.getpid(), 6)"

    code, _, err = elrun("--standalone", script(source)).finish()

    assert (134, False) == (code, SHUT_DOWN in err)


GROUP_LEFT_OPEN = """
import torch.distributed
torch.distributed.init_process_group("gloo")
"""


def test_a_process_group_that_was_open_at_a_crash_at_the_end_is_named(elrun, script):
    """Its threads run on while the interpreter takes down what they use."""
    code, _, err = elrun("--standalone", script(GROUP_LEFT_OPEN + AT_THE_END)).finish()

    assert (134, True) == (
        code,
        f"{SHUT_DOWN}; the script had not called torch.distributed.destroy_process_group()" in err,
    )


def test_output_that_could_not_be_written_at_the_end_is_named(elrun, script):
    """Python's exit code 120 says no more than that."""
    source = (
        "import os, sys\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        "sys.stdout = open(1, 'w', buffering=1 << 20, closefd=False)\nprint('x')"
    )

    code, _, err = elrun("--standalone", script(source)).finish()

    assert (120, True) == (
        code,
        "its script had ended before, but what was left to print could not be written" in err,
    )


TEXT_THAT_EXITS = """
import sys
import textwrap
class Odd(Exception):
    def __str__(self):
        sys.exit(5)
try:
    raise Odd
except Odd:
    sys.exit(4)
"""
EXITS_THAT_ARE_NO_REASON = {
    "caught": HANDLED.replace(
        "    sys.exit(4)", "    try: sys.exit(4)\n    except SystemExit: pass"
    )
    + "sys.exit(6)",
    "caught, and at once later": HANDLED.replace(
        "    sys.exit(4)", "    try: sys.exit(4)\n    except SystemExit: pass"
    )
    + "import os; os._exit(6)",
    "raised and caught": HANDLED.replace(
        "    sys.exit(4)", "    try: raise SystemExit(4)\n    except SystemExit: pass"
    )
    + "raise SystemExit(6)",
    "at once, later": HANDLED.replace("    sys.exit(4)", "    pass") + "import os; os._exit(6)",
    "in a child": HANDLED.replace("train()\ne", "import os; os.fork() or train()\n    os.wait()\ne")
    + "sys.exit(6)",
    "another later": HANDLED.replace("    sys.exit(4)", "    pass") + "sys.exit(6)",
}


@pytest.mark.parametrize("name", EXITS_THAT_ARE_NO_REASON)
def test_an_exception_that_was_handled_before_is_no_reason(elrun, script, name):
    """Only the exception counts that a program handles when it leaves."""
    source = EXITS_THAT_ARE_NO_REASON[name]

    code, _, err = elrun("--standalone", script(source), env={"ELRUN_KEEP_STDERR": "0"}).finish()

    assert (6, False) == (code, "ValueError" in err.partition("elrun: script.py failed")[2])


def test_a_text_that_exits_costs_the_record_and_nothing_else(elrun, script):
    """It is the user's code, and asked for in the midst of ``sys.exit``."""
    code, _, err = elrun("--standalone", script(TEXT_THAT_EXITS)).finish()

    assert (4, True) == (code, "Odd: <exception str() failed>" in err)


INTERRUPTED = """
import os, signal

def handler(*_):
    raise RuntimeError("a child has died")

class Named(type):
    @property
    def __module__(cls):  # asked for when the exception is written
        if not os.path.exists("asked"):
            open("asked", "w").close()
            os.kill(os.getpid(), signal.SIGCHLD)
        return "__main__"

class Told(Exception, metaclass=Named):
    pass

signal.signal(signal.SIGCHLD, handler)
raise Told("no such shard")
"""


def test_a_handler_of_signals_costs_no_record(elrun, script, tmp_path):
    """It may raise at any moment, as that of DataLoader does."""
    job = elrun("--standalone", "--log-dir", tmp_path / "logs", script(INTERRUPTED))

    assert 1 == job.finish()[0]
    (path,) = (tmp_path / "logs").rglob("error.json*")
    assert (True, "Told: no such shard") == (
        (tmp_path / "asked").exists(),
        json.loads(path.read_text())["message"]["message"],
    )


CHILDREN = {
    "of multiprocessing": "import torch.multiprocessing as mp\n"
    "def work(i): raise ValueError('bad record')\n"
    "if __name__ == '__main__': mp.spawn(work)",
    "of a DataLoader": "import torch\n"
    "class Records(torch.utils.data.Dataset):\n"
    "    def __len__(self): return 2\n"
    "    def __getitem__(self, i): raise ValueError('bad record')\n"
    "if __name__ == '__main__': list(torch.utils.data.DataLoader(Records(), num_workers=1))",
}


@pytest.mark.parametrize("name", CHILDREN)
def test_an_exception_of_a_child_is_told_in_the_first_lines(elrun, script, name):
    """Not only that there was one."""
    err = elrun("--standalone", script(CHILDREN[name])).finish()[2]

    head = err.partition("elrun: script.py failed: ")[2].partition("\n\n")[0]
    assert "ValueError: bad record" in head


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python has groups from 3.11 on")
def test_a_group_is_told_with_its_members(elrun, script):
    """The first line names the first of them, the traceback has all."""
    source = "raise ExceptionGroup('two shards', [ValueError('one'), OSError('two')])"

    err = elrun("--standalone", script(source)).finish()[2]

    assert "ExceptionGroup: two shards (2 sub-exceptions): ValueError: one; OSError: two" in err
    end = f"  | OSError: two\n  +{'-' * 36}\n"
    assert end in err.partition("elrun: script.py failed: ")[2]


@pytest.mark.parametrize(
    "how",
    [
        ("-m", "script"),
        ("--run-path", "script.py"),
        ("--preload", "json", "script.py"),
        ("--preload", "json", "-m", "script"),
        ("--preload", "threading", "--run-path", "script.py"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("source", ["raise ValueError('no such shard')", THREAD + "os._exit(3)"])
def test_an_end_is_told_however_the_script_is_run(elrun, script, how, source):
    """As a module, by a function, executed or forked."""
    script(source)

    err = elrun("--standalone", *how).finish()[2]

    assert "ValueError: no such shard" in err.partition("failed: ")[2]


def test_an_end_of_a_script_on_standard_input_is_told(elrun):
    """There are no source lines."""
    job = elrun("--standalone", "-", stdin=subprocess.PIPE)
    job.process.stdin.write("def f():\n    raise ValueError('no such shard')\nf()\n")
    job.process.stdin.close()
    job.process.stdin = None

    summary = job.finish()[2].partition("failed: ")[2]

    assert "ValueError: no such shard" in summary
    assert 'File "<stdin>", line 2, in f' in summary


@pytest.mark.parametrize("package", ["elrun", "torch.distributed.elastic.multiprocessing.errors"])
def test_a_record_of_the_script_s_own_stands(elrun, script, tmp_path, package):
    """``@record`` has written the error file: it stays as it is."""
    source = f"from {package} import record\n@record\ndef main(): raise ValueError('x')\nmain()\n"

    elrun("--standalone", "--log-dir", tmp_path / "logs", script(source)).finish()

    (file,) = (tmp_path / "logs").rglob("error.json")
    record = json.loads(file.read_text())["message"]
    assert (package == "elrun") == ("type" in record["extraInfo"])
    assert "ValueError: x" == record["message"]


def test_no_hook_is_left_where_none_is_wanted(elrun, script, tmp_path):
    """``ELRUN_WORKER_HOOK=0`` turns it off."""
    job = elrun(
        *("--standalone", "--log-dir", tmp_path / "logs", script("raise ValueError('x')")),
        env={"ELRUN_WORKER_HOOK": "0"},
    )

    assert 1 == job.finish()[0]
    assert [] == list((tmp_path / "logs").rglob("error.json*"))


@pytest.mark.parametrize(
    "python", ["{python} -I {script}", "{python} -S {script}", "{python} -E {script}", "sh {sh}"]
)
def test_programs_without_a_hook_find_no_trace_of_it(elrun, script, python):
    """Interpreters that would not import it, and other programs that start interpreters."""
    path = script("import os; print(*(name for name in os.environ if 'PYTHONPATH' in name), 'no')")
    shell = script(
        f"unset PYTHONPATH; env | grep ELRUN_WORKER; exec {sys.executable} {path}", "x.sh"
    )
    command = python.format(python=sys.executable, script=path, sh=shell).split()

    code, out, _ = elrun("--standalone", "--no-python", *command, env={}).finish()

    assert (0, "no\n") == (code, out)


def test_children_of_a_worker_have_no_hook(elrun, script, tmp_path):
    """A child's exception is no end of the worker's, and it finds nothing of ours."""
    child = script("import os, sys; sys.stdout.write(str(sys.path[1]) + '\\n'); 1 / 0", "child.py")
    source = (
        "import multiprocessing, subprocess, sys\n"
        f"subprocess.run([sys.executable, {str(child)!r}])\n"
        "if __name__ == '__main__':\n"
        "    child = multiprocessing.get_context('fork').Process(target=int, args=('x',))\n"
        "    child.start(); child.join()\n"
    )

    code, out, _ = elrun("--standalone", "--log-dir", tmp_path / "logs", script(source)).finish()

    assert (0, [], False) == (
        code,
        list((tmp_path / "logs").rglob("error.json*")),
        "hook" in out,
    )


def test_a_full_disk_costs_the_record_and_nothing_else(elrun, script, tmp_path):
    """The exception is printed, and the exit code is the worker's."""
    source = (
        "import os, resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))\nraise ValueError('no such shard')"
    )

    code, _, err = elrun("--standalone", "--log-dir", tmp_path / "logs", script(source)).finish()

    assert (1, [], True) == (
        code,
        [path.name for path in (tmp_path / "logs").rglob("error.json*")],
        "ValueError: no such shard" in err.partition("elrun:")[0],
    )


def test_the_end_is_told_on_a_terminal(script, tmp_path):
    """There nothing stands between the worker and the terminal."""
    path = script("import sys; print(sys.stderr.isatty()); sys.exit('no such shard')")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "elrun", "--standalone", path],
        stdin=theirs, stdout=theirs, stderr=theirs, cwd=tmp_path,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while select.select([ours], [], [], 60)[0]:
        try:
            shown += os.read(ours, 1 << 16)
        except OSError:  # all have closed the other side
            break
    os.close(ours)

    assert 1 == process.wait(60)
    assert b"True" in shown
    assert b"SystemExit: no such shard" in shown
