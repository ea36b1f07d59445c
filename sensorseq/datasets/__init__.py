"""The simulated recordings that come with the package."""

from sensorseq.datasets.surfaces import (
    SURFACES_SAMPLE_RATE_HZ,
    SURFACES_WINDOW_SAMPLES,
    load_surfaces,
)

__all__ = ["SURFACES_SAMPLE_RATE_HZ", "SURFACES_WINDOW_SAMPLES", "load_surfaces"]
