"""A preloaded worker ends as one that was executed: what it holds is written and finalized."""

import pytest
from test_preloaded_jobs import SEES, tidy

PRELOADED = ("--preload", "json,logging,multiprocessing.pool,tempfile,concurrent.futures")
ENDS = {
    name: "import os, sys\n" + SEES[name]
    for name in (
        *("end", "own exit", "exit with a text", "quick exit", "exception", "signal", "threads"),
        *("pool", "buffered bytes", "interrupt"),
    )
}
ENDS |= {
    "open files": """
text = open('text', 'w'); text.write('kept')
raw = open('bytes', 'wb'); raw.write(b'kept')
""",
    "files of garbage": """
class Log:
    shared = open('shared', 'w')
    def __init__(self): self.file, self.itself = open('bytes', 'wb'), self
    def write(self): self.file.write(b'kept'); self.shared.write('kept')
log = Log(); log.write()
""",
    "a file that is closed, or broken": """
import os
closed = open('text', 'w'); closed.close()
class Broken: itself = None
broken = Broken(); broken.itself = broken; broken.file = open('/dev/full', 'w')
""",
    "files of a module's": """
import json, tempfile
class Log: pass
json.log = open('text', 'w'); json.log.write('kept')
tempfile.held = log = Log(); log.itself = log
log.file = open('bytes', 'wb'); log.file.write(b'kept')
""",
    "files of other kinds": """
import gzip, os, tempfile
def main():
    global packed, named
    packed = gzip.GzipFile('text', 'w', mtime=0); packed.write(b'kept')
    named = tempfile.NamedTemporaryFile(dir='.', prefix='named')
main()
""",
    "logging": """
import logging
logging.basicConfig(filename='text'); logging.warning('kept')
""",
    "a temporary folder": """
import os, tempfile
folder = tempfile.TemporaryDirectory(); open('text', 'w').write(str(os.path.isdir(folder.name)))
import atexit
atexit.register(lambda: print(os.path.isdir(folder.name)))
""",
    "a folder that is left": """
import os, sys, tempfile, weakref
folder = tempfile.mkdtemp(dir='.', prefix='made')
weakref.finalize(sys, os.rmdir, folder)
""",
    "shared memory": """
from multiprocessing import shared_memory
memory = shared_memory.SharedMemory(create=True, size=64)
memory.close(); memory.unlink()
""",
    "children": """
import multiprocessing, time
def work(): print('child', flush=True)
if __name__ == '__main__':
    for method in ('fork', 'spawn'):
        multiprocessing.get_context(method).Process(target=work).start()
    print('parent', flush=True) if not multiprocessing.active_children() else None
    for each in multiprocessing.active_children(): each.join()
    multiprocessing.get_context('spawn').Process(target=time.sleep, args=(99,), daemon=True).start()
""",
    "executors": """
from concurrent.futures import ThreadPoolExecutor
ThreadPoolExecutor(1).submit(print, 'late')
""",
    "order": """
import atexit
atexit.register(print, 'first'); atexit.register(print, 'second')
class Shown:
    def __del__(self): print('finalized')
shown = Shown()
""",
}


@pytest.mark.parametrize("name", ENDS)
def test_a_preloaded_worker_ends_as_an_executed_one(elrun, script, tmp_path, name):
    """What it prints, writes, runs and leaves, and its exit code."""
    ends = []
    for how in ((), PRELOADED):
        code, out, err = elrun("--standalone", *how, script(ENDS[name])).finish()
        files = {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name != "script.py"
        }
        ends.append((*tidy((code, out, err)), files))
        for path in files:
            (tmp_path / path).unlink()

    assert ends[0] == ends[1]
