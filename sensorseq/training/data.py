"""FitData reads, checks and splits the arguments of `fit`; WindowFormat makes tensors of them."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.checks import check_unlabeled
from sensorseq.errors import ArgumentError, InputError, LeakWarning, SplitError, warn_caller
from sensorseq.prediction.fusion import refuse_sensors
from sensorseq.prediction.inputs import (
    Sequences,
    WindowShape,
    check_groups,
    crop_sequences,
    read_sequences,
    scale_sequences,
)
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import Patch
from sensorseq.prediction.preparation import Preparation, check_same_preparation
from sensorseq.preprocessing.scale.scaler import Scaler
from sensorseq.preprocessing.split.parts import folds_in_time, holdout_by_group
from sensorseq.preprocessing.windows.augment import channel_sd_of
from sensorseq.training.augment import check_augment, epoch_changes
from sensorseq.training.batches import TrainingData
from sensorseq.training.config import TrainingConfig
from sensorseq.training.inputs import check_axis_order, check_sample_weight
from sensorseq.training.patches import apply_patch
from sensorseq.training.preparation import (
    check_parts,
    describe_preparation,
    fit_told_scaler,
    read_prepared,
    read_training_file,
    refuse_scaled,
    without_test,
)
from sensorseq.training.rows import refuse_rows
from sensorseq.training.stream import Change, StoredPart, StreamedData, hold_or_stream, is_stored
from sensorseq.training.targets import ClassTarget
from sensorseq.windows import WindowSet, rows_of

SETS = (str, os.PathLike, WindowSet)  # types that are opened before they are read


class FitPart(NamedTuple):
    """The training or the validation windows of a fit, or both."""

    sequences: Sequences
    target: NDArray[np.int64]  # class index
    weight: NDArray[np.float64] | None = None
    groups: NDArray[Any] | None = None
    rows: NDArray[np.int64] | None = None  # rows of the X given to `fit`; None if given separately
    starts: NDArray[np.float64] | None = None  # in window lengths, within the recording

    def take(self, rows: NDArray[np.int64]) -> "FitPart":
        """Return the windows at `rows`."""
        return FitPart(
            self.sequences.take(rows),
            self.target[rows],
            None if self.weight is None else self.weight[rows],
            None if self.groups is None else self.groups[rows],
            None if self.rows is None else self.rows[rows],
            None if self.starts is None else self.starts[rows],
        )


@dataclass(frozen=True)
class WindowFormat:
    """How windows are cropped, scaled and patched for a network, and changed in each epoch."""

    max_timesteps: int | None
    crop: str
    dtype: str
    scaler: Scaler | None = None
    patch: Patch | None = None
    augment: Any = None
    channels: list[str] | None = None

    @classmethod
    def of(cls, model: TrainedModel, augment: Any = None) -> "WindowFormat":
        """Return the format of a model's windows."""
        how = model.max_timesteps, model.crop, model.dtype, model.scaler, model.patch
        return cls(*how, augment, model.channels)

    def cropped(self, sequences: Sequences, *, training: bool) -> Sequences:
        """Return cropped windows; those in a file are read."""
        if not is_stored(sequences):
            return crop_sequences(sequences, self.max_timesteps, self.crop, training=training)
        stored = self.stored(sequences, training=training)
        with stored.opened() as reader:
            return reader.cropped(np.arange(len(stored)))

    def stored(self, sequences: Sequences, *, training: bool) -> StoredPart:
        """Return windows that stay in their file, with their cropping and scaling."""
        how = self.max_timesteps, self.crop, training, self.scaler, self.dtype
        return StoredPart(sequences, *how)

    def fit_scaler(
        self, sequences: Sequences, source: WindowSet | None, kind: str | None
    ) -> Scaler | None:
        """Fit the scaler to training windows that were given as `source`."""
        if is_stored(sequences):
            return fit_told_scaler(source, self.stored(sequences, training=True), kind)
        held = crop_sequences(sequences, self.max_timesteps, self.crop, training=True)
        return fit_told_scaler(source, held, kind)

    def tensors(
        self, part: FitPart, target: ClassTarget, *, training: bool
    ) -> TrainingData | StreamedData:
        """Crop and scale a part; return it with targets and weights, as tensors."""
        weight = target.weigh(part.target, part.weight) if training else None
        if is_stored(part.sequences):
            stored = self.stored(part.sequences, training=training)
            return hold_or_stream(stored, part.target, weight)
        sequences = crop_sequences(part.sequences, self.max_timesteps, self.crop, training=training)
        scaled = scale_sequences(sequences, self.scaler, self.dtype)
        dtype: torch.dtype = getattr(torch, self.dtype)
        return TrainingData.from_arrays(scaled, sequences.lengths, part.target, weight, dtype)

    def renewal(
        self, part: FitPart, data: TrainingData | StreamedData, seed: np.random.SeedSequence
    ) -> Callable[[int], Any] | None:
        """Return a function that changes the training windows in each epoch; None if none does.

        `part` has the unscaled windows, `data` the scaled ones; `seed` is that of the run.
        """
        augmentation = check_augment(self.augment)
        if augmentation is None:
            return None
        sequences = part.sequences
        augmentation = augmentation.with_indices(sequences.X.shape[2], self.channels)
        if isinstance(data, StreamedData):
            # computed from the file, so its rounding differs from that for windows in memory
            channel_sd = self.stored(sequences, training=True).channel_sd()
            return epoch_changes(augmentation, channel_sd, seed)
        held = self.cropped(sequences, training=True)
        changes = epoch_changes(augmentation, channel_sd_of(held.X, held.lengths), seed)
        return lambda epoch: self._renewed(changes(epoch), held, data)

    def _renewed(self, change: Change, held: Sequences, data: TrainingData) -> NDArray[Any]:
        """Return the scaled windows of an epoch."""
        X = scale_sequences(change(held, np.arange(len(held))), self.scaler, self.dtype)
        patched, _ = apply_patch(self.patch, torch.from_numpy(X), data.lengths)
        return patched.numpy()


