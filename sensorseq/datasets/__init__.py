"""Recordings for first experiments: simulated ones that come with the package, and real ones."""

from sensorseq.datasets.borealtc import fetch_borealtc
from sensorseq.datasets.surfaces import (
    SURFACES_SAMPLE_RATE_HZ,
    SURFACES_WINDOW_SAMPLES,
    load_surfaces,
)

__all__ = ["SURFACES_SAMPLE_RATE_HZ", "SURFACES_WINDOW_SAMPLES", "fetch_borealtc", "load_surfaces"]
