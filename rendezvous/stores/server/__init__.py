"""A store server of our own, hosted by an agent, and its client."""
