"""What an agent tells, and does, for the commands that look at its job, such as `elrun status`."""
