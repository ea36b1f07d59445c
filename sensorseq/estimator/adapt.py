"""Adapt a trained classifier to another robot, using a few labeled windows from that robot."""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sensorseq.base.checks import check_groups
from sensorseq.errors import InputError
from sensorseq.features.ridge import Fold
from sensorseq.prediction.checked_windows import Windows
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.linear import LinearMember, describe
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.motors import MOTORS, MotorsMember
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.scale import KINDS, Scaler, fit_scaler
from sensorseq.training.evaluation import modules_of, network_outputs
from sensorseq.training.inputs import check_channels_have_numbers
from sensorseq.training.labels import read_known_labels
from sensorseq.training.prepared_windows import describe_preparation
from sensorseq.windows import WindowSet

MOST_WINDOWS = 2_000  # the time to solve for the linear layer grows with n^3
# Chosen on the development robots of benchmarks/bench_adapt.py.
SHARES = (0.25, 0.5, 0.75, 1.0)
STRENGTH = 0.3
# In nats. With a smaller gain, the scaling is kept, because the linear layer corrects small shifts.
_LEAST_GAIN = 0.5
_FOLDS = 5


@dataclass(frozen=True)
class Adaptation:
    """A summary of the changes that `SensorLSTMClassifier.adapt` made.

    `source` is the SHA-256 of the old model's file, or None if the model cannot be saved.
    `scaling_share` tells how far the scaling was moved: 0 is the old scaling, and 1 is the scaling
    of the new windows. `head` is True if the linear layer was changed. The log-losses are means
    over the new windows, in nats. `log_loss_after` is optimistic, because the model has learned
    from these windows.
    """

    source: str | None
    n_windows: int
    scaling_share: float
    head: bool
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
    model: TrainedModel,
    source: str | None,
    X: Any,
    y: Any,
    groups: ArrayLike | None,
    lengths: ArrayLike | None,
) -> tuple[TrainedModel, Adaptation]:
    """Return a model adapted to a few windows of another robot.

    `source` is the SHA-256 of the old model's file. The model's networks may be changed in place.
    """
    few = read_few(model, X, y, groups, lengths)
    of_sensor = model.input
    cropped = few.cropped(of_sensor.max_timesteps, of_sensor.crop)
    # Widen the ranges first, so that missing="outside" does not mask channels of the new windows.
    if of_sensor.ranges is not None:
        model = model.with_input(ranges=of_sensor.ranges.widened(cropped.X, cropped.lengths))
    before = losses(model, few)
    model, share = move_scaling(model, few, cropped, before)
    moved = f"was moved by a fraction of {share:g} toward these windows" if share else "was kept"
    head, why = _move_head(model, few)
    if isinstance(X, WindowSet):
        here = describe_preparation(X)
        earlier = model.preparation or here
        seen = {**earlier["recordings"], **here["recordings"]}
        model = model.with_input(preparation={**earlier, "recordings": seen})
    return model, Adaptation(
        source,
        len(few),
        share,
        head,
        float(before.mean()),
        float(losses(model, few).mean()),
        f"the scaling {moved}, the linear layer {why}",
    )


def read_few(model: TrainedModel, X: Any, y: Any, groups: Any, lengths: Any) -> Windows:
    """Read and check windows and labels; leave out test windows."""
    if isinstance(X, WindowSet):
        if X.split is not None:
            refuse_apart(y, groups)
            X = X.take(np.flatnonzero(X.split != "test"))
        y = X.y if y is None else y
        if groups is None:  # with fewer than two groups, use the recordings as groups
            is_one_group = X.groups is None or len(np.unique(X.groups)) == 1
            groups = X.recording_id if is_one_group else X.groups
    windows = model.input.read(X, lengths)
    n = len(windows)
    if n > MOST_WINDOWS:
        raise InputError(
            f"X has {n} windows; adapt accepts at most {MOST_WINDOWS}. Use fit to train on these"
            " windows and the old ones together."
        )
    windows = windows.held()
    check_channels_have_numbers(windows, "X")
    target = read_known_labels(y, n, "y", "X", model.classes, "is not a class of the model")
    named = check_groups("groups", groups, n)
    numbers = None if named is None else np.unique(named, return_inverse=True)[1]
    return replace(windows, target=target, groups=numbers)


def losses(model: TrainedModel, few: Windows) -> NDArray[np.float64]:
    """Return the log-loss of each window."""
    logits, lacks = model.input.logits_and_lacks(few, model.sum)
    model.check_not_empty(lacks)
    return _log_loss(logits / model.temperature, few.target)


def refuse_apart(y: Any, groups: Any) -> None:
    """Raise an error if labels or groups are given separately for windows that have a split."""
    if y is not None or groups is not None:
        raise InputError("X has a split; give y and groups in the WindowSet, not separately.")