@dataclass(frozen=True)
class FitData:
    """The windows of a fit, read and checked; `hold_out` splits them.

    `windows` are those of X, and `train` and `validation` their parts; validation windows given
    separately are `given`, too. `split` is the part of each window, if X has one. `source` and
    `source_val` are the objects given as X and X_val, or None for an array. `target` has the
    classes, and `column_names` are those of a 2-D table.
    """

    windows: FitPart
    train: FitPart
    target: ClassTarget
    validation: FitPart | None = None
    given: FitPart | None = None
    split: NDArray[Any] | None = None
    source: WindowSet | None = None
    source_val: WindowSet | None = None
    scaler: Scaler | None = None
    had_lengths: bool = False
    column_names: list[str] | None = None

    @classmethod
    def read(
        cls,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        groups: Any = None,
        lengths: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        groups_val: Any = None,
        lengths_val: Any = None,
        target: ClassTarget,
        scale: str | None,
        known: WindowShape | None = None,
        missing: str = "error",
    ) -> "FitData":
        """Read and check the arguments of `fit`; the target learns from y.

        `scale` is the estimator's, and `known` describes its earlier windows if it continues.
        """
        refuse_sensors(X)
        own = {"y": y, "sample_weight": sample_weight, "groups": groups}
        scaler: Scaler | None = None
        is_file = isinstance(X, str | os.PathLike)
        if isinstance(X, SETS):
            X, scaler = _open_training(X, scale, own)
        if isinstance(X_val, SETS):
            X_val = open_windows(X_val, scale, "X_val")
        source = X if isinstance(X, WindowSet) else None
        source_val = X_val if isinstance(X_val, WindowSet) else None
        y = source.y if y is None and source is not None else y
        if y is None:
            raise InputError("fit requires y to be passed, but the target y is None.")
        sequences = read_sequences(X, lengths, known=known, missing=missing)
        check_channels_have_numbers(sequences, "X")
        if known is None and not sequences.is_flat:
            check_axis_order(X, lengths)
        n_windows = len(sequences)
        stored = None if source is None else source.split
        groups = _read_groups(source, groups, n_windows)
        weight = check_sample_weight(sample_weight, n_windows)
        takes_part = np.ones(n_windows, bool) if weight is None else weight > 0
        if stored is not None:
            takes_part &= stored != "test"
        class_index = target.learn(y, n_windows, takes_part)
        if known is None:
            check_unlabeled(target.known[class_index], "y", labels_way_out=is_file)
        rows = np.flatnonzero(takes_part)
        windows = FitPart(
            sequences.take(rows) if len(rows) < n_windows else sequences,
            class_index,
            None if weight is None else weight[rows],
            None if groups is None else groups[rows],
            rows,
            None if groups is None else _starts_of(source, groups, sequences)[rows],
        )
        if sequences.is_flat and sequences.are_full:
            # rows may be samples instead of windows
            refuse_rows(windows.sequences.X[:, :, 0], windows.target)
        of_val = {"y_val": y_val, "groups_val": groups_val, "lengths_val": lengths_val}
        shape = known or _shape_of(sequences, source)
        given = _read_validation(X_val, of_val, windows.groups, target, shape, missing)
        split = None if stored is None else stored[rows]
        sources = source, source_val, scaler
        had_lengths = not sequences.are_full
        return cls(windows, windows, target, given, given, split, *sources, had_lengths)

    def hold_out(
        self, fraction: float, seed: np.random.SeedSequence, config: TrainingConfig
    ) -> "FitData":
        """Return the windows with a validation part: stored, given, or a fraction of all."""
        given, own = self.given, (fraction, seed, config)
        of_train, held_out = _split(self.windows, self.split, *own, is_given=given is not None)
        return replace(
            self,
            train=self.windows if of_train is None else self.windows.take(of_train),
            validation=given if held_out is None else self.windows.take(held_out),
        )

    @property
    def is_drawn(self) -> bool:
        """Whether validation windows were to be drawn from windows in memory."""
        sequences = self.windows.sequences
        return self.split is None and self.given is None and not is_stored(sequences)

    def preparation(self, known: Preparation | None, *, continues: bool) -> Preparation | None:
        """Describe the preparation of the windows; `known` is that of earlier windows."""
        sets = [one for one in (self.source, self.source_val) if one is not None]
        here = known if continues else None
        if sets and (continues or self.source is not None):
            here = describe_preparation(*sets, with_dwell=not continues)
            if continues and known is not None:  # recordings of further windows also count as seen
                for windows in sets:
                    check_same_preparation(known, windows)
                here = {**known, "recordings": {**known["recordings"], **here["recordings"]}}
        if self.source_val is not None:
            check_same_preparation(here, self.source_val, "X_val")
        return here


