"""Fixed-length descriptions of windows: random convolutions, and statistics of each channel."""

from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.steps import SummarySteps
from sensorseq.features.summary import SummaryFeatures

__all__ = ["RandomConvolutions", "SummaryFeatures", "SummarySteps"]
