"""Cut recordings into labeled windows; balance, weight or augment training windows."""

from typing import TYPE_CHECKING

from sensorseq.base.lazy import lazy_names

if TYPE_CHECKING:
    from sensorseq.preprocessing.windowing.augment import Augmentation, augment_windows
    from sensorseq.preprocessing.windowing.balance import balance_indices
    from sensorseq.preprocessing.windowing.cut import window_recordings

__all__ = [
    "Augmentation",
    "augment_windows",
    "balance_indices",
    "window_recordings",
]

__getattr__, __dir__ = lazy_names(
    globals(),
    {
        "Augmentation": "augment",
        "augment_windows": "augment",
        "balance_indices": "balance",
        "window_recordings": "cut",
    },
)