def _log_loss(logits: NDArray[np.float64], class_index: NDArray[np.int64]) -> NDArray[np.float64]:
    return -np.asarray(log_softmax(logits, axis=1))[np.arange(len(logits)), class_index]


def _falls(gain: NDArray[np.float64], class_index: NDArray[np.int64], least: float) -> bool:
    """Test whether the mean gain over the classes exceeds its standard error and `least`."""
    means = np.array([gain[class_index == k].mean() for k in np.unique(class_index)])
    error = means.std(ddof=1) / np.sqrt(len(means)) if len(means) > 1 else np.inf
    return bool(means.mean() > max(least, error))


def move_scaling(
    model: TrainedModel, few: Windows, cropped: Windows, before: NDArray[np.float64]
) -> tuple[TrainedModel, float]:
    """Return the model with the best scaling, and how far the scaling was moved (0 if kept)."""
    old = model.scaler
    if not isinstance(old, Scaler) or old.kind not in KINDS:
        return model, 0.0
    new = fit_scaler(cropped.X, cropped.lengths, old.kind)
    varies = np.ones(old.n_channels, bool)
    varies[list({*old.constant_channels, *new.constant_channels})] = False
    tried = []
    for share in SHARES:
        part = np.where(varies, share, 0.0)
        scaler = replace(
            old,
            channel_center=old.channel_center + part * (new.channel_center - old.channel_center),
            channel_scale=old.channel_scale * (new.channel_scale / old.channel_scale) ** part,
        )
        tried.append((scaler, share, losses(_with_scaler(model, scaler), few)))
    scaler, share, loss = min(tried, key=lambda trial: float(trial[2].mean()))
    moved = _falls(before - loss, few.target, _LEAST_GAIN)
    return (_with_scaler(model, scaler), share) if moved else (model, 0.0)


def _with_scaler(model: TrainedModel, scaler: Scaler) -> TrainedModel:
    """Return the model with another scaling, from which motors get the same physical values."""
    motors = model.sum.members.get(MOTORS)
    if isinstance(motors, MotorsMember):
        center, factor = scaler.channel_center, scaler.channel_scale
        motors = replace(motors, windows=replace(motors.windows, center=center, factor=factor))
        model = replace(model, sum=model.sum.with_member(MOTORS, motors))
    return model.with_input(scaler=scaler)


def _move_head(model: TrainedModel, few: Windows) -> tuple[bool, str]:
    """Change the linear layer in place if that lowers the log-loss in cross-validation."""
    folds = split_few(few)
    if not folds:  # an unchecked change can cost 15 percentage points of accuracy
        return False, "was kept (checking a change needs two groups of each class)"
    parts = list(linear_parts(model, few))
    if not parts:
        return False, "was kept (only boosted trees are used, and adapt does not change trees)"
    gain = np.mean([part.gain(few.target, folds) for part in parts], axis=0)
    if not _falls(gain, few.target, 0.0):
        return False, "was kept (changing it gave no clear gain on left-out windows)"
    for part in parts:
        part.change(few.target)
    return True, "was changed (this lowers the log-loss of left-out windows)"


def split_few(few: Windows) -> list[Fold]:
    """Return stratified folds of whole groups, or an empty list if there are too few groups."""
    groups = np.arange(len(few.target)) if few.groups is None else few.groups
    of_class = np.unique(np.stack([few.target, groups]), axis=1)[0]
    n_folds = min(_FOLDS, int(np.unique(of_class, return_counts=True)[1].min()))
    if n_folds < 2:
        return []
    # without shuffling, so that neighboring windows stay in the same fold
    cut = StratifiedKFold(n_folds) if few.groups is None else StratifiedGroupKFold(n_folds)
    pairs = cut.split(few.target, few.target, few.groups)
    return [pair for pair in pairs if all(map(len, pair))]


# The features of a linear layer, and the function that adds a change to its weights.
_Layer = tuple[NDArray[Any], Callable[[Any, Any], None]]


