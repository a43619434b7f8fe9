"""What is found in the end of a worker's standard error, whatever was printed around it."""

import subprocess
import sys

import pytest
from elrun.agent.failures.last_words import (
    LastWords,
    Speech,
    abort_reason_in,
    crash_in,
    last_words_in,
    place_of_abort,
    tells_of_another_process,
    words_before_traceback,
)

PLAIN = """Traceback (most recent call last):
  File "train.py", line 7, in <module>
    main()
  File "train.py", line 3, in main
    raise ValueError("no such shard")
ValueError: no such shard
"""
CHAINED = """Traceback (most recent call last):
  File "train.py", line 2, in <module>
    {}["a"]
KeyError: 'a'

The above exception was the direct cause of the following exception:

Traceback (most recent call last):
  File "train.py", line 4, in <module>
    raise RuntimeError("asked for a") from error
RuntimeError: asked for a
"""
GROUP = """  + Exception Group Traceback (most recent call last):
  |   File "train.py", line 1, in <module>
  |     raise ExceptionGroup("two shards", [ValueError("one"), OSError("two")])
  | ExceptionGroup: two shards (2 sub-exceptions)
  +-+---------------- 1 ----------------
    | ValueError: one
    +---------------- 2 ----------------
    | OSError: two
    +------------------------------------
"""
MARKED = "".join(f"[rank3]: {line}\n" for line in PLAIN.splitlines())
TORCH_TYPE = PLAIN.replace("ValueError: no such", "torch.OutOfMemoryError: CUDA out of memory, no")
CRASH = """Fatal Python error: Segmentation fault

Current thread 0x00007f6ac1b03b80 (most recent call first):
  File "/lib/ctypes/__init__.py", line 525 in string_at
  File "train.py", line 1 in <module>

Extension modules: numpy.core._multiarray_umath, torch._C (total: 2)
"""
NO_PYTHON = """Thread 0x00007f6ac1b03b80 (most recent call first):
  File "/home/me/train.py", line 5 in wait
"""
BESIDE = "a thread that runs no Python code, while the main thread was in "
BESIDE_WAIT = f"{BESIDE}wait (/home/me/train.py, line 5)"
BESIDE_LOAD = f"{BESIDE}load (/home/me/t.py, line 20)"
TERMINATE = """terminate called after throwing an instance of 'c10::DistBackendError'
  what():  [PG ID 0 Rank 2] Watchdog caught collective operation timeout
Exception raised from checkTimeout at ProcessGroupNCCL.cpp:632 (most recent call first):
"""
ABORTED = CRASH.replace("Segmentation fault", "Aborted").replace("string_at", "all_reduce")
SEGV = "Segmentation fault in string_at (/lib/ctypes/__init__.py, line 525)"
NO_SHARD = "ValueError: no such shard"
PROGRESS = "epoch 1:  10%|#    | 1/10\repoch 1:  20%|##   | 2/10\repoch 1:  30%|###  | 3/10"

TIMED_OUT = """Timeout (0:00:03)!
Thread 0x00007f3896ffcb80 (most recent call first):
  File "train.py", line 5 in wait
  File "train.py", line 6 in <module>
"""

FRAME = 'Traceback (most recent call last):\n  File "train.py", line 3, in work\n    work()\n'
NEVER_RETRIEVED = f"""Task exception was never retrieved
future: <Task finished name='reader' coro=<work() done, defined at x.py:2> exception=KeyError('a')>
{FRAME}KeyError: 'a'
"""
# What PYTHONASYNCIODEBUG=1 adds.
DEBUGGED = NEVER_RETRIEVED.replace(
    FRAME,
    "source_traceback: Object created at (most recent call last):\n"
    '  File "train.py", line 8, in <module>\n    asyncio.run(main())\n' + FRAME,
)
IN_CALLBACK = f"""Exception in callback tick(3) at train.py:4
handle: <TimerHandle when=4.5 tick(3) at train.py:4>
{FRAME}KeyError: 'a'
"""
IGNORED = f"Exception ignored in: <function Shard.__del__ at 0x7fe1>\n{FRAME}KeyError: 'a'\n"
CHAINED_AND_IGNORED = IGNORED.replace(f"{FRAME}KeyError: 'a'\n", CHAINED)
IN_TASK = "KeyError: 'a' (in the asyncio task 'reader', whose result nobody took)"
AT_DEL = "(Python ignored it in function Shard.__del__)"

