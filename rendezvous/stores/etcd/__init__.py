"""The rendezvous store over etcd, v2 and v3."""
