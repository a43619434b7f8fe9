"""The gallery's table: every kind of death, by a name. To add a kind, add an entry."""

from gallery.kind import Kind

_RANK = "import os\nrank = int(os.environ['RANK'])\n"
_WAIT = "import time\ntime.sleep(600)\n"
_GROUP = """import os, sys, time
import torch
import torch.distributed as dist
dist.init_process_group("gloo")
rank = dist.get_rank()
def train():
    for step in range(1000):
        if rank == 1 and step == 5:
            end()
        dist.all_reduce(torch.ones(4))
"""


def _python(title: str, guilty: str, *words: str, **more) -> Kind:
    """Return a kind in which rank 1 does something, and rank 0 trains on."""
    lines = "".join(f"    {line}\n" for line in guilty.strip("\n").split("\n"))
    return Kind(title, f"{_RANK}if rank == 1:\n{lines}{_WAIT}", words, **more)


def _both(title: str, worker: str, *words: str, **more) -> Kind:
    """Return a kind that ends each rank alike: the first one is named, whichever that is."""
    return Kind(title, worker, words, culprit=-1, **more)


def _peers(title: str, end: str, train: str, *words: str, **more) -> Kind:
    """Return a kind in which rank 1 leaves a collective."""
    return Kind(title, f"{_GROUP}def end():\n    {end}\n{train}\n", words, is_slow=True, **more)


def _program(title: str, worker: str, *words: str, **more) -> Kind:
    """Return a kind whose program is not Python, or has no hook."""
    name = more.pop("program", "train.sh")
    return Kind(title, worker, words, program=name, before=("--no-python",), after=(f"./{name}",), **more)


_SH = '#!/bin/bash\nif [ "$RANK" = 0 ]; then exec sleep 600; fi\n'
_CC = '#include <cstdlib>\n#include <stdexcept>\n#include <unistd.h>\n{}int main() {{\n' \
      '  if (std::getenv("RANK")[0] == \'0\') sleep(600);\n{}}}\n'

