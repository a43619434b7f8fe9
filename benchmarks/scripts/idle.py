"""A worker that says who it is and waits for a signal."""

import os
import signal
import sys

sys.stdout.write(f"{os.getpid()}\n")  # in one piece: print would let another worker in between
sys.stdout.flush()
signal.pause()
