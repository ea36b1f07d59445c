"""Prepare recordings without leakage: resample, window, split by group, scale, balance."""

from typing import TYPE_CHECKING

from sensorseq._lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.inspection.leakage import find_leakage
    from sensorseq.preprocessing.augment import Augmentation
    from sensorseq.preprocessing.options import PreparationOptions
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.recording_transformers import Resampler, SignalSteps, Windower
    from sensorseq.preprocessing.resample import StreamResampler
    from sensorseq.preprocessing.splitters import (
        BlockedTimeSplit,
        GroupBalancedKFold,
        GroupBalancedShuffleSplit,
    )
    from sensorseq.preprocessing.window_transformers import Augmenter, ChannelScaler, ClassBalancer

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
        "Augmentation": "augment",
        "Augmenter": "window_transformers",
        "BlockedTimeSplit": "splitters",
        "ChannelScaler": "window_transformers",
        "ClassBalancer": "window_transformers",
        "GroupBalancedKFold": "splitters",
        "GroupBalancedShuffleSplit": "splitters",
        "PreparationOptions": "options",
        "PreparePipeline": "pipeline",
        "Resampler": "recording_transformers",
        "SignalSteps": "recording_transformers",
        "StreamResampler": "resample",
        "Windower": "recording_transformers",
        # offered beside the splits that it checks; nothing here makes use of it
        "find_leakage": "sensorseq.inspection.leakage",
    },
)
