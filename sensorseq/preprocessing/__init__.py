"""Prepare recordings without leakage: resample, window, split by group, scale, balance."""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.inspection.leakage import find_leakage
    from sensorseq.preprocessing.options import PreparationOptions
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.resample.signal import StreamResampler
    from sensorseq.preprocessing.resample.transformer import Resampler
    from sensorseq.preprocessing.scale.transformer import ChannelScaler
    from sensorseq.preprocessing.split.splitters import (
        BlockedTimeSplit,
        GroupBalancedKFold,
        GroupBalancedShuffleSplit,
    )
    from sensorseq.preprocessing.steps.transformer import SignalSteps
    from sensorseq.preprocessing.windows.augment import Augmentation
    from sensorseq.preprocessing.windows.transformers import Augmenter, ClassBalancer, Windower

__all__ = [
    "Augmentation",
    "Augmenter",
    "BlockedTimeSplit",
    "ChannelScaler",
    "ClassBalancer",
    "GroupBalancedKFold",
    "GroupBalancedShuffleSplit",
    "PreparationOptions",
    "PreparePipeline",
    "Resampler",
    "SignalSteps",
    "StreamResampler",
    "Windower",
    "find_leakage",
]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "Augmentation": "windows.augment",
        "Augmenter": "windows.transformers",
        "BlockedTimeSplit": "split.splitters",
        "ChannelScaler": "scale.transformer",
        "ClassBalancer": "windows.transformers",
        "GroupBalancedKFold": "split.splitters",
        "GroupBalancedShuffleSplit": "split.splitters",
        "PreparationOptions": "options",
        "PreparePipeline": "pipeline",
        "Resampler": "resample.transformer",
        "SignalSteps": "steps.transformer",
        "StreamResampler": "resample.signal",
        "Windower": "windows.transformers",
        # offered next to the splits that it checks, but not used here
        "find_leakage": "sensorseq.inspection.leakage",
    },
)
