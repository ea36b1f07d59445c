"""Read and write prepared files, models, scratch arrays and URLs."""
