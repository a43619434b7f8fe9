"""Imports what it is told, and waits: what a worker stands for can be read."""

import importlib
import signal
import sys

from note import note

for name in sys.argv[1:]:
    importlib.import_module(name)
note("alive")
signal.pause()
