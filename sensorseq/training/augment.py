"""Random changes of the training windows in each epoch: augmentation and dropped inputs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq import _signal
from sensorseq.errors import ArgumentError
from sensorseq.preprocessing.windows.augment import (
    Augmentation,
    augment_windows,
    channel_sd_of,
    make_augmentation,
)
from sensorseq.training.inputs import Sequences
from sensorseq.training.stream import Change, StoredPart


def check_augment(augment: Any) -> Augmentation | None:
    """Return the augmentation that an estimator's `augment` asks for, None for none."""
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


class EpochAugmentation:
    """The training windows of each epoch, a function of the epoch's number alone.

    They are changed in the units they were recorded in and scaled afterwards: a gain of a sensor
    acts on what it reads.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        sequences: Sequences,
        scale: Callable[[Sequences], NDArray[Any]],
        seed: np.random.SeedSequence,
    ) -> None:
        self._augmentation = augmentation
        self._sequences = sequences
        self._scale = scale
        self._seed = _own_seed(seed)
        self._channel_sd = channel_sd_of(sequences.X, sequences.lengths)

    def __call__(self, epoch: int) -> NDArray[Any]:
        """Return the scaled windows (N, T, C) of an epoch, counted from 1."""
        sequences = self._sequences
        changed = augment_windows(
            sequences.X,
            self._augmentation,
            self._seed,
            sequences.lengths,
            copies=np.full(len(sequences), epoch),
            channel_sd=self._channel_sd,
            n_threads=torch.get_num_threads(),
        )
        return self._scale(replace(sequences, X=changed))


class StoredAugmentation:
    """What `EpochAugmentation` is, for windows that are changed as they are read from a file.

    The windows are the same but for the rounding of the deviation that jitter and offset are
    shares of.
    """

    def __init__(
        self, augmentation: Augmentation, part: StoredPart, seed: np.random.SeedSequence
    ) -> None:
        self._augmentation = augmentation
        self._seed = _own_seed(seed)
        self._channel_sd = part.channel_sd()

    def __call__(self, epoch: int) -> Change:
        """Return the augmentation of windows in an epoch, counted from 1."""

        def change(sequences: Sequences, rows: NDArray[np.int64]) -> Sequences:
            X = augment_windows(
                sequences.X,
                self._augmentation,
                self._seed,
                sequences.lengths,
                rows,
                copies=np.full(len(rows), epoch),
                channel_sd=self._channel_sd,
                n_threads=torch.get_num_threads(),
            )
            return replace(sequences, X=X)

        return Change(unscaled=change)


def _own_seed(seed: np.random.SeedSequence) -> int:
    # apart from the streams the engine spawns of the same seed
    return int(np.random.SeedSequence([*seed.generate_state(4), 1]).generate_state(1)[0])


def drop_inputs(
    X: NDArray[Any], rows: NDArray[np.int64], probability: float, seed: int, epoch: int
) -> None:
    """Set values of scaled windows (n, t, c) to zero at random, in place; scale up the others.

    The kept values are divided by ``1 - probability``. The mask of a window depends on its row in
    the training part, `seed` and `epoch` alone.
    """
    _signal.drop_inputs(X, rows, probability, seed, epoch)


class InputDropout:
    """The training windows of each epoch with inputs dropped, a function of its number alone.

    The mask of a window is redrawn in each epoch, so at each step that it is part of, unless
    ``sampler="balanced"`` draws it more than once in an epoch. `windows` gives the scaled windows
    (N, T, C) of an epoch, which are changed in place, or the `Change` of windows read from a file.
    """

    def __init__(
        self, probability: float, seed: np.random.SeedSequence, windows: Callable[[int], Any]
    ) -> None:
        self._probability = probability
        # apart from the streams that the engine and an augmentation draw of the same seed
        drawn = np.random.SeedSequence([*seed.generate_state(4), 2]).generate_state(1)
        self._seed = int(drawn[0])
        self._windows = windows

    def __call__(self, epoch: int) -> Any:
        """Return the windows of an epoch, counted from 1, or the change that makes them."""
        given = self._windows(epoch)

        def drop(X: NDArray[Any], rows: NDArray[np.int64]) -> None:
            drop_inputs(X, rows, self._probability, self._seed, epoch)

        if isinstance(given, Change):
            return given._replace(scaled=drop)
        drop(given, np.arange(len(given)))
        return given
