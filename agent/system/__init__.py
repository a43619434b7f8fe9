"""What Linux offers, one module for each: pidfds, signals, process trees, forks."""
