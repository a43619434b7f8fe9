"""Functions that tests run in worker processes; they are imported there, so little is here."""

import atexit
import ctypes
import os
import signal
import subprocess
import sys
import threading
import types


def return_rank_and_environment(factor):
    return int(os.environ["RANK"]) * factor, os.environ["ADDED"]


def length_of(value):
    return len(value)


def return_bytes(size):
    return os.urandom(1) * size


def return_nothing_picklable():
    return lambda: None


class RefusesToReturn:
    """Can be pickled, but not restored."""

    def __reduce__(self):
        return int, ("no number",)


def return_what_cannot_be_restored():
    return RefusesToReturn()


def raise_value_error():
    raise ValueError("no such shard")


def exit_with(code):
    sys.exit(code)


def interrupt():
    raise KeyboardInterrupt


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def describe_itself(ear):
    """Tell session, process group, parent-death signal, handlers, wakeup descriptor and mask."""
    death_signal = ctypes.c_int(0)
    ctypes.CDLL(None).prctl(2, ctypes.byref(death_signal), 0, 0, 0)
    return {
        "leads_session": os.getsid(0) == os.getpid() == os.getpgid(0),
        "death_signal": death_signal.value,
        "term_handler": signal.getsignal(signal.SIGTERM),
        "int_handler_is_pythons": signal.getsignal(signal.SIGINT) is signal.default_int_handler,
        "wakeup_fd": signal.set_wakeup_fd(-1),
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
    }


def say(text):
    os.write(1, f"{text}\n".encode())
    print(text + " printed")
    print(text + " on stderr", file=sys.stderr)


def hang():
    signal.pause()


def tell_and_hang(path):
    with open(path, "w") as ear:
        ear.write(f"{os.getpid()}\n")
    signal.pause()


def leave_daemon_and_hang(path):
    """Leave a process behind that was forked twice, and executed nothing."""
    with open(path, "w") as ear:
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.setsid()
                ear.write(f"{os.getpid()}\n")
                ear.close()
                signal.pause()
            os._exit(0)
        os.wait()
    signal.pause()


def put(queue, value):
    queue.put(value)


def run_command(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def return_cpus():
    return frozenset(os.sched_getaffinity(0))


def abort_at_the_end_of_c():
    """Return a value; what C does at the end of a process aborts it, as it may with torch."""
    sys.modules.setdefault("torch", types.ModuleType("torch"))
    c = ctypes.CDLL(None)
    c.__cxa_atexit(c.abort, None, None)
    return 42


def clean_up_in_python(path):
    """Let everything that Python does at the end of a process leave a word in a file."""

    def note(word):
        with open(path, "a") as file:
            file.write(word + "\n")

    def work():
        returned.wait()
        note("a thread")

    returned = threading.Event()
    threading.Thread(target=work).start()
    atexit.register(note, "atexit")
    sys.stdout.write("unflushed")
    returned.set()
