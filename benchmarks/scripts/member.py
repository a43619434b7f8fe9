"""A worker that notes that it is there, and waits for a signal."""

import signal

from note import note

note("alive")
signal.pause()
