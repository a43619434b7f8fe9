"""The small server of the agent: HTTP over TCP, and over the socket in the folder of a run."""
