"""What nodes write, and what they decide from it; no store and no clock."""
