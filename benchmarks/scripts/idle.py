"""A worker that says who it is and waits for a signal."""

import os
import signal

print(os.getpid(), flush=True)
signal.pause()