FOUND = {
    "of a task that nobody awaited": ("step 1\n" + NEVER_RETRIEVED, Speech.LINES, IN_TASK),
    "the same, as a log has it": (
        f"12:03 ERROR asyncio {NEVER_RETRIEVED}bye\n",
        Speech.LINES,
        IN_TASK,
    ),
    "the same in asyncio's debug mode": ("step 1\n" + DEBUGGED, Speech.LINES, IN_TASK),
    "that, after another": (PLAIN + DEBUGGED, Speech.TRACEBACK, NO_SHARD),
    "of a callback": (
        IN_CALLBACK,
        Speech.LINES,
        "KeyError: 'a' (in the asyncio callback 'tick', which ends nothing)",
    ),
    "of a callback, after another": (PLAIN + IN_CALLBACK, Speech.TRACEBACK, NO_SHARD),
    "of a future": (
        NEVER_RETRIEVED.replace("Task ", "Future ").replace(
            "<Future finished name='reader' coro=<work() done, defined at x.py:2>",
            "<Future finished",
        ),
        Speech.LINES,
        "KeyError: 'a' (in the asyncio future, whose result nobody took)",
    ),
    "one that Python ignored": (IGNORED, Speech.LINES, f"KeyError: 'a' {AT_DEL}"),
    "one of a function of atexit": (
        IGNORED.replace("in: <function Shard.__del__", "in atexit callback: <function bye"),
        Speech.LINES,
        "KeyError: 'a' (Python ignored it in atexit callback: function bye)",
    ),
    "a chain that Python ignored": (
        CHAINED_AND_IGNORED,
        Speech.LINES,
        f"RuntimeError: asked for a {AT_DEL}",
    ),
    "one that Python ignored, after another": (PLAIN + IGNORED, Speech.TRACEBACK, NO_SHARD),
    "a task's, before another": (NEVER_RETRIEVED + PLAIN, Speech.TRACEBACK, NO_SHARD),
    "a telling line, and a task's": (
        "FATAL: no license\n" + NEVER_RETRIEVED,
        Speech.LINES,
        "FATAL: no license",
    ),
    "a traceback": (PLAIN, Speech.TRACEBACK, "ValueError: no such shard"),
    "words after it": (PLAIN + "saving\nbye\n", Speech.TRACEBACK, "ValueError: no such shard"),
    "words before it": ("step 1\n" * 9 + PLAIN, Speech.TRACEBACK, "ValueError: no such shard"),
    "the last of two": (PLAIN + "again\n" + CHAINED, Speech.TRACEBACK, "RuntimeError: asked for a"),
    "a chain": (CHAINED, Speech.TRACEBACK, "RuntimeError: asked for a"),
    "a group": (GROUP, Speech.TRACEBACK, "ExceptionGroup: two shards (2 sub-exceptions)"),
    "marked lines": (MARKED, Speech.TRACEBACK, "ValueError: no such shard"),
    "a type with dots": (
        TORCH_TYPE,
        Speech.TRACEBACK,
        "torch.OutOfMemoryError: CUDA out of memory, no shard",
    ),
    "a type alone": (
        PLAIN.replace("ValueError: no such shard", "KeyboardInterrupt"),
        Speech.TRACEBACK,
        "KeyboardInterrupt",
    ),
    "a text of lines": (
        PLAIN.replace("ValueError: no such shard", "ValueError: \n\nthe reason"),
        Speech.TRACEBACK,
        "ValueError: the reason",
    ),
    "carriage returns": (
        PLAIN.replace("\n", "\r\n"),
        Speech.TRACEBACK,
        "ValueError: no such shard",
    ),
    "a crash": (
        CRASH,
        Speech.CRASH,
        SEGV,
    ),
    "a crash after a traceback": (
        PLAIN + CRASH,
        Speech.CRASH,
        SEGV,
    ),
    "stacks after a time": (
        "step 1\n" + TIMED_OUT,
        Speech.CRASH,
        "Timeout (0:00:03)! in wait (train.py, line 5)",
    ),
    "words after stacks after a time": (
        TIMED_OUT + "FATAL: no such shard\n",
        Speech.LINES,
        "FATAL: no such shard",
    ),
    "C++": (
        TERMINATE,
        Speech.TERMINATE,
        "c10::DistBackendError: [PG ID 0 Rank 2] Watchdog caught collective operation timeout",
    ),
    "C++ and its stack": (
        TERMINATE + ABORTED,
        Speech.TERMINATE,
        "c10::DistBackendError: [PG ID 0 Rank 2] Watchdog caught collective operation timeout",
    ),
    "bash": (
        "starting\nrun.sh: line 3: no-such-tool: command not found\n",
        Speech.LINES,
        "run.sh: line 3: no-such-tool: command not found",
    ),
    "bash's variable": (
        "run.sh: line 2: DATA: unbound variable\n",
        Speech.LINES,
        "run.sh: line 2: DATA: unbound variable",
    ),
    "perl": (
        "reading\nno such shard: 7 at ./train.pl line 3.\nclosing\n",
        Speech.LINES,
        "no such shard: 7 at ./train.pl line 3.",
    ),
    "Rust": (
        (
            "\nthread 'main' panicked at src/main.rs:2:5:\nno such shard: 7\n"
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n"
        ),
        Speech.LINES,
        "thread 'main' panicked at src/main.rs:2:5: no such shard: 7",
    ),
    "Julia": (
        (
            "ERROR: LoadError: no such shard: 7\nStacktrace:\n [1] error(s::String)\n"
            "   @ Base ./error.jl:35\n [2] top-level scope\n   @ ~/train.jl:1\n"
            "in expression starting at train.jl:1\n"
        ),
        Speech.LINES,
        "ERROR: LoadError: no such shard: 7",
    ),
    "Java": (
        (
            'Exception in thread "main" java.lang.RuntimeException: cannot load\n'
            "\tat Main.error(Main.java:5)\nCaused by: java.io.IOException: disk gone\n"
            "\tat Disk.failed(Disk.java:7)\n\t... 1 more\n"
        ),
        Speech.LINES,
        "Caused by: java.io.IOException: disk gone",
    ),
    "JavaScript": (
        (
            '/x.js:1\nthrow new Error("x");\n^\n\nError: no such shard: 7\n'
            "    at Object.error (/x.js:1:7)\n    at node:internal/main:36:49\n\nNode.js v22.0.0\n"
        ),
        Speech.LINES,
        "Error: no such shard: 7",
    ),
    "Go": (
        (
            "panic: no such shard: 7\n\ngoroutine 1 [running]:\nmain.failed()\n\t/x.go:4 +0x39\n"
            "exit status 2\n"
        ),
        Speech.LINES,
        "panic: no such shard: 7",
    ),
    "a level of a log": (
        "2026-11-27 03:50:30,805 CRITICAL no such shard: 7\nshutting down\n",
        Speech.LINES,
        "2026-11-27 03:50:30,805 CRITICAL no such shard: 7",
    ),
    "advice after it": (
        (
            "Could not override 'lrr'.\nTo append to your config use +lrr=1\n\n"
            "Set the environment variable HYDRA_FULL_ERROR=1 for a complete stack trace.\n"
        ),
        Speech.LINES,
        "Could not override 'lrr'.",
    ),
    "CUDA's advice": (
        (
            "CUDA error: device-side assert triggered\nCUDA kernel errors might be asynchronously "
            "reported at some other API call, so the stacktrace below might be incorrect.\n"
            "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
            "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n"
        ),
        Speech.LINES,
        "CUDA error: device-side assert triggered",
    ),
    "a word that tells less": (
        "step 1\nlr must be positive\nbye\n",
        Speech.LINES,
        "lr must be positive",
    ),
    "a word that tells less, after an error": (
        "error: no such shard\nbye, the shard is missing\n",
        Speech.LINES,
        "error: no such shard",
    ),
    "one line alone": ("shard 7 is gone\n", Speech.LINES, "shard 7 is gone"),
    "two lines": ("shard 7 is gone\nbye\n", Speech.LINES, ""),
    "FATAL": ("FATAL: no license\nplease call us\n", Speech.LINES, "FATAL: no license"),
    "glibc": ("malloc(): corrupted top size\n", Speech.LINES, "malloc(): corrupted top size"),
    "an assertion": (
        "step 3\nx: x.c:5: main: Assertion `n > 0' failed.\nAborted (core dumped)\n",
        Speech.LINES,
        "x: x.c:5: main: Assertion `n > 0' failed.",
    ),
    "a fatal line of glog": (
        (
            "I1127 07:10:11.1 12 a.cc:1] loading\n"
            "F1127 07:10:11.1 12 a.cc:2] Check failed: n == 8\n"
            "*** Check failure stack trace: ***\n    @  0x7f00  main\n"
        ),
        Speech.LINES,
        "F1127 07:10:11.1 12 a.cc:2] Check failed: n == 8",
    ),
    "a text of several lines": (
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
            "RuntimeError: \n      An attempt was made\n      too early.\n\n      See there.\n"
        ),
        Speech.TRACEBACK,
        "RuntimeError: An attempt was made too early.",
    ),
    "a text that begins with a rule": (
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in f\n'
            "x.ChildFailedError: \n=====\ninner.py FAILED\n-----\nFailures:\n"
        ),
        Speech.TRACEBACK,
        "x.ChildFailedError: inner.py FAILED",
    ),
    "nothing telling": ("step 1\nstep 2\n", Speech.LINES, ""),
    "an exception of C++ without a text": (
        "terminate called after throwing an instance of 'int'\n",
        Speech.TERMINATE,
        "a C++ exception of type int",
    ),
    "a progress bar": (PROGRESS, Speech.LINES, ""),
    "noise": ("[W1126 12:00 x.cpp:1] Warning: leaked\n\n\n", Speech.NOTHING, ""),
    "nothing": ("", Speech.NOTHING, ""),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_line_that_says_what_went_wrong_is_found(name):
    """The last traceback, stack or exception; else a line that tells of an error."""
    text, speech, words = FOUND[name]

    found = last_words_in(text)

    assert (speech, words) == (found.speech, found.words)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"before\n{PLAIN}after\n", f"{PLAIN}after"),
        (f"before\n{CHAINED}", CHAINED.rstrip("\n")),
        (f"before\n{MARKED}", MARKED.rstrip("\n")),
        (f"before\n{GROUP}", GROUP.rstrip("\n")),
        (f"before\n{TERMINATE}", TERMINATE.rstrip("\n")),
        (CRASH, "\n".join(CRASH.splitlines()[2:5])),
        (PROGRESS, "epoch 1:  30%|###  | 3/10"),
        ("".join(f"step {number}\n" for number in range(99)), "\n".join(
            f"step {number}" for number in range(79, 99)
        )),
    ],
)  # fmt: skip
def test_the_text_that_belongs_to_it_is_shown(text, expected):
    """With its causes, and with what was printed after it."""
    assert expected == last_words_in(text).text


