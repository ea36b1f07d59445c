"""File formats, which this and every later version can read."""
