"""What is measured of a run: trends, noise, luck, single windows."""
