"""MotorsLearner: boosted trees on what currents and speeds tell about motors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.checks import valid_steps
from sensorseq.errors import ArgumentError, did_you_mean, warn_caller
from sensorseq.features.grow_trees import TreeSettings, grow_trees
from sensorseq.features.motors import Motor
from sensorseq.features.trees import BoostedTrees
from sensorseq.learners.boosting import leave_out_trees
from sensorseq.learners.learner import FittedMember, Folds, Learner, LearnerData
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.members.motors import MotorsMember, MotorWindows
from sensorseq.prediction.preparation import is_normalized
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.provenance import Provenance
from sensorseq.preprocessing.scale import Scaler
from sensorseq.preprocessing.steps.chain import StepChain, make_steps
from sensorseq.recording import Channel
from sensorseq.windows import WindowSet

Roles = tuple[str | int, str | int]
"""The channels of the current and of the speed of a motor, by name or number."""
# Chosen on folds inside the training part of BorealTC.
MOTOR_TREES = TreeSettings(150, 6, 1.0)
_FORM = 'motors=[("curL", "velL"), ("curR", "velR")]'


@dataclass(frozen=True, eq=False)
class MotorsLearner(Learner):
    """Fits boosted trees on the features of motors."""

    windows: MotorWindows
    reads_copies = False

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
        features = self.windows.features(data.X, data.lengths)
        every = np.arange(features.shape[1])

        def grow(rows: NDArray[np.int64]) -> BoostedTrees:
            of_rows = data.class_index[rows], data.weight[rows]
            return grow_trees(features[rows], every, *of_rows, MOTOR_TREES)

        logits = leave_out_trees(grow, features, folds, data.n_classes)
        is_class = data.class_index[folds.rows] == np.arange(data.n_classes)[:, None]
        share = is_class / np.maximum(is_class.sum(axis=1, keepdims=True), 1)
        member = MotorsMember(self.windows, grow(folds.rows), share @ features[folds.rows])
        return FittedMember(member, logits)


def check_motors(motors: Sequence[Roles] | None) -> list[Roles]:
    """Return the pairs (current, speed) of the argument `motors` of a classifier; [] for None.

    Raises
    ------
    ArgumentError
        If the argument is not a list of pairs of names or numbers of channels.
    """
    if motors is None:
        return []
    is_list = isinstance(motors, list | tuple) and len(motors) > 0
    kinds = str, int, np.integer
    if not is_list or not all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(each, kinds) and not isinstance(each, bool) for each in pair)
        for pair in motors
    ):
        raise ArgumentError(
            f"motors={motors!r} must be a list of pairs (current, speed) of channels, as in"
            f" {_FORM}, or None."
        )
    return [(current, speed) for current, speed in motors]


def motors_learner(
    motors: Sequence[Roles] | None,
    of_input: Input,
    data: LearnerData,
    sources: Sequence[WindowSet] = (),
) -> MotorsLearner | None:
    """Return the learner for the argument `motors` of a classifier.

    `sources` are the window sets of the fit, whose provenance tells how they were prepared. Return
    None if there are no motors. If a motor never moves, warn and also return None.

    Raises
    ------
    ArgumentError
        If `motors` does not name channels with a physical zero.
    """
    pairs = check_motors(motors)
    if not pairs:
        return None
    names = of_input.channel_names
    columns = [(_column(i, names), _column(v, names)) for i, v in pairs]
    used = [column for pair in columns for column in pair]
    twice = [names[column] for column in used if used.count(column) > 1]
    if twice:
        raise ArgumentError(
            f"motors names channel {twice[0]!r} twice; each channel belongs to one motor, as its"
            " current or as its speed."
        )
    for windows in sources:
        for origin in Provenance.of_each(windows.provenance):
            _check_zero([names[column] for column in used], origin, windows)
    center, factor = _map_back(of_input.scaler, len(names))
    preparation: Any = of_input.preparation or {}
    units = PreparationOptions.recorded(preparation).units or {}
    described = []
    for i, v in columns:
        in_units = units.get(names[i], ""), units.get(names[v], "")
        described.append(Motor((i, v), (names[i], names[v]), in_units))
    rows = data.learn_rows
    X = data.X[rows][:, :, used]
    lengths = np.full(len(rows), X.shape[1]) if data.lengths is None else data.lengths[rows]
    values = X[valid_steps(X.shape[1], lengths)]
    still = [names[c] for k, c in enumerate(used) if k % 2 and not np.ptp(values[:, k])]
    if still:
        warn_caller(
            f"the speed {still[0]!r} never changes in the training windows, so the member 'motors'"
            " is not fitted; check motors= and the recordings."
        )
        return None
    every, rate_hz = 1, preparation.get("sample_rate_hz")
    if {names[column] for column in used} & set(preparation.get("held") or ()):
        every = _steps_per_value(X, lengths)
    rate_hz = None if rate_hz is None else float(rate_hz) / every
    return MotorsLearner(MotorWindows(described, center, factor, rate_hz, every))


def _column(channel: str | int, names: list[str]) -> int:
    """Return the column of a channel, which is given by its name or number."""
    if not isinstance(channel, str):
        if 0 <= channel < len(names):
            return int(channel)
    elif channel in names:
        return names.index(channel)
    raise ArgumentError(
        f"motors names {channel!r}, which is not a channel.{did_you_mean(channel, names)} Channels:"
        f" {', '.join(names)} (0 to {len(names) - 1})."
    )


def _map_back(scaler: Scaler | None, n_channels: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the center and the factor that turn scaled values into physical values."""
    if scaler is None or scaler.kind is None:
        return np.zeros(n_channels), np.ones(n_channels)
    return scaler.channel_center.astype(np.float64), scaler.channel_scale.astype(np.float64)


def _check_zero(used: list[str], origin: Provenance, windows: WindowSet) -> None:
    """Raise an error if 0 in one of the channels `used` does not mean no current or no motion."""
    if is_normalized(origin.configuration):
        raise ArgumentError(
            "motors needs currents and speeds with their physical zero, which normalize='recording'"
            " moves; prepare without normalize='recording'."
        )
    if origin.scaled is not None:
        raise ArgumentError(
            "motors needs currents and speeds with their physical zero, but the windows are already"
            f" scaled ({origin.scaled!r}); give the unscaled windows."
        )
    options = PreparationOptions.recorded({"configuration": origin.configuration})
    if not options.steps:
        return
    units = options.units or {}
    recorded = origin.input_channels or windows.channels
    channels = tuple(Channel(name, units.get(name, "")) for name in recorded)
    lost = StepChain(make_steps(options.steps)).without_zero(channels)
    for name in used:
        if name in lost:
            raise ArgumentError(
                f"motors needs currents and speeds with their physical zero, which the step"
                f" {lost[name]!r} removed from {name!r}; name the channel before this step (a step"
                " with keep = true keeps it), or prepare without the step."
            )


def _steps_per_value(X: NDArray[Any], lengths: NDArray[np.int64]) -> int:
    """Return after how many steps a new value arrives in channels (n, t, c) that were held."""
    is_change = (X[:, 1:] != X[:, :-1]).any(axis=2) & (np.arange(1, X.shape[1]) < lengths[:, None])
    return max(1, round(float((lengths - 1).sum()) / max(int(is_change.sum()), 1)))
