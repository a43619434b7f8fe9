"""What an agent asks of a rendezvous, and how it fails."""
