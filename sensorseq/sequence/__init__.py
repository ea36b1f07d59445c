"""Classes over time: from decisions about windows to segments of one class."""

from sensorseq.sequence.smoothing import SMOOTH, Smoothing
from sensorseq.sequence.timeline import Span, Timeline, timeline_of

__all__ = ["SMOOTH", "Smoothing", "Span", "Timeline", "timeline_of"]
