"""Watching workers and the agent: watchdog, kernel waits, health."""
