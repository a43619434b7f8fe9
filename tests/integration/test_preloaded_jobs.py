"""One suite, three ways to start: to itself and to its user, the worker is the same.

Each script below prints what a worker can see of itself. It is run executed, preloaded, and with
neither preloading nor our hook, and the three must say the same.
"""

import os
import re
import subprocess
import sys

import pytest
from preload_kit import ONE_THREAD, PRELOAD

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("preloadable")]

SEES = {
    "arguments": "print(sys.argv, sys.orig_argv[1:])",
    "main": """
main = sys.modules["__main__"]
print(__name__, __file__, __spec__, __package__, __doc__, __loader__.__class__, sorted(vars(main)))
print(main.__builtins__ is __builtins__, __builtins__)
""",
    "path": "print([p for p in sys.path], os.getcwd(), sys.flags, sys.executable, sys.prefix)",
    "modules": "print('sitecustomize' in sys.modules, 'site' in sys.modules, sys.meta_path)",
    "environment": """
hidden = ("RANK", "MASTER", "TORCHELASTIC", "ELRUN_AGENT", "ELRUN_TEST_JOB", "PYTEST")
hidden += ("ELRUN_WORKER_HOOK",)
print({k: v for k, v in os.environ.items() if not k.startswith(hidden)})
import subprocess
told = subprocess.run(["env"], capture_output=True, text=True).stdout
print(sorted(line for line in told.splitlines() if not line.startswith((*hidden, "_="))))
print(os.environ["RANK"], os.environ["WORLD_SIZE"], os.environ["TORCHELASTIC_RESTART_COUNT"])
""",
    "umask": "print(os.umask(0))",
    "signals": """
import signal
print({n.name: str(signal.getsignal(n)).split(" at ")[0] for n in signal.Signals})
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.set_wakeup_fd(-1))
""",
    "streams": """
for s in (sys.stdin, sys.stdout, sys.stderr):
    print(s, s is sys.__stdin__ or s is sys.__stdout__ or s is sys.__stderr__, s.isatty(),
          s.encoding, s.errors, s.line_buffering, s.write_through, s.newlines, type(s.buffer),
          s.buffer, s.seekable(), s.fileno())
""",
    "descriptors": """
print([(fd, os.get_inheritable(fd)) for fd in range(100) if os.path.exists(f"/proc/self/fd/{fd}")])
""",
    "session": """
import ctypes
death = ctypes.c_int()
ctypes.CDLL(None).prctl(2, ctypes.byref(death), 0, 0, 0)
print(os.getsid(0) == os.getpid() == os.getpgid(0), death.value)
print(open(f"/proc/{os.getppid()}/cmdline").read().split("\\0")[1:3], os.nice(0))
print(open("/proc/self/comm").read(), open("/proc/self/cmdline").read())
print(sorted(os.sched_getaffinity(0)))
""",
    "process": """
import ctypes, re, resource, signal, time
print({n: resource.getrlimit(getattr(resource, n)) for n in dir(resource) if "RLIMIT_" in n})
for name in ("oom_score_adj", "coredump_filter", "personality", "loginuid", "cgroup"):
    if os.path.exists(f"/proc/self/{name}"): print(name, open(f"/proc/self/{name}").read())
kinds = "Sig[BIP]|ShdPnd|Cap|Cpus|Mems|Threads|NoNew|Seccomp|CoreDumping|Groups|Umask"
print(re.findall(f"(?m)^(?:{kinds}).*", open("/proc/self/status").read()))
print([ctypes.CDLL(None).prctl(option, 0, 0, 0, 0) for option in (3, 7, 27, 30, 39, 42)])
print(os.sched_getscheduler(0), os.sched_getparam(0).sched_priority, os.getgroups())
print([signal.getitimer(kind) for kind in (0, 1, 2)], time.process_time() < 30)
print(sorted(os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")))
print(open("/proc/thread-self/children").read())
print([name for name in os.environ if name != "ELRUN_WORKER_HOOK"])
""",
    "interpreter": """
import asyncio, gc, faulthandler, inspect, locale, tempfile, time, threading, warnings
print(sys._xoptions, sys.warnoptions, sys.getrecursionlimit(), sys.getswitchinterval())
print(sys.gettrace(), sys.getprofile(), sys.getdlopenflags(), sys.get_int_max_str_digits())
print(sys.excepthook is sys.__excepthook__, sys.unraisablehook is sys.__unraisablehook__)
print(threading.excepthook is threading.__excepthook__, threading.stack_size(), gc.callbacks)
print(locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(), time.tzname)
print(tempfile.tempdir, faulthandler.is_enabled(), len(inspect.stack()), sys.path_hooks[0])
print(type(asyncio.get_event_loop_policy()), sys.pycache_prefix, sys.dont_write_bytecode)
print([str(each) for each in warnings.filters], sys.flags)
""",
    "threads": """
import threading, time
print(threading.current_thread() is threading.main_thread(), threading.enumerate())
print(threading.main_thread().native_id == os.getpid())
def late():
    stop.wait()
    print("the thread is waited for")
stop = threading.Event()
threading.Thread(target=late).start()
threading.Timer(0, stop.set).start()
""",
    "pickle": """
import pickle
class Own: pass
print(pickle.dumps(Own()), type(pickle.loads(pickle.dumps(Own()))))
""",
    "pool": """
import multiprocessing
def square(n): return n * n, __name__
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(square, [1, 2, 3]))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(square, [1, 2, 3]))
    print(multiprocessing.current_process(), multiprocessing.parent_process())
""",
    "end": """
import atexit
atexit.register(print, "atexit 1"); atexit.register(print, "atexit 2")
sys.stdout.write("no newline at the end")
""",
    "own exit": "import atexit; atexit.register(print, 'atexit'); sys.exit(3)",
    "exit with a text": "sys.exit('no such shard')",
    "exit in a function": "def f(): raise SystemExit\nf()",
    "quick exit": "sys.stdout.write('kept'); os._exit(4)",
    "exception": """
import atexit
atexit.register(lambda: print(sys.last_type, sys.last_traceback.tb_frame, sys.last_value))
def f(n):
    if n: f(n - 1)
    raise ValueError("no such shard")
f(2)
""",
    "exception with a cause": """
try:
    {}["a"]
except KeyError as error:
    raise RuntimeError("asked for a") from error
""",
    "stack": """
import traceback, inspect
traceback.print_stack(); print(len(inspect.stack()), sys._getframe().f_back)
def deep(n): return deep(n + 1)
try: deep(0)
except RecursionError as e: print(len(traceback.extract_tb(e.__traceback__)))
""",
    "own excepthook": """
def hook(kind, error, trace):
    import traceback
    print("hook", kind, error, traceback.format_tb(trace), trace.tb_next)
sys.excepthook = hook
raise ValueError("no such shard")
""",
    "syntax error": "def f(:\n  pass",
    "interrupt": "raise KeyboardInterrupt",
    "signal": "import signal; os.kill(os.getpid(), signal.SIGUSR1)",
    "fault": "import faulthandler; faulthandler.enable(); import ctypes; ctypes.string_at(0)",
    "warning": "import warnings; warnings.warn('old'); print(warnings.filters)",
    "hooks": """
import threading, traceback
print(sys.excepthook is sys.__excepthook__, threading.excepthook is threading.__excepthook__)
try:
    sys.exit("not yet")
except SystemExit as leaving:
    print(repr(leaving), traceback.format_exc())
try:
    raise ValueError("shown, and gone on")
except ValueError as error:
    sys.excepthook(type(error), error, error.__traceback__)
print(sys.exit.__name__, sys.exit.__doc__, callable(sys.exit))
""",
    "exception in a thread": """
import threading
def work(): raise ValueError("no such shard")
thread = threading.Thread(target=work)
thread.start(); thread.join()
print("goes on")
""",
    "hook for threads": """
import threading
threading.excepthook = lambda args: print("hook", args.exc_type, args.thread)
thread = threading.Thread(target=int, args=("x",))
thread.start(); thread.join()
""",
    "future": """from __future__ import annotations
def f(x: nothing): pass
print(f.__annotations__)
""",
    "buffered bytes": "sys.stdout.buffer.write(b'x'); sys.stderr.write('y'); os.write(1, b'z')",
    "handler": """
import preloadable, logging
preloadable.handler.emit(logging.makeLogRecord({'msg': 'm'}))
""",
    "imported": "import preloadable; print(preloadable.__file__, preloadable.__spec__)",
    "memory": "import mmap, gc; print(gc.isenabled(), gc.get_threshold(), gc.get_debug())",
}


