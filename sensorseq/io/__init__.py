"""Read and write prepared files, models, arrays larger than memory, and files at URLs."""
