"""Files: prepared files, models, checkpoints, scratch arrays, URLs, and how each is written."""
