# ruff: noqa: SIM115  files that nobody closes are what this is about

"""Functions that workers run to their end, with something unfinished."""

import atexit
import ctypes
import gzip
import logging
import logging.handlers
import os
import sys
import tempfile
import threading
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

KEPT = []


class Ring:
    """What only a garbage collector can free."""

    def __init__(self, file):
        self.ring, self.file = self, file


class SilentError(Exception):
    """Its text can't be had."""

    def __str__(self):
        raise RuntimeError


class OfItsOwn(BaseException):
    """Whoever catches Exception doesn't catch it."""


class Broken:
    """A standard error that takes nothing."""

    def write(self, text):
        raise OfItsOwn

    flush = write


def with_torch(function, *args):
    """Call a function in a process that can't end as others do."""
    sys.modules.setdefault("torch", types.ModuleType("torch"))
    return function(*args)


def raise_with_a_file(path):
    out = open(path, "w")
    out.write("1,0.5\n")
    raise ValueError(out)


def raise_with_a_file_and_itself(path):
    out = open(path, "w")
    try:
        raise ValueError("x")
    except ValueError as error:
        KEPT.append(error)
        out.write("1,0.5\n")
        raise


def return_with_a_file(path):
    KEPT.append(open(path, "w"))
    KEPT[-1].write("1,0.5\n")


def return_with_a_binary_file(path):
    KEPT.append(open(path, "wb"))
    KEPT[-1].write(b"1,0.5\n")


def return_with_a_ring(path):
    out = open(path, "w")
    out.write("1,0.5\n")
    Ring(out)


def return_with_a_closure(path):
    out = open(path, "w")

    def write(text):
        out.write(text)

    KEPT.append(write)
    write("1,0.5\n")


def return_with_a_compressed_file(path):
    KEPT.append(gzip.open(path, "wt"))
    KEPT[-1].write("1,0.5\n")


def exit_with_a_file(path):
    return_with_a_file(path)
    sys.exit(3)


def interrupt_with_a_file(path):
    return_with_a_file(path)
    raise KeyboardInterrupt


def return_with_a_file_of_c(path):
    c = ctypes.CDLL(None)
    c.fopen.restype = ctypes.c_void_p
    c.fputs(b"1,0.5\n", ctypes.c_void_p(c.fopen(os.fsencode(path), b"w")))


def return_beside_a_daemon_thread(path):
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    return_with_a_file(path)


def return_with_a_broken_exit_function(path):
    def fail():
        raise OfItsOwn

    return_with_a_file(path)
    atexit.register(fail)


def print_in_c():
    ctypes.CDLL(None).printf(b"of C\n")
    print("of Python", flush=True)


def exit_with(code):
    sys.exit(code)


def exit_with_what_has_no_text():
    sys.exit(SilentError())


def raise_what_has_no_text():
    raise SilentError


def raise_of_its_own():
    raise OfItsOwn


def recurse():
    recurse()


def raise_without_a_standard_error():
    sys.stderr = Broken()
    raise ValueError("x")


def note(path, word):
    with open(path, "a") as file:
        file.write(f"{word}\n")


def clean_up_after_itself(path):
    """Register whatever may be, as a program of its own would."""
    atexit.register(note, path, "atexit")
    KEPT.append(folder := tempfile.TemporaryDirectory())
    KEPT.append(finalized := Ring(None))
    weakref.finalize(finalized, note, path, "finalizer")
    held = logging.handlers.MemoryHandler(100, target=logging.FileHandler(path))
    logger = logging.getLogger("worker")
    logger.propagate = False
    logger.addHandler(held)
    logger.error("log")
    ThreadPoolExecutor().submit(note, path, "thread").result()
    return folder.name