def test_a_line_that_is_cut_off_says_nothing():
    """It may be the end of any line."""
    assert LastWords() == last_words_in("error: half a line", is_whole=False)


def test_a_traceback_that_is_cut_off_is_none():
    """A worker may be killed while it prints."""
    text = PLAIN.rpartition("ValueError")[0]

    assert Speech.LINES is last_words_in(text).speech


@pytest.mark.parametrize(
    "text",
    [
        "x" * (1 << 16),
        "Traceback (most recent call last):\n" * 1800,
        "The above exception was the direct cause of the following exception:\n" * 900,
        "\r" * (1 << 16),
        "terminate called after throwing\n" * 2000,
        "Fatal Python error: x\n" * 2900,
        "\x1b[31m\x00" * 9000,
        "  " * (1 << 15),
    ],
)
def test_hostile_words_end_in_time(text):
    """64 KiB of anything take no more than a moment; what is shown is bounded."""
    found = last_words_in(text)

    assert len(found.words) <= 1_000


LIBRARY = "string_at (/usr/lib/python3.11/ctypes/__init__.py, line 519)"
OF_A_LIBRARY = """\
Fatal Python error: Segmentation fault

Current thread 0x00007f0000000000 (most recent call first):
  File "/usr/lib/python3.11/ctypes/__init__.py", line 519 in string_at
  File "/v/lib/python3.11/site-packages/x.py", line 4 in g
  File "/home/me/t.py", line 5 in f
  File "/home/me/t.py", line 6 in <module>

Thread 0x00007f0000000001 (most recent call first):
  File "/home/other/u.py", line 9 in other
"""


