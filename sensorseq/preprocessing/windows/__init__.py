"""Cut recordings into windows, label them, and balance, weigh or augment those for training."""

from sensorseq.preprocessing.windows.augment import Augmentation, augment_windows
from sensorseq.preprocessing.windows.balance import balance_indices, class_weights
from sensorseq.preprocessing.windows.cut import window_recordings

__all__ = [
    "Augmentation",
    "augment_windows",
    "balance_indices",
    "class_weights",
    "window_recordings",
]
