"""Programs that have used up their descriptors when they are told to stop."""

import os
import signal

import pytest

pytestmark = pytest.mark.integration

# Its worker leaves a helper in a session of its own, and saves when it is asked to end.
PROGRAM = """
import contextlib, resource, socket, sys, threading
from elrun import LaunchConfig, elastic_launch
from elrun.agent.system.signals import SignalException

script, ready, is_greedy = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
rooms = []

def use_up():
    open(ready).read()
    take_all()
    print("used up", flush=True)
    while is_greedy and not is_over.wait(0.001):
        take_all()

def take_all():
    with contextlib.suppress(OSError):
        while not is_over.is_set():
            rooms.append(socket.socket())

is_over = threading.Event()
taker = threading.Thread(target=use_up, daemon=True)
taker.start()
config = LaunchConfig(1, 1, 2, shutdown_timeout=100, max_restarts=0)
try:
    elastic_launch(config, "bash")(script, ready)
except SignalException as stopped:
    print(stopped.sigval.name, flush=True)
# A daemon thread that outlives the interpreter is ended by pthread_exit, which loads a library: a
# process without descriptors aborts there.
is_over.set()
taker.join()
for room in rooms:
    room.close()
"""
WORKER = """
setsid sleep 1000 &
trap 'sleep 0.5; echo saved; exit 0' TERM
[ $RANK = 0 ] || touch $1.trapped
[ $RANK = 1 ] || for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1000 & done
[ $RANK = 1 ] || until [ -e $1.trapped ]; do sleep 0.02; done
[ $RANK = 1 ] || echo > $1
while :; do sleep 0.1; done
"""


@pytest.fixture(name="program")
def _program(elrun, script, tmp_path):
    """The program, which has used up all that it may open; afterwards nothing may be left."""
    ready = tmp_path / "ready"
    os.mkfifo(ready)

    def start(is_greedy=""):
        worker = script(WORKER, "worker.sh")
        job = elrun(script(PROGRAM), worker, ready, is_greedy, command=())
        job.wait_for_line("used up")
        return job

    return start


def test_workers_are_asked_and_have_their_time(program):
    """The signal needs no descriptor; then there is a reserve to look around with."""
    job = program()

    job.signal(signal.SIGTERM)

    code, out, err = job.finish()
    assert (0, "used up\nsaved\nsaved\nSIGTERM\n") == (code, out), err


def test_the_guardian_ends_what_can_not_be_looked_for(program):
    """Where another thread takes the reserve, too: the guardian has descriptors of its own."""
    job = program("greedy")

    job.signal(signal.SIGTERM)

    code, out, err = job.finish()
    assert 0 == code, err
    assert "does not listen" not in err
    assert ["saved", "saved"] == [line for line in out.splitlines() if line == "saved"]