TOO_MANY = "\n".join([NO_PYTHON] * 100) + "\n...\n"
OF_ITSELF = "it was in string_at (/lib/ctypes/__init__.py, line 525)"
OF_A_CHILD = """Thread 0x00007f0000000003 (most recent call first):
  File "/home/me/t.py", line 30 in watch

Current thread 0x00007f0000000002 (most recent call first):
  File "/home/me/t.py", line 20 in load
"""


@pytest.mark.parametrize(
    ("text", "exitcode", "words"),
    [
        (CRASH, -11, SEGV),
        (ABORTED, -6, "Aborted in all_reduce (/lib/ctypes/__init__.py, line 525)"),
        (
            ABORTED + CRASH,
            -11,
            "Segmentation fault in string_at (/lib/ctypes/__init__.py, line 525)",
        ),
        (
            OF_A_LIBRARY,
            -11,
            f"Segmentation fault in {LIBRARY}, called in f (/home/me/t.py, line 5)",
        ),
        (
            OF_A_LIBRARY.replace("/home/me", "/v/site-packages"),
            -11,
            f"Segmentation fault in {LIBRARY}",
        ),
        (
            "Fatal Python error: Aborted\n\n" + NO_PYTHON,
            -6,
            f"Aborted in {BESIDE_WAIT}",
        ),
        ("Fatal Python error: Segmentation fault\n\n" + TOO_MANY, -11, "Segmentation fault"),
        (TOO_MANY, -24, ""),
        (
            "Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n"
            "  <no Python frame>\n\n" + NO_PYTHON,
            -6,
            f"Aborted in {BESIDE_WAIT}",
        ),
        (
            "Fatal Python error: Aborted\n\n" + OF_A_CHILD.replace("Current t", "T"),
            -6,
            f"Aborted in {BESIDE_LOAD}",
        ),
        (
            "Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n"
            "  <no Python frame>\n\n" + TOO_MANY,
            -6,
            "Aborted in a thread that runs no Python code",
        ),
        (
            "Fatal Python error: Aborted\n\n" + NO_PYTHON.partition("\n")[0] + "\n",
            -6,
            "Aborted in a thread that runs no Python code",
        ),
        (
            CRASH.partition("\n\n")[2],
            -24,
            OF_ITSELF,
        ),
        (OF_A_CHILD + CRASH.partition("\n\n")[2], -24, OF_ITSELF),
        (OF_A_CHILD + NO_PYTHON, -24, f"it was in {BESIDE_WAIT}"),
        (OF_A_CHILD, -14, "it was in load (/home/me/t.py, line 20)"),
        ("", -24, ""),
        (CRASH, -6, ""),
        ("", -11, ""),
        ("nonsense\n", -11, ""),
    ],
)
def test_a_stack_counts_if_it_is_of_the_signal_that_killed(text, exitcode, words):
    """Another one may be of a child, or of a signal that was survived."""
    assert words == crash_in(text, exitcode).words


