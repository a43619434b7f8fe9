"""Starting, watching and stopping worker processes."""

START_METHODS = ("spawn", "fork", "forkserver")
"""How a function gets into a new process."""
