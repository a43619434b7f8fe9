"""What a worker is: its ranks and its environment."""
