"""Adapt a trained classifier to another robot, using a few labeled windows from that robot."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

from sensorseq.errors import InputError
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.members.motors import MOTORS, MotorsMember
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.scale import KINDS, Block, Scaler, fit_scaler_to_blocks
from sensorseq.training.inputs import check_channels_have_numbers
from sensorseq.training.labels import read_known_labels
from sensorseq.training.prepared_windows import describe_preparation
from sensorseq.windows import WindowSet

# Both were chosen on the development robots of benchmarks/bench_adapt.py.
SHARES = (0.25, 0.5, 0.75, 1.0)
# In nats. Where the scaling was already right, moving it raised the log-loss of other windows after
# gains of up to 0.18 nats on the few windows.
LEAST_GAIN = 0.3


@dataclass(frozen=True)
class Adaptation:
    """A summary of the changes that `SensorLSTMClassifier.adapt` made.

    `source` is the SHA-256 of the old model's file, or None if the model cannot be saved.
    `scaling_share` tells how far the scaling was moved: 0 is the old scaling, and 1 is the scaling
    of the new windows. The log-losses are means over the new windows, in nats. `log_loss_after` is
    optimistic, because the scaling was chosen on these windows.
    """

    source: str | None
    n_windows: int
    scaling_share: float
    log_loss_before: float
    log_loss_after: float
    reason: str

    def __str__(self) -> str:
        source = "a model that cannot be saved" if self.source is None else self.source[:16]
        return (
            f"adapted from {source}, using {self.n_windows} windows: {self.reason}. Log-loss on"
            f" these windows: {self.log_loss_before:.3f} before, {self.log_loss_after:.3f} after."
        )


def adapt(
    model: TrainedModel, source: str | None, X: Any, y: Any, lengths: ArrayLike | None
) -> tuple[TrainedModel, Adaptation]:
    """Return a model adapted to a few windows of another robot.

    `source` is the SHA-256 of the old model's file.
    """
    few = _read_few(model, X, y, lengths)
    model = _copy_of(model)
    # Widen the ranges first, so that missing="outside" does not mask channels of the new windows.
    if (ranges := model.input.ranges) is not None:
        for piece in _cropped(model, few):
            ranges = ranges.widened(piece.X, piece.lengths)
        model = model.with_input(ranges=ranges)
    before = _losses(model, few)
    model, share, reason = _move_scaling(model, few, before)
    if isinstance(X, WindowSet):
        here = describe_preparation(X)
        earlier = model.preparation or here
        seen = {**earlier["recordings"], **here["recordings"]}
        model = model.with_input(preparation={**earlier, "recordings": seen})
    after = _losses(model, few)
    return model, Adaptation(
        source, len(few), share, float(before.mean()), float(after.mean()), reason
    )


def _read_few(model: TrainedModel, X: Any, y: Any, lengths: ArrayLike | None) -> Windows:
    """Read and check windows and labels; leave out test windows."""
    if isinstance(X, WindowSet):
        if X.split is not None:
            refuse_apart(y)
            X = X.take(np.flatnonzero(X.split != "test"))
        y = X.y if y is None else y
    windows = model.input.read(X, lengths)
    check_channels_have_numbers(windows, "X")
    target = read_known_labels(
        y, len(windows), "y", "X", model.classes, "is not a class of the model"
    )
    return replace(windows, target=target)


def refuse_apart(y: Any) -> None:
    """Raise an error if labels are given separately for windows that have a split."""
    if y is not None:
        raise InputError("X has a split; give y in the WindowSet, not separately.")


def _copy_of(model: TrainedModel) -> TrainedModel:
    """Return a copy with its own networks, without class frequencies and abstention."""
    networks = [copy.deepcopy(network) for network in model.lstm.networks]
    return replace(model.with_lstm(networks=networks), shares=None, abstention=None)


def _cropped(model: TrainedModel, few: Windows) -> Iterator[Windows]:
    """Yield the windows in pieces, cropped as in training."""
    of_sensor = model.input
    return (piece.cropped(of_sensor.max_timesteps, of_sensor.crop) for piece in few.pieces())


def _losses(model: TrainedModel, few: Windows) -> NDArray[np.float64]:
    """Return the log-loss of each window."""
    logits, lacks = model.input.logits_and_lacks(few, model.sum)
    model.check_not_empty(lacks)
    logs = log_softmax(logits / model.temperature, axis=1)
    return -np.asarray(logs)[np.arange(len(few)), few.target]


def _move_scaling(
    model: TrainedModel, few: Windows, before: NDArray[np.float64]
) -> tuple[TrainedModel, float, str]:
    """Return the model with the best scaling, how far the scaling was moved, and the reason."""
    old = model.scaler
    if not isinstance(old, Scaler) or old.kind not in KINDS:
        return model, 0.0, "the scaling was kept, because it was not learned from windows"
    new = _fit_scaler(model, few, old.kind)
    tried = [(share, _with_scaler(model, _between(old, new, share))) for share in SHARES]
    losses = [_losses(moved, few) for _, moved in tried]
    best = int(np.argmin([loss.mean() for loss in losses]))
    doubt = _doubt(before - losses[best], few.target)
    if doubt:
        return model, 0.0, f"the scaling was kept, because {doubt}"
    share, moved = tried[best]
    return moved, share, f"the scaling was moved by a fraction of {share:g} toward these windows"


def _fit_scaler(model: TrainedModel, few: Windows, kind: str) -> Scaler:
    """Return the scaling of the windows themselves."""

    def blocks() -> Iterator[Block]:
        return ((piece.X, piece.lengths) for piece in _cropped(model, few))

    return fit_scaler_to_blocks(blocks, kind)


def _between(old: Scaler, new: Scaler, share: float) -> Scaler:
    """Return a scaling between two others; channels that are constant in one of them stay."""
    varies = np.ones(old.n_channels, bool)
    varies[list({*old.constant_channels, *new.constant_channels})] = False
    part = np.where(varies, share, 0.0)
    return replace(
        old,
        channel_center=old.channel_center + part * (new.channel_center - old.channel_center),
        channel_scale=old.channel_scale * (new.channel_scale / old.channel_scale) ** part,
    )


def _with_scaler(model: TrainedModel, scaler: Scaler) -> TrainedModel:
    """Return the model with another scaling, from which motors get the same physical values."""
    motors = model.sum.members.get(MOTORS)
    if isinstance(motors, MotorsMember):
        center, factor = scaler.channel_center, scaler.channel_scale
        motors = replace(motors, windows=replace(motors.windows, center=center, factor=factor))
        model = replace(model, sum=model.sum.with_member(MOTORS, motors))
    return model.with_input(scaler=scaler)


def _doubt(gain: NDArray[np.float64], class_index: NDArray[np.int64]) -> str:
    """Return why a gain is not clear, or nothing if it is; every class has the same weight."""
    means = np.array([gain[class_index == k].mean() for k in np.unique(class_index)])
    if len(means) == 1:
        return "windows of one class cannot show whether a change helps"
    if means.mean() <= LEAST_GAIN:
        return f"moving it does not lower the log-loss by more than {LEAST_GAIN:g} nats"
    if means.mean() <= means.std(ddof=1) / np.sqrt(len(means)):
        return "moving it does not lower the log-loss by more than its standard error over classes"
    return ""
