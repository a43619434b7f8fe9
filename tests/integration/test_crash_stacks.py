"""Workers that crash in native code: the summary shows their Python stack."""

import textwrap

import pytest

SEGFAULT = "import ctypes\ndef load(): ctypes.string_at(0)\nload()"
CRASHES = {
    "a segmentation fault": (
        SEGFAULT,
        [
            "was killed by SIGSEGV",
            "Segmentation fault in string_at (",
            "stack of rank 0",
            "in load",
        ],
    ),
    "an abort": ("import os\nos.abort()", ["was killed by SIGABRT", "Aborted in <module> ("]),
    "a bus error": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGBUS)",
        ["was killed by SIGBUS", "Bus error in <module> (", "a file that it had mapped"],
    ),
    "a division": (
        "import os, signal\nos.kill(os.getpid(), signal.SIGFPE)",
        ["was killed by SIGFPE", "exception in <module> ("],
    ),
}


@pytest.mark.parametrize("name", CRASHES)
@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["executed", "preloaded"])
def test_a_crash_is_told_with_its_stack(elrun, script, name, options):
    """Nobody has asked for faulthandler, and nothing is printed where the worker prints."""
    source, words = CRASHES[name]

    job = elrun("--standalone", *options, script(source), env={"PYTHONFAULTHANDLER": ""})
    before, _, summary = job.finish()[2].partition("elrun: script.py failed: ")

    assert [] == [each for each in words if each not in summary]
    assert "" == before


TIME_IS_UP = {
    "of its CPU": (
        "resource.setrlimit(resource.RLIMIT_CPU, (1, 9))\n    while True: pass",
        152,
        ["it was in work (", "script.py, line 4)", "used up its CPU time: 1 s (ulimit -t)"],
    ),
    "of its own timer": (
        "signal.setitimer(signal.ITIMER_REAL, 0.1)\n    while True: pass",
        142,
        ["it was in work (", "script.py, line 4)", "a timer that it had set itself ran out"],
    ),
}


@pytest.mark.parametrize("name", TIME_IS_UP)
@pytest.mark.parametrize("options", [(), ("--preload", "json")], ids=["executed", "preloaded"])
def test_a_worker_whose_time_is_up_is_told_with_its_place(elrun, script, name, options):
    """The kernel says that its time is up, and only its stack what took so long."""
    end, code, words = TIME_IS_UP[name]
    source = f"import resource, signal\ndef work():\n    {end}\nwork()"

    job = elrun("--standalone", *options, script(source), env={"PYTHONFAULTHANDLER": ""})
    ended, _, err = job.finish()

    summary = err.partition("elrun: script.py failed: ")[2]
    assert (code, []) == (ended, [each for each in words if each not in summary]), err


@pytest.mark.parametrize("number", ["SIGALRM", "SIGXCPU"])
def test_a_signal_that_shows_places_is_the_script_s_own_all_the_same(elrun, script, number):
    """A script finds the default there, may ignore or handle the signal, and its programs die."""
    source = f"""
        import os, signal, subprocess, sys
        print(signal.getsignal(signal.{number}) == signal.SIG_DFL)
        kill = f"import os; os.kill(os.getpid(), {{signal.{number}:d}})"
        print(subprocess.run([sys.executable, "-c", kill]).returncode == -signal.{number})
        signal.signal(signal.{number}, lambda *_: print("handled"))
        os.kill(os.getpid(), signal.{number})
        signal.signal(signal.{number}, signal.SIG_IGN)
        os.kill(os.getpid(), signal.{number})
        print("end", flush=True)
    """

    job = elrun("--standalone", script(textwrap.dedent(source)), env={"PYTHONFAULTHANDLER": ""})
    ended = job.finish()

    assert (0, "True\nTrue\nhandled\nend\n") == ended[:2], ended[2]


