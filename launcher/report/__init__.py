"""What is read of runs that were kept, and the page and the text that are made of it."""
