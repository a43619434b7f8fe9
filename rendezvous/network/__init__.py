"""Addresses, ports and listening sockets."""