@pytest.fixture(name="both")
def _both(elrun):
    """Run a job executed and preloaded, and return what it said, without what can't be the same."""

    def run(*args, preload=PRELOAD, **options):
        return [
            tidy(elrun("--standalone", *how, *args, **options).finish()) for how in ((), preload)
        ]

    return run


def tidy(finished):
    code, out, err = finished
    err = re.sub(r"elrun: (?s:.*)", "elrun: …", err)  # the summary has pids and times
    err = re.sub(r"\nExtension modules: .*\n", "", err)
    text = [re.sub(r"0x[0-9a-f]{4,}", "0x…", stream) for stream in (out, err)]
    return code, *(re.sub(r"started \d+", "started", stream) for stream in text)


@pytest.mark.parametrize("name", SEES)
def test_a_worker_sees_and_shows_the_same(elrun, both, script, name):
    """What a script can find out about itself, and what its user sees of it, is the same."""
    begin = "" if name == "future" else "import os, sys\n"
    path = script(begin + SEES[name])

    executed, preloaded = both(path, "a", "--b", "ü")
    job = elrun("--standalone", path, "a", "--b", "ü", env={"ELRUN_WORKER_HOOK": "0"})
    without_hook = tidy(job.finish())

    assert executed == preloaded
    assert executed == without_hook


