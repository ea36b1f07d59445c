"""Read and write prepared files, models, checkpoints, scratch arrays and URLs."""
