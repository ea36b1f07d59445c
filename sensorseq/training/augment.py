"""Random changes to training windows in each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.prediction.windows import Windows
from sensorseq.preprocessing.windows.augment import Augmentation, augment_windows, make_augmentation
from sensorseq.training.data import Change


def check_augment(augment: Any) -> Augmentation | None:
    """Return the augmentation for an estimator's `augment`; None for none."""
    if isinstance(augment, str) and augment == "standard":
        augment = Augmentation.standard()
    elif isinstance(augment, Mapping):
        augment = make_augmentation(augment)
    if not (augment is None or isinstance(augment, Augmentation)):
        raise ArgumentError(
            f"augment={augment!r} must be None, 'standard', an Augmentation, or a dictionary of its"
            " strengths, such as {'jitter': 0.05, 'scaling': 0.1}."
        )
    return None if augment is None or augment.is_identity else augment


def epoch_changes(
    augmentation: Augmentation,
    channel_sd: NDArray[np.float64],
    seed: np.random.SeedSequence,
) -> Callable[[int], Change]:
    """Return a function that makes the changed training windows of an epoch from its number.

    Windows are augmented in their original units before scaling, because a sensor's gain acts on
    its readings. Jitter and offset are fractions of `channel_sd`.
    """
    # separate from the streams that the engine spawns from the same seed
    own = np.random.SeedSequence([*seed.generate_state(4), 1])
    augment_seed = int(own.generate_state(1)[0])

    def of_epoch(epoch: int) -> Change:
        def augment(windows: Windows, rows: NDArray[np.int64]) -> Windows:
            X = augment_windows(
                windows.X,
                augmentation,
                augment_seed,
                windows.lengths,
                rows,
                copies=np.full(len(rows), epoch),
                channel_sd=channel_sd,
                n_threads=torch.get_num_threads(),
            )
            return replace(windows, X=X)

        return augment

    return of_epoch
