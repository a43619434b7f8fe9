"""Which nodes are alive: heartbeats, and what nodes do when a heartbeat stops."""
