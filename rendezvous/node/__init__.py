"""One node's way through a run: reach the store, join a round, seal it, finish, leave."""
