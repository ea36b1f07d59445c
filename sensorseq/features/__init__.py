"""Fixed-length descriptions of windows: convolutions, and statistics of each channel."""

from sensorseq.features.competing_kernels import CompetingKernels
from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.steps import SummarySteps
from sensorseq.features.summary import SummaryFeatures

__all__ = ["CompetingKernels", "RandomConvolutions", "SummaryFeatures", "SummarySteps"]
