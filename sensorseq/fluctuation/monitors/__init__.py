"""What watches a custom training loop, and repeats it with other settings."""
