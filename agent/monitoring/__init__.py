"""Monitors of workers and of the agent: the watchdog, kernel waits, the health page."""
