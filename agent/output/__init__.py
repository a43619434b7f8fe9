"""Where workers' output goes: log files, console lines."""
