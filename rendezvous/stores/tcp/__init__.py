"""The rendezvous store over torch's TCPStore."""