KINDS: dict[str, Kind] = {
    "exception": _python("An exception", "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7",
                         below=("train.py", "line 4")),
    "recorded": _python("An exception under torch's @record",
        "from torch.distributed.elastic.multiprocessing.errors import record\n@record\ndef main():\n"
        "    raise ValueError('no such shard: 7')\nmain()", "ValueError: no such shard: 7", is_slow=True, below=("in main",)),
    "chained": _python("A chain of exceptions",
        "try:\n    {}['shard-7']\nexcept KeyError as error:\n    raise RuntimeError('the index is damaged') from error",
        "RuntimeError: the index is damaged", below=("KeyError: 'shard-7'", "direct cause")),
    "group": _python("A group of exceptions",
        "raise ExceptionGroup('two shards', [ValueError('one is short'), OSError('two is gone')])",
        "ExceptionGroup: two shards", "ValueError: one is short", "OSError: two is gone", below=("| OSError: two is gone",)),
    "deep": _python("A recursion without an end", "def f(n):\n    return f(n + 1)\nf(0)",
        "RecursionError: maximum recursion depth exceeded", below=("in f", "Previous line repeated")),
    "many lines": _python("An exception whose text has 2,000 lines",
        "def load():\n    raise ValueError('bad rows:\\n' + '\\n'.join(f'row {n} is bad' for n in range(2000)))\nload()",
        "ValueError: bad rows:", below=("in load", "line 6", "row 0 is bad", "row 1999 is bad", "left out")),
    "long line": _python("An exception whose text is a megabyte long",
        "def load():\n    raise ValueError('x' * 1_000_000)\nload()",
        "ValueError: xxx", below=("in load", "left out")),
    "followed by words": _python("An exception, and many words after it",
        "import atexit, sys\natexit.register(lambda: [print('closing file', n, file=sys.stderr) for n in range(300)])\n"
        "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7", below=("line 6",)),
    "thread": _python("An exception in a thread, and os._exit after it",
        "import threading\ndef load():\n    raise ValueError('no such shard: 7')\n"
        "thread = threading.Thread(target=load, name='loader')\nthread.start()\nthread.join()\nos._exit(3)",
        "ValueError: no such shard: 7", "thread 'loader'", "code 3", code=3, below=("in load",)),
    "syntax error": _both("A script with a syntax error", "import os\ndef train(:\n    pass\n", "SyntaxError: invalid syntax",
        below=("train.py", "line 2", "def train(:")),
    "missing module": _both("A script that imports what is not installed", "import no_such_module\n",
        "ModuleNotFoundError: No module named 'no_such_module'", below=("line 1",)),
    "import error": _both("A script that imports a name that is not there", "from os import no_such_name\n",
        "ImportError: cannot import name 'no_such_name' from 'os'", below=("line 1",)),
    "missing file": _python("A file that is missing on one rank", "open(f'shard-{rank}.bin')",
        "FileNotFoundError: [Errno 2] No such file or directory: 'shard-1.bin'", below=("line 4",)),
    "assertion": _python("An assertion", "assert rank == 0, f'rank {rank} has no data'", "AssertionError: rank 1 has no data"),
    "bare assertion": _python("An assertion without a text", "assert rank == 0", "AssertionError", below=("assert rank == 0",)),
    "memory error": _python("An array that does not fit", "bytearray(1 << 60)", "MemoryError", below=("bytearray(1 << 60)",)),
    "key error": _python("A key that is missing", "{}['lr']", "KeyError: 'lr'"),
    "subprocess": _python("A program that the worker runs fails", "import subprocess\nsubprocess.run(['false'], check=True)",
        "CalledProcessError: Command '['false']' returned non-zero exit status 1"),
    "asyncio": _python("An exception in a coroutine", "import asyncio\nasync def load():\n    raise ValueError('no such shard: 7')\nasyncio.run(load())",
        "ValueError: no such shard: 7", below=("in load",)),
    "pool": _python("An exception in a process pool",
        "from concurrent.futures import ProcessPoolExecutor\nfrom multiprocessing import get_context\n"
        "def load(n):\n    raise ValueError(f'no such shard: {n}')\n"
        "with ProcessPoolExecutor(1, get_context('fork')) as pool:\n    list(pool.map(load, [7]))",
        "ValueError: no such shard: 7", below=("in load",)),
    "pool killed": _python("A process of a pool is killed",
        "import signal\nfrom concurrent.futures import ProcessPoolExecutor\nfrom multiprocessing import get_context\n"
        "def load(n):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
        "with ProcessPoolExecutor(1, get_context('fork')) as pool:\n    list(pool.map(load, [7]))",
        "BrokenProcessPool: A process in the process pool was terminated abruptly"),
    "exit number": _python("sys.exit with a number", "import sys\nsys.exit(3)", "exited with code 3", code=3),
    "exit text": _python("sys.exit with a text", "import sys\nsys.exit('no such shard: 7')", "SystemExit: no such shard: 7", "code 1"),
    "os exit": _python("os._exit", "os._exit(7)", "exited with code 7", code=7),
    "interrupt": _python("KeyboardInterrupt in one worker", "raise KeyboardInterrupt", "KeyboardInterrupt", "SIGINT", code=130),
    "segfault": _python("A segmentation fault", "import ctypes\ndef load():\n    ctypes.string_at(0)\nload()",
        "SIGSEGV", "Segmentation fault in", "string_at", code=139, below=("in load",)),
    "segfault own handler": _python("A segmentation fault, with faulthandler on",
        "import ctypes, faulthandler\nfaulthandler.enable()\ndef load():\n    ctypes.string_at(0)\nload()",
        "SIGSEGV", code=139, on_screen=("terminal",), below=("in load",)),
    "abort": _python("An abort", "os.abort()", "SIGABRT", "Aborted in", code=134),
    "double free": _python("Memory that is freed twice", "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\n"
        "p = ctypes.c_void_p(libc.malloc(64))\nlibc.free(p)\nlibc.free(p)", "SIGABRT", "double free", code=134, on_screen=("terminal",)),
    "terminate": _program("A C++ exception that nobody catches",
        _CC.format("", '  throw std::runtime_error("no such shard: 7");\n'), "SIGABRT", "std::runtime_error: no such shard: 7",
        program="train", stage="g++", code=134, on_screen=("terminal",)),
    "fatal line": _program("A C++ program that says FATAL", 
        _CC.format("#include <cstdio>\n", '  std::fprintf(stderr, "FATAL: no such shard: 7\\n");\n  return 3;\n'), "FATAL: no such shard: 7", "code 3",
        program="train", stage="g++", code=3, on_screen=("terminal",)),
    "sigkill": _python("SIGKILL from outside", "import signal\nos.kill(os.getpid(), signal.SIGKILL)", "SIGKILL", "another process sent SIGKILL",
        "memory did not run out", code=137),
    "out of memory": _python("Memory runs out in a container", "kept = []\nwhile True:\n    kept.append(b'x' * (1 << 24))",
        "SIGKILL", "memory ran out", "256 MiB", code=137, stage="cgroup"),
    "sigterm": _python("SIGTERM to one worker", "import signal\nos.kill(os.getpid(), signal.SIGTERM)", "SIGTERM", "elrun did not", code=143),
    "cpu limit": _python("The limit of CPU time", "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 600))\nwhile True: pass",
        "SIGXCPU", "CPU time", "1 s", code=152),
    "file limit": _python("The limit of a file's size (Python)",
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\nopen('out', 'wb').write(bytes(10_000))",
        "OSError: [Errno 27] File too large", "4 KiB", below=("line 6",)),
    "file limit program": _program("The limit of a file's size (another program)",
        _SH + "ulimit -f 4\nexec head -c 100000 /dev/zero > out\n", "SIGXFSZ", "4 KiB", code=153),
    "open files": _python("The limit of open files", "kept = []\nwhile True:\n    kept.append(open('/dev/null'))",
        "OSError: [Errno 24] Too many open files", "64", "ulimit -n", stage="ulimit -n 64"),
    "bus error": _python("A mapped file is cut short",
        "import mmap\nwith open('data', 'wb+') as file:\n    file.truncate(8192)\n    view = mmap.mmap(file.fileno(), 8192)\n"
        "    file.truncate(0)\n    view[5000]", "SIGBUS", "cut short", code=135, below=("line 9",)),
    "shared memory": _python("/dev/shm is full",
        "from multiprocessing.shared_memory import SharedMemory\nblock = SharedMemory(create=True, size=1 << 20)\nblock.buf[:] = bytes(1 << 20)",
        "SIGBUS", "/dev/shm is full (64 KiB)", code=135, stage="shm"),
    "disk full": _python("The disk is full", "with open('disk/out', 'wb') as file:\n    file.write(bytes(1 << 20))",
        "OSError: [Errno 28] No space left on device", stage="disk", below=("file.write",)),
    "disk full torch": _python("The disk is full, in torch.save", "import torch\ntorch.save(torch.ones(1 << 20), 'disk/model.pt')",
        "RuntimeError: ", "disk", stage="disk", is_slow=True, below=("torch.save",)),
    "data loader": _python("A process of a DataLoader is killed",
        "import signal, torch\nclass Records(torch.utils.data.Dataset):\n    def __len__(self): return 2\n"
        "    def __getitem__(self, n): os.kill(os.getpid(), signal.SIGKILL)\n"
        "list(torch.utils.data.DataLoader(Records(), num_workers=1))",
        "RuntimeError: DataLoader worker", "is killed by signal: Killed", is_slow=True),
    "data loader raises": _python("A process of a DataLoader raises",
        "import torch\nclass Records(torch.utils.data.Dataset):\n    def __len__(self): return 2\n"
        "    def __getitem__(self, n): raise ValueError(f'bad record {n}')\n"
        "list(torch.utils.data.DataLoader(Records(), num_workers=1))",
        "ValueError", "bad record 0", is_slow=True, below=("in __getitem__",)),
    "bash": _program("A line of a bash script", _SH + "set -e\ncd data\n./train\n", "cd: data: No such file or directory", "code 1",
        on_screen=("terminal",)),
    "bash command": _program("A command that bash does not find", _SH + "trainx --lr 0.1\n", "trainx: command not found", "code 127", code=127,
        on_screen=("terminal",)),
    "no such program": _program("No such program", "", "./no-such-program", culprit=None, code=2),
    "not executable": _program("A program that is not executable", "", "./train.txt", "executable", culprit=None, code=2, program="train.txt"),
    "peer lost": _peers("A peer is lost", "raise ValueError('no such shard: 7')", "train()", "ValueError: no such shard: 7", below=("in end",)),
    "peer lost finally": _peers("A peer is lost, and a finally leaves the group", "raise ValueError('no such shard: 7')",
        "try:\n    train()\nfinally:\n    dist.destroy_process_group()", "ValueError: no such shard: 7"),
    "peer lost slowly": _peers("A peer is lost, and the guilty rank ends slowly", "raise ValueError('no such shard: 7')",
        "try:\n    train()\nfinally:\n    dist.destroy_process_group()\n    time.sleep(0.7 * rank)", "ValueError: no such shard: 7"),
    "peer killed": _peers("A peer is killed", "os.kill(os.getpid(), 9)", "train()", "SIGKILL", "another process sent SIGKILL", code=137),
    "peer exits early": _peers("A rank leaves too early, with exit code 0", "os._exit(0)", "train()",
        "rank 1 had ended with exit code 0 before", culprit=0),
    "two exceptions": Kind("Two ranks raise, 50 ms apart",
        _RANK + "import time\nif rank == 0:\n    while not os.path.exists('raised'): time.sleep(0.01)\n    time.sleep(0.05)\n"
        "    raise KeyError('later')\ntry:\n    raise ValueError('no such shard: 7')\nfinally:\n    open('raised', 'w')\n",
        ("ValueError: no such shard: 7",), others_fail=(0,)),
    "init time-out": Kind("init_process_group times out: one rank still loads its data",
        "import os, time, datetime\nimport torch.distributed as dist\n"
        "def load_data():\n    time.sleep(600)\n"
        "if os.environ['RANK'] == '1':\n    load_data()\n"
        "dist.init_process_group('gloo', timeout=datetime.timedelta(seconds=3))\n",
        ("rank 1 still ran", "load_data (train.py:4)"), culprit=0, is_slow=True),
    "store time-out": Kind("A key of the store never comes",
        "import os, time, datetime\nimport torch.distributed as dist\n"
        "store = dist.TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False, timeout=datetime.timedelta(seconds=2))\n"
        "if os.environ['RANK'] == '1':\n    time.sleep(600)\nstore.get('ready')\n",
        ("DistStoreError", "rank 1 still ran", "train.py:5"), culprit=0, is_slow=True),
    "port in use": _python("A port is in use",
        "import http.server, socket\ntaken = socket.create_server(('127.0.0.1', 0))\n"
        "http.server.HTTPServer(taken.getsockname(), None)",
        "OSError: [Errno 98] Address already in use"),
    "ignores SIGTERM": Kind("An exception, and a worker that ignores SIGTERM",
        _RANK + "import signal, time\nif rank == 0:\n    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    open('ready', 'w')\n    time.sleep(600)\n"
        "while not os.path.exists('ready'): time.sleep(0.01)\nraise ValueError('no such shard: 7')\n",
        ("ValueError: no such shard: 7",), before=("--shutdown-timeout", "1"), below=("SIGKILL",)),
    "hang in a collective": _peers("A job hangs in a collective, and its time limit comes",
        "os.kill(os.getppid(), 15) or time.sleep(600)", "train()", "rank 0 in all_reduce (train.py:10)", "rank 1 in end (train.py:12)", culprit=None, code=143),
    "hang in user code": Kind("A job hangs in its own code, and its time limit comes",
        _RANK + "import time\ndef load_batch():\n    if rank == int(os.environ['WORLD_SIZE']) - 1: os.kill(os.getppid(), 15)\n    time.sleep(600)\nload_batch()\n",
        ("load_batch (train.py:6)", "SIGTERM"), culprit=None, code=143, settings=("terminal", "tee", "pipe")),
    "interrupted": Kind("Ctrl-C", _RANK + "import time\nif rank == 1: os.kill(os.getppid(), 2)\ntime.sleep(600)\n",
        ("SIGINT",), culprit=None, code=130, settings=("terminal", "tee", "pipe")),
    "node killed": Kind("A node is killed", _RANK + "import time\nif rank == 1: os.kill(os.getppid(), 9)\ntime.sleep(600)\n",
        ("node",), culprit=None, settings=("nodes",), before=("--rdzv-conf", "join_timeout=4"), code=75),
    "store's host killed": Kind("The node that hosts the store is killed", _RANK + "import time\nif rank == 0: os.kill(os.getppid(), 9)\ntime.sleep(600)\n",
        ("node",), culprit=None, settings=("nodes",), before=("--rdzv-conf", "join_timeout=4"), code=75),
    "script missing on a node": Kind("The script is missing on one node", "import time\ntime.sleep(600)\n", ("train.py", "node"), culprit=None,
        settings=("nodes",), absent_on=1, code=2),
    "no GPU": _python("A GPU that is not there", "import torch\ntorch.cuda.set_device(rank)", "RuntimeError", "NVIDIA", is_slow=True),
    "restarted": _python("Restarted, and failed again", "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7", "after 1 of 1 restarts",
        before=("--max-restarts", "1")),
    "module": _python("Run as a module (-m)", "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7", before=("-m",), after=("train",)),
    "run path": _python("Run by --run-path", "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7", before=("--run-path",)),
    "preloaded": _python("Run with --preload", "raise ValueError('no such shard: 7')", "ValueError: no such shard: 7", before=("--preload", "json")),
    "spawn": _python("An exception in a child of torch.multiprocessing",
        "import torch.multiprocessing as mp\nimport json\nmp.spawn(json.loads, args=('{',), nprocs=1)", "ProcessRaisedException", "TypeError", is_slow=True),
}
