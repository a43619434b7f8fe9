"""The key-value seam, and the views that lie over it."""
