"""The agent's loop, and what it decides."""
