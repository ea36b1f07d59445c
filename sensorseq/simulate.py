"""Simulate motor currents of wheeled robots on six surfaces; see `datasets/motion.py`."""

from sensorseq.datasets.motion import TRACE_UNITS
from sensorseq.datasets.parameters import SURFACES, Robot, Sampling, Surface
from sensorseq.datasets.simulator import simulate_recording, simulate_recordings

__all__ = [
    "SURFACES",
    "TRACE_UNITS",
    "Robot",
    "Sampling",
    "Surface",
    "simulate_recording",
    "simulate_recordings",
]