class LinearPart:
    """Linear layers whose outputs are summed, and a regularized change of their weights.

    The L2 penalty applies to the change. The optimal change is then a linear combination of the
    windows' features. Its coefficients, one per window and logit, are the solution of the dual
    problem. The features of all layers are centered and scaled to the same mean square.
    """

    def __init__(
        self, layers: Sequence[_Layer], logits: NDArray[np.float64], temperature: float
    ) -> None:
        self._layers, self.logits, self._temperature = layers, logits / temperature, temperature
        self._centers = [values.mean(axis=0, dtype=np.float64) for values, _ in layers]
        self._centered = [a - b for (a, _), b in zip(layers, self._centers, strict=True)]
        squares = [float((values**2).sum(axis=1).mean()) for values in self._centered]
        self._factors = [1 / (len(layers) * max(square, 1e-12)) for square in squares]
        products = [f * (a @ a.T) for f, a in zip(self._factors, self._centered, strict=True)]
        self.products = 1.0 + np.sum(products, axis=0)  # 1.0 for the bias, whose feature is 1

    def gain(self, class_index: NDArray[np.int64], folds: Sequence[Fold]) -> NDArray[np.float64]:
        """Return how much each window's log-loss falls after a change fitted to the other folds."""
        changed = self.logits.copy()
        for fit, test in folds:
            dual = self.solve(class_index, fit)
            changed[test] += self.products[np.ix_(test, fit)] @ dual
        return _log_loss(self.logits, class_index) - _log_loss(changed, class_index)

    def change(self, class_index: NDArray[np.int64]) -> None:
        """Add the change to the layers' weights."""
        dual = self._temperature * self.solve(class_index, np.arange(len(class_index)))
        bias = dual.sum(axis=0)  # only the first layer adds the bias
        parts = zip(self._layers, self._factors, self._centered, self._centers, strict=True)
        for (_, add), factor, centered, center in parts:
            weight = factor * (centered.T @ dual)
            add(weight, bias - center @ weight)
            bias = np.zeros_like(bias)

    def solve(self, class_index: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[Any]:
        """Return the dual coefficients: each window's weight in the change of each logit."""
        values, vectors = np.linalg.eigh(self.products[np.ix_(rows, rows)])
        used = values > 1e-10 * values[-1]
        root = np.sqrt(values[used])
        basis = vectors[:, used] * root
        logits, n_classes = self.logits[rows], self.logits.shape[1]
        is_class = np.eye(n_classes)[class_index[rows]]

        def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weights = flat.reshape(-1, n_classes)
            logs = log_softmax(logits + basis @ weights, axis=1)
            slope = basis.T @ (np.exp(logs) - is_class) + STRENGTH * weights
            value = float(STRENGTH / 2 * (weights**2).sum() - (is_class * logs).sum())
            return value, slope.ravel()

        start = np.zeros(basis.shape[1] * n_classes)
        minimum = minimize(loss, start, jac=True, method="L-BFGS-B")
        dual: NDArray[np.float64] = (vectors[:, used] / root) @ minimum.x.reshape(-1, n_classes)
        return dual


def linear_parts(model: TrainedModel, few: Windows) -> Iterator[LinearPart]:
    """Yield one part for all linear layers on features; if there are none, one part per network.

    Yield nothing if there are no linear layers on features and the networks have weight 0.
    """
    scaled, lengths = model.input.scaled(few)
    members, weights = model.sum.members, model.sum.used
    layers = [
        (describe(member.describe, scaled, lengths), partial(_add, members, name, weights[name]))
        for name, member in members.items()
        if isinstance(member, LinearMember)
    ]
    if layers:
        yield LinearPart(layers, model.sum.logits(scaled, lengths), model.temperature)
        return
    if not model.sum.uses_lstm:
        return
    whole = None if model.sum.is_lstm_alone else model.sum.logits(scaled, lengths)
    steps, valid = model.lstm.steps(scaled, lengths)
    for module in modules_of(model):
        pooled, weight = copy.deepcopy(module), module.linear.weight
        size = pooled.num_classes = pooled.linear.out_features = module.linear.in_features
        pooled.linear.weight = torch.nn.Parameter(torch.eye(size).to(weight))
        pooled.linear.bias = torch.nn.Parameter(torch.zeros(size).to(weight))
        states = network_outputs(pooled, steps, valid)
        logits = whole
        if logits is None:
            outputs = network_outputs(module, steps, valid)
            logits = model.sum.bias + weights[LSTM] * outputs
        add = partial(_add_to_module, module, weights[LSTM])
        yield LinearPart([(states, add)], logits, model.temperature)


def _add(
    members: dict[str, Member],
    name: str,
    factor: float,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
) -> None:
    member = members[name]
    assert isinstance(member, LinearMember)
    members[name] = member.plus(weight / factor, bias / factor)


@torch.no_grad()
def _add_to_module(
    module: Any, factor: float, weight: NDArray[np.float64], bias: NDArray[np.float64]
) -> None:
    linear = module.linear
    linear.weight += torch.from_numpy(weight.T / factor).to(linear.weight)
    linear.bias += torch.from_numpy(bias / factor).to(linear.bias)


def copy_model(model: TrainedModel) -> TrainedModel:
    """Return a copy whose layers can be changed, without class frequencies and abstention."""
    networks = [copy.deepcopy(network) for network in model.lstm.networks]
    return replace(model.with_lstm(networks=networks), shares=None, abstention=None)
