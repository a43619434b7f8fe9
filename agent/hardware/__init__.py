"""The GPUs, CPUs and NUMA nodes of this host."""
