"""Fixed-length descriptions of windows by convolutions and by statistics of each channel."""

from sensorseq.features.competing_kernels import CompetingKernels
from sensorseq.features.random_convolutions import RandomConvolutions
from sensorseq.features.summary import SummaryFeatures
from sensorseq.features.summary_steps import SummarySteps

__all__ = ["CompetingKernels", "RandomConvolutions", "SummaryFeatures", "SummarySteps"]
