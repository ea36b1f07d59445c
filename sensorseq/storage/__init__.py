"""File formats: models, checkpoints, prepared files."""