def test_a_module_runs_with_its_package(both, tmp_path):
    """``-m`` finds relative imports, its own specification and its arguments."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "neighbour.py").write_text("WORD = 'found'")
    (package / "script.py").write_text(
        "import sys\n"
        "from .neighbour import WORD\n"
        "print(WORD, __name__, __package__, __spec__, __file__, sys.argv, sys.path)\n"
        "raise ValueError(WORD)\n"
    )

    executed, preloaded = both("-m", "package.script", "a")

    assert executed == preloaded
    assert "found" in preloaded[1]


def test_a_folder_runs_by_its_main_module(both, tmp_path):
    """It comes first on the import path."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__main__.py").write_text("import sys; print(sys.path, __file__)")

    executed, preloaded = both("folder", preload=("--preload", "json"))

    assert executed == preloaded


@pytest.mark.parametrize("text", ["print(__name__, __file__, sys.argv)", "sys.exit(3)", "1 / 0"])
def test_a_path_is_run_in_the_worker(both, script, text):
    """``--run-path`` is a function that multiprocessing brings into the process."""
    executed, preloaded = both("--run-path", script(f"import sys\n{text}\n"), "a", "b")

    assert executed == preloaded


@pytest.mark.parametrize("streams", ["--redirects", "--tee"])
def test_output_goes_where_it_is_sent(both, script, tmp_path, streams):
    """Also what a library of C's writes, and what a module logs that got its stream before."""
    program = script(
        "import logging, os, preloadable, sys\n"
        "print('printed'); os.write(1, b'written\\n')\n"
        "preloadable.handler.emit(logging.makeLogRecord({'msg': 'logged'}))\n"
    )

    executed, preloaded = both("--log-dir", "logs", streams, "3", program)

    files = sorted(tmp_path.glob("logs/*/attempt_0/0/*.log"))
    assert executed == preloaded
    assert ["logged\n", "printed\nwritten\n"] * 2 == [file.read_text() for file in files]


@pytest.mark.parametrize(("out", "err"), [("file", None), (None, "file"), ("file", "file")])
def test_streams_may_be_files(tmp_path, script, out, err):
    """Each worker's are what they are, not what those of the preloading process happened to be."""
    program = script(
        "import sys\n"
        "print('out', sys.stdout.seekable(), sys.stdout.tell() if sys.stdout.seekable() else '')\n"
        "print('err', sys.stderr.seekable(), file=sys.stderr)\n"
    )
    said = []
    for how in ((), PRELOAD):
        with (tmp_path / "file").open("w+") as file:
            file.write("begin\n")
            file.flush()
            done = subprocess.run(
                [sys.executable, "-m", "elrun", "--standalone", *how, program],
                stdout=file if out else subprocess.PIPE,
                stderr=file if err else subprocess.PIPE,
                stdin=subprocess.DEVNULL,
                cwd=tmp_path,
                check=True,
                text=True,
            )
        said.append((done.stdout, done.stderr, (tmp_path / "file").read_text()))

    assert said[0] == said[1]


def test_standard_input_is_the_agent_s(elrun, script, tmp_path):
    """A worker may read what is piped into elrun."""
    (tmp_path / "input").write_text("one\ntwo\n")
    program = script("import sys; print([sys.stdin.readline(), sys.stdin.buffer.read()])")
    with (tmp_path / "input").open() as stdin:
        code, out, _ = elrun("--standalone", *PRELOAD, program, stdin=stdin).finish()

    assert (0, "['one\\n', b'']\n") == (code, out)