def check_channels_have_numbers(sequences: Sequences, name: str) -> None:
    """Raise if a window lacks a channel; its class could be told by that."""
    lost = np.zeros(0) if is_stored(sequences) else np.isnan(sequences.X[:, 0])
    if lost.any():
        row, channel = map(int, np.argwhere(lost)[0])
        raise InputError(
            f"{name} has no number in channel {channel} of window {row}"
            f" ({int(lost.any(axis=1).sum())} such windows); gaps within a channel are bridged,"
            " but such windows are not trained on. Leave them out."
        )


def _split(
    windows: FitPart,
    stored: NDArray[Any] | None,
    fraction: float,
    seed: np.random.SeedSequence,
    config: TrainingConfig,
    *,
    is_given: bool,
) -> tuple[NDArray[np.int64] | None, NDArray[np.int64] | None]:
    """Return training rows (None: all) and validation rows, stored or drawn."""
    if is_given:
        if stored is not None and (stored == "validation").any():
            raise InputError(
                "X already has a validation part, so X_val cannot be given as well; omit X_val,"
                ' or give X.part("train") as X.'
            )
        return None, None
    if stored is not None:
        train, validation = (np.flatnonzero(stored == part) for part in ("train", "validation"))
        if not len(train):
            raise InputError("X has a split without a train part, so there is nothing to train on.")
    elif fraction == 0.0:
        return None, None
    else:
        train, validation = _hold_out(windows, fraction, int(seed.generate_state(1)[0]), config)
    if len(validation):
        return train, validation
    if config.early_stopping and config.monitor.startswith("val_"):
        _refuse_early_stopping(len(windows.target), stored is not None, fraction, config)
    return train, None


