"""The store that an attempt's workers meet in, served by a process that outlives rank 0."""
