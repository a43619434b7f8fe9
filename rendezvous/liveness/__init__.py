"""Which nodes are alive: heartbeats, and who judges them."""
