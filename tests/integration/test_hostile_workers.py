"""Nothing that a worker prints or leaves can break, block or grow its agent."""

import os
import re
import subprocess
import sys
import threading

import pytest

MOST_KIB = 150 << 10
# Its memory is asked for at its end: what `wait4` tells includes the process that forked it.
AGENT = """
import atexit, pathlib, runpy, sys
most = pathlib.Path("most")
atexit.register(lambda: most.write_text(pathlib.Path("/proc/self/status").read_text()))
sys.argv[0] = "elrun"
runpy.run_module("elrun", run_name="__main__", alter_sys=True)
"""
LEAVE = """
import os, signal, sys, threading
record = os.environ["TORCHELASTIC_ERROR_FILE"]
def put(suffix, chunk, count):
    with open(record + suffix, "wb") as file:
        for _ in range(count): file.write(chunk)
def pipe(suffix):
    if os.path.lexists(record + suffix): os.unlink(record + suffix)
    os.mkfifo(record + suffix)
def link(suffix, target):
    if os.path.lexists(record + suffix): os.unlink(record + suffix)
    os.symlink(target, record + suffix)
"""
SEGV = "os.kill(os.getpid(), signal.SIGSEGV)"
ODD_VALUES = (
    '{"message": {"message": [1e999], "extraInfo": {"timestamp": "9e99", '
    '"py_callstack": {"a": null}, "type": [[]], "bases": 7}}}'
)
THREAD = """
def work(): raise ValueError("lost")
one = threading.Thread(target=work, name="\\x1b[2J\\n\\n")
one.start()
one.join()
os._exit(3)
"""
GROWS = """
class Odd(Exception):
    def __str__(self): return "x" * (1 << 24)
try:
    raise Odd
except Odd as error:
    raise Odd from error
"""
ENDLESS = "a, b = ValueError('a'), ValueError('b')\na.__cause__, b.__cause__ = b, a\nraise a"
GROUPS = """
group = ValueError("x")
for _ in range(9): group = ExceptionGroup("g", [group] * 2)
raise group
"""
COSTLY = """
for start in ("thread 'a' ", "a: Assertion `", "*** ", "what():  ", "a Warning: "):
    sys.stderr.write((start + "' a: b " * 900 + "\\n") * 3)
os.abort()
"""
SAY = "for _ in range({}): sys.{}.write({!r} * (1 << 20))\nos._exit(3)"
PUT = "put('', {!r}, {})\nos._exit(3)"
# Name, what the worker does, elrun's exit code, and words of the report.
WORKERS = {
    "a line of 300 MB": (SAY.format(300, "stderr", "x"), 3, "code 3"),
    # Before each line stands its rank: that makes eleven times as much.
    "30 million line ends": (SAY.format(30, "stderr", "\n"), 3, "code 3"),
    "30 million lines of a bar": (SAY.format(30, "stdout", "\r"), 3, "code 3"),
    "a record of 300 MB": (
        "put('', b'{\"message\": \"' + b'x' * (1 << 20), 300)\nos._exit(3)", 3, "code 3",
    ),
    "a record of ten gigabytes of nothing": (
        "put('', b'x', 1); os.truncate(record, 10 << 30)\nos._exit(3)", 3, "code 3",
    ),
    "a record that is too deep": (PUT.format(b"[" * 10_000, 50), 3, "code 3"),
    "a record of NULs": (PUT.format(bytes(100), 1), 3, "code 3"),
    "a record that is no UTF-8": (PUT.format(b'{"message": "\xff\xfe\xf0("}', 1), 3, "code 3"),
    "a record with odd values": (PUT.format(ODD_VALUES.encode(), 1), 3, "code 3"),
    "a pipe as a record": ("pipe('')\nos._exit(3)", 3, "code 3"),
    "a pipe as a kept record": ("pipe('.kept')\nos._exit(3)", 3, "code 3"),
    "a pipe as stacks": (f"pipe('.stacks')\n{SEGV}", 139, "SIGSEGV"),
    "a device as a record": ("link('', '/dev/zero')\nos._exit(3)", 3, "code 3"),
    "a device as stacks": (f"link('.stacks', '/dev/zero')\n{SEGV}", 139, "SIGSEGV"),
    "a pipe as a record of an exception": ("pipe('')\nraise ValueError('x')", 1, "code 1"),
    "escapes": ("raise ValueError('\\x1b]0;mine\\x07\\x1b[2J\\r\\u202e\\x9b2J')", 1, "ValueError"),
    "escapes in a type's name": ("raise type('A\\x1b[2J\\nB', (Exception,), {})('x')", 1, "x"),
    "escapes in a thread's name": (THREAD, 3, "ValueError: lost"),
    "escapes in a file's name": (
        "exec(compile('1 / 0', '\\x1b[2J\\n/x\\n', 'exec'))", 1, "ZeroDivisionError",
    ),
    "last words that are no UTF-8": (
        "os.write(2, b'\\xff\\0 FATAL: \\xf0( \\x1b[2J no shard\\n')\nos._exit(3)", 3, "no shard",
    ),
    "a text that grows": (GROWS, 1, "Odd: xxx"),
    "a chain without an end": (ENDLESS, 1, "ValueError: a"),
    "groups in groups": (GROUPS, 1, "ExceptionGroup: g"),
    "tracebacks that go on": (
        "sys.stderr.write('Traceback (most recent call last):\\n' * 999); os._exit(3)", 3, "code 3",
    ),
    "lines that cost a pattern much": (COSTLY, 134, "SIGABRT"),
}  # fmt: skip


@pytest.mark.timeout(200)
@pytest.mark.parametrize("options", [(), ("--tee", "3")], ids=["pipe", "tee"])
@pytest.mark.parametrize("name", WORKERS)
def test_a_worker_can_t_harm_its_agent(name, options, script, tmp_path):
    """The report comes, names the rank, moves no cursor, and the agent stays small."""
    body, code, words = WORKERS[name]
    if "ExceptionGroup" in body and sys.version_info < (3, 11):
        pytest.skip("Python has groups from 3.11 on")
    process = subprocess.Popen(
        [sys.executable, "-c", AGENT, "--standalone", *options, script(LEAVE + body)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        env={**os.environ, "PYTHONFAULTHANDLER": "", "TMPDIR": str(tmp_path)},
    )
    kept = bytearray()

    def read():
        while chunk := process.stderr.read1(1 << 20):
            kept.extend(chunk)
            del kept[: -(1 << 20)]

    reader = threading.Thread(target=read)
    reader.start()
    try:
        _, status = os.waitpid(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:  # of a test that takes too long, too
        process.kill()
    reader.join()
    process.stderr.close()

    report = kept.decode(errors="replace").rpartition("elrun: script.py failed: ")[2]
    assert (code, True) == (process.returncode, report.startswith("rank 0 "))
    assert words in report
    assert [] == re.findall(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", report)
    (most,) = re.findall(r"VmHWM:\s*(\d+) kB", (tmp_path / "most").read_text())
    assert int(most) < MOST_KIB or "grows" in name
    assert len(report) < 1 << 17
