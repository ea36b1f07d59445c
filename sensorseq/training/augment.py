"""Random changes of the training windows in each epoch: augmentation and dropped inputs."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq import _signal
from sensorseq.errors import ArgumentError
from sensorseq.prediction.inputs import Sequences
from sensorseq.preprocessing.windows.augment import (
    Augmentation,
    augment_windows,
    make_augmentation,
)
from sensorseq.training.stream import Change


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


def drop_inputs(
    X: NDArray[Any], rows: NDArray[np.int64], probability: float, seed: int, epoch: int
) -> None:
    """Set values of scaled windows (n, t, c) to zero at random, in place; scale up the others.

    The kept values are divided by ``1 - probability``. The mask of a window depends on its row in
    the training part, `seed` and `epoch` alone.
    """
    _signal.drop_inputs(X, rows, probability, seed, epoch)


def epoch_changes(
    augmentation: Augmentation | None,
    channel_sd: NDArray[np.float64] | None,
    input_dropout: float,
    seed: np.random.SeedSequence,
) -> Callable[[int], Change]:
    """Return what changes the training windows of an epoch, a function of its number alone.

    They are augmented in the units they were recorded in, before they are scaled: a gain of a
    sensor acts on what it reads. `channel_sd` is what jitter and offset are shares of. The mask of
    dropped inputs is drawn for each epoch, so at each step that a window is part of, unless
    ``sampler="balanced"`` draws it more than once in an epoch.
    """
    # apart from the streams the engine spawns of the same seed
    own = [np.random.SeedSequence([*seed.generate_state(4), number]) for number in (1, 2)]
    augment_seed, dropout_seed = (int(stream.generate_state(1)[0]) for stream in own)

    def of_epoch(epoch: int) -> Change:
        def augment(sequences: Sequences, rows: NDArray[np.int64]) -> Sequences:
            assert augmentation is not None
            X = augment_windows(
                sequences.X,
                augmentation,
                augment_seed,
                sequences.lengths,
                rows,
                copies=np.full(len(rows), epoch),
                channel_sd=channel_sd,
                n_threads=torch.get_num_threads(),
            )
            return replace(sequences, X=X)

        def drop(X: NDArray[Any], rows: NDArray[np.int64]) -> None:
            drop_inputs(X, rows, input_dropout, dropout_seed, epoch)

        return Change(None if augmentation is None else augment, drop if input_dropout else None)

    return of_epoch
