"""Programs that treat their process in ways of their own: each restarts and ends as any other."""

import pytest

# Each does it first; rank 1 of the first attempt then raises an error.
BEGIN = """
import atexit, ctypes, faulthandler, io, os, resource, signal, subprocess, sys, time
libc = ctypes.CDLL(None)
"""
END = """
if int(os.environ["RANK"]) and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    raise RuntimeError("the first time")
sys.stdout.write("done\\n")
sys.stdout.flush()
"""
PROGRAMS = {
    "closes all descriptors": "os.closerange(3, 1024)",
    "closes all descriptors at its end": "atexit.register(os.closerange, 3, 1024)",
    "executes itself": """
if "AGAIN" not in os.environ:
    os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "AGAIN": "1"})
""",
    "works in a child": """
if pid := os.fork():
    os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
""",
    "ignores the end of children": """
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
subprocess.run(["true"])
""",
    "ignores all signals": """
for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
    if number < signal.SIGRTMIN:
        signal.signal(number, signal.SIG_IGN)
""",
    "blocks all signals": "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "has a stream of its own": "sys.stdout = io.TextIOWrapper(os.fdopen(1, 'wb', 0))",
    "has no standard error": "sys.stderr = None",
    "sends its streams elsewhere": """
kept = os.dup(1)
for number in (1, 2):
    os.dup2(os.open(os.devnull, os.O_WRONLY), number)
sys.stdout = os.fdopen(kept, "w")
""",
    "renounces its parent's death signal": "libc.prctl(1, 0)",
    "adopts orphans": "libc.prctl(36, 1)",
    "may not be traced": "libc.prctl(4, 0)",
    "has a name with a parenthesis": "libc.prctl(15, b'my (worker)) R')",
    "has few descriptors": "resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))",
    "leaves its folder": "os.chdir('/'), os.umask(0o777)",
    "imports in its own way": """
import builtins
before = builtins.__import__
builtins.__import__ = lambda *given, **named: before(*given, **named)
""",
    "traces itself": "sys.settrace(lambda *_: None)",
    "forgets its environment": """
kept = {name: os.environ[name] for name in ("RANK", "TORCHELASTIC_RESTART_COUNT")}
os.environ.clear()
os.environ.update(kept)
""",
}


@pytest.mark.parametrize("options", [(), ("--preload", "auto")], ids=["executed", "learnt"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_may_treat_its_process_in_its_own_way(elrun, script, name, options):
    """A rank fails in the first attempt; both ranks end well in the second."""
    program = script(BEGIN + PROGRAMS[name] + END)
    job = elrun("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, *options, program)
    code, out, err = job.finish()

    assert 0 == code, err
    assert out.count("done") in {2, 3}, out
    assert "restart 1 of 1" in err
