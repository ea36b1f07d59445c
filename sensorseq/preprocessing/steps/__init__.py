"""Filters and features as steps on evenly sampled recordings, offline or in streams."""

from sensorseq.preprocessing.steps.base import Step, StepStream
from sensorseq.preprocessing.steps.chain import STEPS, StepChain, make_step
from sensorseq.preprocessing.steps.features import Derivative, Difference, Moving
from sensorseq.preprocessing.steps.filters import BandPass, Detrend, Notch
from sensorseq.preprocessing.steps.products import Magnitude, Power, Product, SignedBy, Subtract

__all__ = [
    "STEPS",
    "BandPass",
    "Derivative",
    "Detrend",
    "Difference",
    "Magnitude",
    "Moving",
    "Notch",
    "Power",
    "Product",
    "SignedBy",
    "Step",
    "StepChain",
    "StepStream",
    "Subtract",
    "make_step",
]
