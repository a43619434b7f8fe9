"""What is to be launched: one configuration, from what was typed and what the scheduler says."""