def test_a_local_rank_in_the_arguments_is_each_worker_s_own(elrun, script):
    """``${local_rank}`` is filled in."""
    program = script("import sys; sys.stdout.write(f'{sys.argv[1:]} {sys.orig_argv[-1]}\\n')")
    _, out, _ = elrun(
        "--standalone", "--nproc-per-node", 2, *PRELOAD, program, "shard-${local_rank}"
    ).finish()

    assert ["['shard-0'] shard-0", "['shard-1'] shard-1"] == sorted(out.splitlines())


def test_atexit_handlers_of_the_modules_run_in_each_worker(elrun, script, tmp_path):
    """As if the worker had imported them itself; none runs in the process that did."""
    (tmp_path / "leaver.py").write_text("import atexit; atexit.register(print, 'left')")
    _, out, _ = elrun("--standalone", "--preload", "leaver", script("print('worked')")).finish()

    assert "worked\nleft\n" == out


def test_a_temporary_folder_of_a_module_outlives_each_worker(elrun, script, tmp_path):
    """It is deleted when no worker of any attempt needs it any more."""
    (tmp_path / "maker.py").write_text("import tempfile; FOLDER = tempfile.TemporaryDirectory()")
    program = script(
        "import maker, os, sys\n"
        "sys.stdout.write(f'{maker.FOLDER.name} {os.path.isdir(maker.FOLDER.name)}\\n')\n"
        "sys.exit(os.environ['TORCHELASTIC_RESTART_COUNT'] == '0')"
    )
    code, out, _ = elrun(
        "--standalone", "--max-restarts", 1, "--preload", "maker", program
    ).finish()

    (folder, *found), (again, *found_again) = map(str.split, out.splitlines())
    assert (0, folder, ["True"], ["True"]) == (code, again, found, found_again)
    assert not os.path.exists(folder)


def test_garbage_is_looked_for_among_the_worker_s_own_only(elrun, script):
    """What was imported is left alone; collection goes on as it would, for all else."""
    program = script(
        "import gc, sys\n"
        "class Ring: pass\n"
        "ring = Ring(); ring.itself = ring; del ring\n"
        "found = gc.collect() > 0\n"
        "print(gc.isenabled(), gc.get_threshold()[0] > 0, gc.get_freeze_count() > 0, found)"
    )
    end = elrun("--standalone", *PRELOAD, program).finish()

    assert (0, "True True True True\n") == end[:2], end


def test_random_numbers_differ_from_worker_to_worker(elrun, script, tmp_path):
    """As between processes that were executed: also where a module has drawn one already."""
    (tmp_path / "drawn.py").write_text(
        "import numpy, random, torch; random.random(), numpy.random.random(), torch.rand(1)"
    )
    numbers = "[random.random(), numpy.random.random(), torch.rand(1).item(), key]"
    program = script(
        "import numpy, random, sys, torch\n"
        "from multiprocessing import process\n"
        "key = bytes(process.current_process().authkey)\n"
        f"for number in {numbers}: sys.stdout.write(f'{{number!r}}\\n')\n"
    )
    options = ("--standalone", "--nproc-per-node", 2, "--preload", "drawn")
    code, out, err = elrun(*options, program, env=ONE_THREAD).finish()

    assert (0, "") == (code, err)
    assert 8 == len(out.splitlines()) == len(set(out.splitlines()))


@pytest.mark.parametrize("text", ["", "default_generator = cuda = distributed = None"])
def test_modules_of_a_script_s_own_may_bear_a_library_s_name(both, script, tmp_path, text):
    """A stub beside the script that is called torch or numpy is imported like any module."""
    (tmp_path / "torch.py").write_text(f"NAME = 'stub'\n{text}")
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    (tmp_path / "numpy" / "random.py").write_text(text)
    program = script("import torch, numpy.random; print(torch.NAME, torch.__file__)")

    executed, preloaded = both(program, preload=("--preload", "torch,numpy.random"))

    assert (0, "stub") == (executed[0], executed[1].split()[0]), executed
    assert executed == preloaded


def test_a_customization_of_the_user_s_runs_first(elrun, script, tmp_path):
    """Python imports ``sitecustomize`` before all else, and so it does still."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.customized = True")
    program = script(
        "import os, sitecustomize, sys\n"
        "print(sys.customized, sitecustomize.__file__, os.environ['PYTHONPATH'], sys.path)"
    )
    said = [
        elrun("--standalone", *how, program, env={"PYTHONPATH": str(tmp_path)}).finish()
        for how in ((), PRELOAD)
    ]

    assert said[0] == said[1]
    assert said[0][1].startswith("True")