# Prints what faulthandler has done for the script, and how the script was left.
OWN_STACKS = {
    "after a handler": (
        "signal.signal(signal.SIGALRM, lambda *_: print('handled'))\n"
        "faulthandler.register(signal.SIGALRM, file)\n"
        "ring()\nprint(faulthandler.unregister(signal.SIGALRM))\nring()\nshow()\n"
    ),
    "chained to a handler": (
        "signal.signal(signal.SIGALRM, lambda *_: print('handled'))\n"
        "faulthandler.register(signal.SIGALRM, file, chain=True)\nring()\nshow()\n"
    ),
    "without a handler": (
        "faulthandler.register(signum=signal.SIGALRM, file=file)\nring()\nshow()\n"
        "print(faulthandler.unregister(signal.SIGALRM))\n"
        "print(faulthandler.unregister(signal.SIGALRM))\n"
    ),
    "taken back, though it registered none": (
        "signal.signal(signal.SIGALRM, lambda *_: print('handled'))\n"
        "print(faulthandler.unregister(signal.SIGALRM))\nring()\n"
    ),
    "twice": (
        "for name in ('no', 'one'):\n"
        "    faulthandler.register(signal.SIGALRM, open(name, 'w+'))\n"
        "faulthandler.register(signal.SIGALRM, file)\nring()\nshow()\n"
    ),
}


@pytest.mark.parametrize("name", OWN_STACKS)
def test_a_script_s_own_stacks_at_a_signal_are_as_without_the_hook(elrun, script, name):
    """It may register what it likes, before or after it has set a handler."""
    source = (
        "import faulthandler, signal\nfile = open('stack', 'w+')\n"
        "def ring(): signal.raise_signal(signal.SIGALRM)\n"
        "def show(): file.seek(0); print('in ring' in file.read())\n"
        f"{OWN_STACKS[name]}print('end', flush=True)\n"
    )
    path = script(source)
    env = {"PYTHONFAULTHANDLER": ""}

    plain = elrun("--standalone", path, env={**env, "ELRUN_WORKER_HOOK": "0"}).finish()
    hooked = elrun("--standalone", path, env=env).finish()

    assert plain == hooked
    assert (0, True) == (hooked[0], hooked[1].endswith("end\n"))


@pytest.mark.parametrize("how", ["variable", "call"])
def test_a_stack_that_the_user_asked_for_stays_where_it_was(elrun, script, tmp_path, how):
    """It is on standard error, and we write none."""
    begin = "" if how == "variable" else "import faulthandler\nfaulthandler.enable()\n"
    env = {"PYTHONFAULTHANDLER": "1" if how == "variable" else ""}
    job = elrun("--standalone", "--log-dir", tmp_path / "logs", script(begin + SEGFAULT), env=env)

    err = job.finish()[2]

    assert "Fatal Python error: Segmentation fault" in err.partition("elrun:")[0]
    assert 0 == sum(path.stat().st_size for path in (tmp_path / "logs").rglob("*.stacks"))


@pytest.mark.parametrize("end", ["sys.exit(rank)", "rank and sys.exit(3); time.sleep(600)"])
def test_no_empty_file_for_stacks_is_left(elrun, script, tmp_path, end):
    """A worker that ends by itself removes its own; that of one that is stopped, the agent does."""
    source = f"import os, sys, time\nrank = int(os.environ['RANK'])\n{end}"
    logs = ("--log-dir", tmp_path / "logs")

    elrun("--standalone", "--nproc-per-node", 2, *logs, script(source)).finish()

    assert [] == list((tmp_path / "logs").rglob("*.stacks"))


@pytest.mark.parametrize("options", [(), ("--tee", "3")], ids=["pipe", "tee"])
def test_an_abort_on_the_way_out_does_not_hide_the_exception(elrun, script, options):
    """A library's thread may end an interpreter that an exception has ended already."""
    text = """
        import atexit, os
        words = b"terminate called without an active exception" + bytes([10])
        atexit.register(lambda: (os.write(2, words), os.abort()))
        raise ValueError("no such shard")
    """
    job = elrun("--standalone", *options, script(textwrap.dedent(text)))

    code, _, err = job.finish()

    assert 134 == code
    head = err.rpartition("script.py failed: ")[2].partition("see ")[0]
    assert "rank 0 was killed by SIGABRT" in head
    assert head.endswith("  ValueError: no such shard\n  ")
