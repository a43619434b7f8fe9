"""Rendezvous backends by name."""
