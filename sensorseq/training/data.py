"""The training and the validation windows of a fit."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError
from sensorseq.preprocessing.split import holdout_by_group
from sensorseq.training.config import CLASSIFICATION, TrainingConfig
from sensorseq.training.inputs import Sequences


class Part(NamedTuple):
    """The training or the validation windows."""

    sequences: Sequences
    target: NDArray[Any]  # class index, or the values of a regression
    weight: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None  # of the windows given to `fit`; None when given apart

    def take(self, rows: NDArray[np.int64]) -> "Part":
        """Return some of the windows."""
        return Part(
            self.sequences.take(rows),
            self.target[rows],
            None if self.weight is None else self.weight[rows],
            None if self.groups is None else self.groups[rows],
            None if self.rows is None else self.rows[rows],
        )


class Windows(NamedTuple):
    """What `fit` was given and takes part."""

    sequences: Sequences
    target: NDArray[Any]
    weight: NDArray[np.float64] | None
    groups: NDArray[Any] | None
    split: NDArray[Any] | None
    rows: NDArray[np.int64] | None = None  # of the windows given to `fit`; None for all of them

    def part(self, rows: NDArray[np.int64]) -> Part:
        """Return the windows at `rows`."""
        given = np.arange(len(self.target)) if self.rows is None else self.rows
        return Part(self.sequences, self.target, self.weight, self.groups, given).take(rows)


def split_windows(
    windows: Windows,
    given: Part | None,
    fraction: float,
    seed: np.random.SeedSequence,
    task: str = CLASSIFICATION,
) -> tuple[Part, Part | None]:
    """Part training from validation windows: as given, as stored, or by whole groups.

    Parameters
    ----------
    windows : Windows
        Everything that takes part.
    given : Part or None
        Validation windows of the caller's own.
    fraction : float
        Share to hold out when neither they nor a stored split are there; 0 is none.
    seed : SeedSequence
        Decides which groups are held out.
    task : {"classification", "regression"}, default="classification"
        Classes are stratified.

    Raises
    ------
    InputError
        If the stored split has no train part, or a validation part is both stored and given.
    SplitError
        If no group can be held out.
    """
    everything = np.arange(len(windows.target))
    if given is not None:
        if windows.split is not None and (windows.split == "validation").any():
            raise InputError(
                "X already has a validation part, so X_val cannot be given as well; omit X_val, or"
                ' give X.part("train") as X.'
            )
        return windows.part(everything), given
    if windows.split is not None:
        train = np.flatnonzero(windows.split == "train")
        validation = np.flatnonzero(windows.split == "validation")
        if not len(train):
            raise InputError("X has a split without a train part, so there is nothing to train on.")
    elif fraction == 0.0:
        return windows.part(everything), None
    else:
        train, validation = holdout_by_group(
            windows.target if task == CLASSIFICATION else np.zeros(len(everything)),
            windows.groups,
            fraction,
            int(seed.generate_state(1)[0]),
        )
    return windows.part(train), windows.part(validation) if len(validation) else None


def check_validation(
    windows: Windows, validation: Part | None, fraction: float, config: TrainingConfig
) -> None:
    """Raise when early stopping has no validation windows though some were asked for.

    Raises
    ------
    ArgumentError
        Saying what was found instead.
    """
    watched = config.early_stopping and config.monitor.startswith("val_")
    if validation is not None or not watched:
        return
    n_windows = len(windows.target)
    ways = "give X_val, or set early_stopping=False."
    if windows.split is not None:
        raise ArgumentError(
            f"monitor={config.monitor!r} needs validation windows, but the split of X has none,"
            f" only {n_windows} training windows (validation_fraction is not used with a split)."
            f" Split X into train and validation, {ways}"
        )
    if fraction > 0:
        raise ArgumentError(
            f"monitor={config.monitor!r} needs validation windows, but none of the {n_windows}"
            f" windows of X can be held out (validation_fraction={fraction:g}) because no class has"
            f" a second one. Record more, {ways}"
        )
