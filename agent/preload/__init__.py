"""The fork server: a process that has imported what workers need."""