def test_of_stacks_that_were_cut_no_thread_is_said_to_run_no_python():
    """The one that has called ``abort`` may be below the cut."""
    stacks = "\n".join([NO_PYTHON] * 100)
    cut = last_words_in(f"Fatal Python error: Aborted\n\n{stacks}").text

    assert ["", BESIDE_WAIT] == [place_of_abort(cut), place_of_abort(NO_PYTHON)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (("F1127 07:10:11.1 12 a.cc:2] Check failed: n == 8\n*** Check failure stack trace: ***\n"
         "    @  0x7f00  main\n"), "F1127 07:10:11.1 12 a.cc:2] Check failed: n == 8"),
        ("2026-11-27 07:10:11.1: F core/env.cc:74] Check failed: ret == 0\n",
         "2026-11-27 07:10:11.1: F core/env.cc:74] Check failed: ret == 0"),
        ("*** stack smashing detected ***: terminated\n",
         "*** stack smashing detected ***: terminated"),
        ("loading\n", ""),
    ],
)  # fmt: skip
def test_what_was_said_before_an_abort_is_found(text, reason):
    """By libc, and by the libraries that check in C++."""
    assert reason == abort_reason_in(text)


FAULT = "import faulthandler, os, signal; faulthandler.enable(); os.kill(os.getpid(), signal.{})"


@pytest.mark.integration
@pytest.mark.parametrize("name", ["SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT"])
def test_the_words_of_this_python_are_known(name):
    """They differ between versions."""
    done = subprocess.run(
        [sys.executable, "-c", FAULT.format(name)], capture_output=True, text=True, check=False
    )

    assert "in <module> (<string>, line 1)" in crash_in(done.stderr, done.returncode).words


CHILD = "warming up\nconvert: no such shard: 7\n"


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        (
            CHILD + PLAIN,
            "CalledProcessError: 'convert' returned non-zero exit status 1.",
            "convert: no such shard: 7",
        ),
        (
            PLAIN + PLAIN,
            "RuntimeError: DataLoader worker (pid 7) exited unexpectedly",
            "ValueError: no such shard",
        ),
        (
            PLAIN + CHAINED,
            "BrokenProcessPool: A process was terminated abruptly",
            "ValueError: no such shard",
        ),
        (
            CHILD,
            "ProcessExitedException: process 0 terminated with exit code 1",
            "convert: no such shard: 7",
        ),
        (PLAIN, "CalledProcessError: 'x' died with <Signals.SIGKILL: 9>.", ""),
        ("", "CalledProcessError: 'x' died with <Signals.SIGKILL: 9>.", ""),
        (CHILD + PLAIN, "E: returned non-zero exit status 1: convert: no such shard: 7", ""),
    ],
)
def test_what_a_child_printed_before_is_found(text, words, expected):
    """Where the exception only tells how the child ended."""
    assert (True, expected) == (
        tells_of_another_process(words),
        words_before_traceback(text, words),
    )


def test_an_exception_of_its_own_tells_of_no_other_process():
    """What was printed before it may be about anything."""
    assert not tells_of_another_process("ValueError: no such shard: 7")
