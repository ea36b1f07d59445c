"""What is written to disk, and read back by this and every later version."""
