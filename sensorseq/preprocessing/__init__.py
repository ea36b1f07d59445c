"""Prepare recordings without leakage: resample, window, split by group, scale and balance."""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.inspection.leakage import find_leakage
    from sensorseq.preprocessing.options import PreparationOptions
    from sensorseq.preprocessing.pipeline import PreparePipeline
    from sensorseq.preprocessing.resample import StreamResampler
    from sensorseq.preprocessing.splitters import (
        BlockedTimeSplit,
        GroupBalancedKFold,
    )
    from sensorseq.preprocessing.transformers import (
        ChannelScaler,
        ClassBalancer,
        Resampler,
        SignalSteps,
        Windower,
    )
    from sensorseq.preprocessing.windowing.augment import Augmentation

__all__ = [
    "Augmentation",
    "BlockedTimeSplit",
    "ChannelScaler",
    "ClassBalancer",
    "GroupBalancedKFold",
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
        "Augmentation": "windowing.augment",
        "BlockedTimeSplit": "splitters",
        "ChannelScaler": "transformers",
        "ClassBalancer": "transformers",
        "GroupBalancedKFold": "splitters",
        "PreparationOptions": "options",
        "PreparePipeline": "pipeline",
        "Resampler": "transformers",
        "SignalSteps": "transformers",
        "StreamResampler": "resample",
        "Windower": "transformers",
        # offered here because it checks splits, but not used by this package
        "find_leakage": "sensorseq.inspection.leakage",
    },
)
