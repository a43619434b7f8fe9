"""One node's way through the rounds of a run."""