def _hold_out(
    windows: FitPart, fraction: float, seed: int, config: TrainingConfig
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw training and validation rows, stratified by class.

    Whole groups are held out, or the end of each group if no group can be, or only windows of one
    class.
    """
    groups, starts, target = windows.groups, windows.starts, windows.target
    n_classes = len(np.unique(target))
    refused: SplitError | None = None
    rows: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None
    try:
        rows = holdout_by_group(target, groups, fraction, seed)
    except SplitError as error:
        refused = error
    if rows is not None and len(np.unique(target[rows[1]])) >= min(2, n_classes):
        return rows
    if groups is None or starts is None:
        assert rows is not None
        return rows
    train, held_out = folds_in_time(target, groups, starts, max(2, round(1 / fraction)))[-1]
    if not len(held_out) or len(np.unique(target[train])) < n_classes:
        if rows is not None:
            return rows
        raise SplitError(
            "too few groups can be held out for validation without removing a class from"
            " training, and the groups are too short to hold out their ends. Record more, give"
            " X_val, or set validation_fraction=0."
        ) from refused
    warn_caller(
        "too few groups can be held out for validation without removing a class from training,"
        " so the end of each group is held out. The validation accuracy and features_ are then"
        " for later times of the same groups: expect less of other recordings.",
        LeakWarning,
    )
    return train, held_out


def _refuse_early_stopping(
    n_windows: int, has_split: bool, fraction: float, config: TrainingConfig
) -> None:
    ways = "give X_val, or set early_stopping=False."
    if has_split:
        raise ArgumentError(
            f"monitor={config.monitor!r} needs validation windows, but the split of X has none,"
            f" only {n_windows} training windows (validation_fraction is not used with a"
            f" split). Split X into train and validation, {ways}"
        )
    raise ArgumentError(
        f"monitor={config.monitor!r} needs validation windows, but none of the {n_windows}"
        f" windows of X can be held out (validation_fraction={fraction:g}) because no class has"
        f" a second one. Record more, {ways}"
    )


def _open_training(X: Any, scale: str | None, own: dict[str, Any]) -> tuple[Any, Scaler | None]:
    scaler: Scaler | None = None
    if isinstance(X, str | os.PathLike):
        for name, value in own.items():
            if value is not None:
                raise InputError(f"the file {X} contains its own {name}; leave {name}=None.")
        X, scaler = read_training_file(X)
    if isinstance(X, WindowSet):
        refuse_scaled(X, scale)
        X = without_test(X)
    return X, scaler


def open_windows(X: Any, scale: str | None, name: str) -> Any:
    """Open a prepared file; raise for a WindowSet that is already scaled."""
    if isinstance(X, str | os.PathLike):
        X = read_prepared(X)
    refuse_sensors(X)
    if isinstance(X, WindowSet):
        refuse_scaled(X, scale, name)
    return X


def _read_groups(source: WindowSet | None, groups: Any, n_windows: int) -> NDArray[Any] | None:
    if source is not None:
        if source.split is not None and groups is not None:
            raise InputError(
                "X already has a split, which groups cannot change; leave groups=None, or split X"
                " by these groups."
            )
        if groups is None:
            groups = source.recording_id if source.groups is None else source.groups
    checked = check_groups(groups, n_windows, "groups")
    if source is not None and source.split is not None:
        check_parts(source, checked)
    return checked


def _starts_of(
    source: WindowSet | None, groups: NDArray[Any], sequences: Sequences
) -> NDArray[np.float64]:
    """Return the windows' starts in window lengths; their order stands in for unknown times."""
    starts = None if source is None else source.start_s
    if source is not None and starts is not None and source.sample_rate_hz is not None:
        length_s = sequences.X.shape[1] / source.sample_rate_hz
        in_windows: NDArray[np.float64] = starts / length_s
        return in_windows
    order = np.zeros(len(groups))
    for rows in rows_of(groups):
        order[rows] = np.arange(len(rows))
    return order


def _shape_of(sequences: Sequences, source: WindowSet | None) -> WindowShape:
    """Return the facts that further windows are compared with."""
    channels = sequences.channels
    if channels is None and source is not None:
        channels = list(source.channels)
    n_timesteps, n_channels = sequences.X.shape[1:]
    return WindowShape(n_channels, n_timesteps if sequences.is_flat else None, channels)


def _read_validation(
    X: Any,
    own: dict[str, Any],
    train_groups: NDArray[Any] | None,
    target: ClassTarget,
    known: WindowShape,
    missing: str,
) -> FitPart | None:
    if X is None:
        for name, value in own.items():
            if value is not None:
                raise InputError(f"{name} is given without X_val; give both or neither.")
        return None
    y, groups = own["y_val"], own["groups_val"]
    if isinstance(X, WindowSet):
        y = X.y if y is None else y
        groups = X.groups if groups is None else groups
    if y is None:
        raise InputError("X_val is given without y_val.")
    sequences = read_sequences(X, own["lengths_val"], "X_val", known, missing=missing)
    check_channels_have_numbers(sequences, "X_val")
    class_index = target.read(y, len(sequences), "y_val", "X_val")
    groups = check_groups(groups, len(sequences), "groups_val", "X_val")
    if train_groups is not None and groups is not None:
        shared = np.intersect1d(train_groups, groups)
        if len(shared):
            raise InputError(
                f"group {shared.tolist()[0]!r} is in both groups and groups_val ({len(shared)}"
                " such groups); validation needs groups that are not in training."
            )
    return FitPart(sequences, class_index, groups=groups)
