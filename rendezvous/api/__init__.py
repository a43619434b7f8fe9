"""The interface of a rendezvous: what an agent calls, and the parameters of a backend."""
