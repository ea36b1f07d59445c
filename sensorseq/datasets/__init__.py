"""The simulated recordings that come with the package, and new ones."""

from sensorseq.datasets.surfaces import (
    SURFACES_SAMPLE_RATE_HZ,
    SURFACES_WINDOW_SAMPLES,
    load_surfaces,
    write_simulated,
    write_surfaces,
)

__all__ = [
    "SURFACES_SAMPLE_RATE_HZ",
    "SURFACES_WINDOW_SAMPLES",
    "load_surfaces",
    "write_simulated",
    "write_surfaces",
]
