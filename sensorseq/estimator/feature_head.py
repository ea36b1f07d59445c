"""Fit the members that read features, and the weights of all members."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError
from sensorseq.features import (
    CompetingKernels,
    RandomConvolutions,
    SummaryFeatures,
    SummarySteps,
)
from sensorseq.features.grow_trees import grow_trees, important_statistics
from sensorseq.features.ridge import MOST_WINDOWS, STRENGTHS, Fold, fit_ridge
from sensorseq.features.stack import fit_stack
from sensorseq.features.trees import BoostedTrees
from sensorseq.prediction.members.boosting import BoostingMember, log_probabilities
from sensorseq.prediction.members.choice import LSTM, Candidate, FeatureChoice
from sensorseq.prediction.members.linear import Described, LinearMember, describe
from sensorseq.prediction.members.lstm import LstmMember
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.sum import BOOSTING, FEATURE_KINDS, Sum

MANY_WINDOWS = 4_000  # with more windows, use fewer convolutions, so that ridge fits stay fast
ROCKET_FEATURES, ROCKET_FEATURES_OF_MANY = 10_000, 2_016
# Boosting and steps use this many of the best statistics. On development folds with derived
# channels, using more statistics took longer and was no more accurate.
BOOSTED_STATISTICS, STEPPED_STATISTICS = 150, 400
# The ridge penalty if folds are cut in time. In 12 draws of one training recording per class, the
# accuracy on the other recordings was 43.5 % (BorealTC's motor data) and 73.7 % (simulated
# surfaces) with this penalty and equal weights. With penalties chosen on folds cut in time, the
# accuracies were 39.9 % and 72.6 %.
_STRENGTH_IN_TIME = 1e-3
# weight of the LSTM if all weights would be 0, so that its logits still rank the classes
_SMALLEST_WEIGHT = 1e-3


def check_features(features: Any) -> None:
    """Raise an ArgumentError unless `features` is a value that the classifier accepts."""
    kinds = _as_list(features)
    for kind in kinds:
        is_name = isinstance(kind, str) and kind in FEATURE_KINDS
        if not (callable(kind) or is_name):
            raise ArgumentError(
                f"features={features!r} is not known. Use 'auto', None,"
                f" {', '.join(map(repr, FEATURE_KINDS))}, a function (windows, lengths) -> array of"
                " shape (n, f), or a list of these."
            )
    names = [kind for kind in kinds if isinstance(kind, str)]
    if len(set(names)) < len(names):
        raise ArgumentError(f"features={features!r} names a kind twice.")
    if features is not None and not kinds:
        raise ArgumentError("features is an empty list; use features=None for the LSTM alone.")


def _as_list(features: Any) -> list[Any]:
    if features is None:
        return []
    if isinstance(features, str) and features == "auto":
        return list(FEATURE_KINDS)
    return list(features) if isinstance(features, list | tuple) else [features]


def try_functions(features: Any, data: "HeadData") -> None:
    """Call the user's functions on two windows to find mistakes before training."""
    lengths = None if data.lengths is None else data.lengths[:2]
    for kind in _as_list(features):
        if callable(kind):
            describe(kind, data.X[:2], lengths)


@dataclass(frozen=True)
class HeadData:
    """The scaled windows on which members are fitted.

    `weight` is the positive weight of each window in the loss. Thresholds and convolutions are
    chosen from the windows with the indices `learn_rows`, which are in the training part.
    """

    X: NDArray[Any]
    lengths: NDArray[np.int64] | None
    class_index: NDArray[np.int64]
    weight: NDArray[np.float64]
    n_classes: int
    learn_rows: NDArray[np.int64]

    def take(self, rows: NDArray[np.int64]) -> "HeadData":
        """Return the windows with the indices `rows`, and adjust `learn_rows`."""
        lengths = None if self.lengths is None else self.lengths[rows]
        learn = np.flatnonzero(np.isin(rows, self.learn_rows))
        taken = self.X[rows], lengths, self.class_index[rows], self.weight[rows]
        return HeadData(*taken, self.n_classes, learn)

    def join(self, other: "HeadData") -> "HeadData":
        """Return the windows of both data sets, with the `learn_rows` of `self`."""
        lengths = None
        if self.lengths is not None and other.lengths is not None:
            lengths = np.concatenate([self.lengths, other.lengths])
        X, class_index, weight = (
            np.concatenate([getattr(part, name) for part in (self, other)])
            for name in ("X", "class_index", "weight")
        )
        return HeadData(X, lengths, class_index, weight, self.n_classes, self.learn_rows)


class Weighted(NamedTuple):
    """A fitted sum, the reasons for its weights, and its logits for windows left out of the fits.

    `logits` (n, K) belong to the windows with the indices `rows` among all windows of the fit.
    """

    sum: Sum
    choice: FeatureChoice
    logits: NDArray[np.float64]
    rows: NDArray[np.int64]


@dataclass
class FittedFeatures:
    """The members fitted on each kind of feature, with their cross-validated scores.

    `scores` contains an array (n, K) for each member, with NaN for windows that are in no test
    fold; `rows` are the indices of the n windows among all windows. If the folds are cut `in_time`,
    they are not suitable for fitting weights. In this case, if there are linear layers, only these
    are used, and all of them get the same weight.
    """

    class_index: NDArray[np.int64]
    weight: NDArray[np.float64]
    rows: NDArray[np.int64]
    members: dict[str, Member]
    scores: list[NDArray[np.float64]]
    n_folds: int
    in_time: bool = False

    def take(self, places: NDArray[np.int64]) -> "FittedFeatures":
        """Return the same features with the scores of only some of the n windows."""
        truth = self.class_index[places], self.weight[places], self.rows[places]
        scores = [of_kind[places] for of_kind in self.scores]
        return FittedFeatures(*truth, self.members, scores, self.n_folds, self.in_time)

    def join(self, lstm: LstmMember, lstm_logits: NDArray[np.float64]) -> Weighted:
        """Fit the weights of the LSTM and the features.

        The `lstm_logits` (n, K) are NaN for windows on which the LSTM was trained.
        """
        lstm_logits = lstm_logits[self.rows]
        weights, log_loss = self.weigh(lstm_logits)
        if not weights.any():
            weights[0] = _SMALLEST_WEIGHT
        tested = self._tested(lstm_logits)
        truth = self.class_index[tested], self.weight[tested]
        stacked = np.stack([lstm_logits, *self.scores])[:, tested]
        together = np.tensordot(weights, stacked, 1)
        members: dict[str, Member] = {LSTM: lstm, **self.members}
        table = dict(zip(members, weights.tolist(), strict=True))
        centered = stacked - stacked.mean(axis=2, keepdims=True)
        spread = weights * np.sqrt((centered**2).mean(axis=(1, 2)))
        shares = (spread / spread.sum()).tolist()
        candidates = [
            replace(self._try(name, scores, table[name]), share=share)
            for name, scores, share in zip(
                members, [lstm_logits, *self.scores], shares, strict=True
            )
        ]
        joined = Candidate("together", log_loss, _accuracy(together, *truth), None)
        choice = _describe_choice([*candidates, joined], len(together), self.n_folds)
        kept = (LSTM, *choice.names)
        whole = Sum(
            {name: members[name] for name in kept},
            {name: table[name] for name in kept},
            np.zeros(together.shape[1]),
        )
        return Weighted(whole, choice, together, self.rows[tested])

    def _tested(self, lstm_logits: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Return a mask of the windows that have scores from every model."""
        has_scores = [np.isfinite(scores).all(axis=1) for scores in (lstm_logits, *self.scores)]
        return np.asarray(np.all(has_scores, axis=0))

    def weigh(self, lstm_logits: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """Return the weights of the LSTM and of the other members, and the log-loss of the sum."""
        tested = self._tested(lstm_logits)
        class_index, weight = self.class_index[tested], self.weight[tested]
        stacked = np.stack([lstm_logits, *self.scores])[:, tested]
        members = self.members.values()
        are_linear = np.array([False, *(isinstance(member, LinearMember) for member in members)])
        if self.in_time and are_linear.any():
            factor, log_loss = fit_stack(stacked[are_linear].sum(0)[None], class_index, weight)
            return factor * are_linear, log_loss
        return fit_stack(stacked, class_index, weight)

    def _try(self, name: str, scores: NDArray[np.float64], factor: float) -> Candidate:
        """Return the log-loss, accuracy and factor of one model."""
        tested = np.isfinite(scores).all(axis=1)
        truth = self.class_index[tested], self.weight[tested]
        _, log_loss = fit_stack(scores[None, tested], *truth)
        return Candidate(name, log_loss, _accuracy(scores[tested], *truth), factor)


def fit_features(
    features: Any,
    data: HeadData,
    folds: Sequence[Fold],
    rows: NDArray[np.int64],
    seed: np.random.SeedSequence,
    in_time: bool,
) -> FittedFeatures:
    """Fit the members on features to the windows `rows`, and once more for each fold.

    Linear layers are fitted by ridge regression. The `folds` are pairs (fit rows, test rows), cut
    in time if `in_time` is true.
    """
    drawn = np.arange(len(data.X))
    if len(data.X) > MOST_WINDOWS:
        rng = np.random.default_rng(seed)
        drawn = draw_windows(data.class_index, data.learn_rows, MOST_WINDOWS, rng)
        data, folds, rows = _thinned(drawn, data, folds, rows)
    tested = np.unique(np.concatenate([test_rows for _, test_rows in folds]))
    class_index, weight = data.class_index[tested], data.weight[tested]

    def loss(scores: NDArray[np.float64]) -> float:
        return fit_stack(scores[None, tested], class_index, weight)[1]

    members: dict[str, Member] = {}
    scores = []
    strengths = (_STRENGTH_IN_TIME,) if in_time else STRENGTHS
    for number, kind in enumerate(_as_list(features)):
        name = kind if isinstance(kind, str) else f"function_{number}"
        if kind == BOOSTING:
            members[name], out_of_fold = _fit_trees(data, folds, rows)
        else:
            members[name], out_of_fold = _fit_linear(
                name, kind, data, folds, rows, seed, loss, strengths
            )
        scores.append(out_of_fold)
    truth = data.class_index, data.weight
    return FittedFeatures(*truth, drawn, members, scores, len(folds), in_time)


def _fit_linear(
    name: str,
    kind: Any,
    data: HeadData,
    folds: Sequence[Fold],
    rows: NDArray[np.int64],
    seed: np.random.SeedSequence,
    loss: Callable[[NDArray[np.float64]], float],
    strengths: Sequence[float],
) -> tuple[Member, NDArray[np.float64]]:
    """Fit ridge regression on features; return the member with its cross-validated scores."""
    features = learn_features(kind, data, seed)
    columns = None
    if isinstance(features, SummarySteps):
        features, columns = _choose_steps(features, data, folds, rows)
    values = describe(features, data.X, data.lengths)
    center, scale = _standard(values[rows], is_plain=kind == "summary")
    target = 2.0 * np.eye(data.n_classes)[data.class_index] - 1.0
    values -= center  # in place, because the array may take gigabytes
    values *= scale
    fitted = fit_ridge(values, target, data.weight, folds, rows, loss, columns, strengths)
    weight = scale[:, None] * fitted.weight
    bias = fitted.bias - center @ weight
    if isinstance(features, SummarySteps) and columns is not None:
        n_thresholds = features.n_steps - 1
        features = features.take(columns[-1][::n_thresholds] // n_thresholds)
        weight = weight[columns[-1]]
    return LinearMember(name, features, weight.astype(np.float32), bias), fitted.out_of_fold


def _choose_steps(
    steps: SummarySteps, data: HeadData, folds: Sequence[Fold], rows: NDArray[np.int64]
) -> tuple[SummarySteps, list[NDArray[np.int64]] | None]:
    """Select statistics for each fit; return all selected steps, and the columns of each fit.

    There is one fit per fold, then one fit on `rows`; each selects statistics on its own windows.
    The columns are None if every fit uses all columns.
    """
    n_thresholds = steps.n_steps - 1
    if steps.n_features_ <= STEPPED_STATISTICS * n_thresholds:
        return steps, None
    statistics = SummaryFeatures().fit(data.X, data.lengths).transform(data.X, data.lengths)
    chosen = [
        important_statistics(
            statistics[of_fit], data.class_index[of_fit], data.weight[of_fit], STEPPED_STATISTICS
        )
        for of_fit in (*(fit_rows for fit_rows, _ in folds), rows)
    ]
    of_any = np.unique(np.concatenate(chosen))
    places = [np.searchsorted(of_any, of_fit) for of_fit in chosen]
    thresholds = np.arange(n_thresholds)
    columns = [np.ravel(place[:, None] * n_thresholds + thresholds) for place in places]
    return steps.take(of_any), columns


def _fit_trees(
    data: HeadData, folds: Sequence[Fold], rows: NDArray[np.int64]
) -> tuple[Member, NDArray[np.float64]]:
    """Fit boosted trees to summary statistics; return them with their cross-validated scores."""
    summary = SummaryFeatures().fit(data.X, data.lengths)
    statistics = summary.transform(data.X, data.lengths)

    def grow(fit_rows: NDArray[np.int64]) -> BoostedTrees:
        values, weight = statistics[fit_rows], data.weight[fit_rows]
        class_index = data.class_index[fit_rows]
        columns = important_statistics(values, class_index, weight, BOOSTED_STATISTICS)
        return grow_trees(values, columns, class_index, weight)

    out_of_fold = np.full((len(data.X), data.n_classes), np.nan)
    for fit_rows, test_rows in folds:
        tested = statistics[test_rows]
        out_of_fold[test_rows] = log_probabilities(grow(fit_rows), tested, data.n_classes)
    return BoostingMember(BOOSTING, summary, grow(rows), data.n_classes), out_of_fold


def draw_windows(
    class_index: NDArray[np.int64],
    learn_rows: NDArray[np.int64],
    most: int,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Draw up to `most` windows, in order, including a training window of each class."""
    if len(class_index) <= most:
        return np.arange(len(class_index))
    order = rng.permutation(len(class_index))
    learned = order[np.isin(order, learn_rows)]
    first = learned[np.unique(class_index[learned], return_index=True)[1]]
    further = order[~np.isin(order, first)]
    return np.sort(np.concatenate([first, further])[:most])


def _thinned(
    drawn: NDArray[np.int64], data: HeadData, folds: Sequence[Fold], rows: NDArray[np.int64]
) -> tuple[HeadData, list[Fold], NDArray[np.int64]]:
    """Restrict data, folds and rows to the drawn windows."""

    def kept(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.flatnonzero(np.isin(drawn, rows))

    return data.take(drawn), [(kept(fit), kept(test)) for fit, test in folds], kept(rows)


def learn_features(kind: Any, data: HeadData, seed: np.random.SeedSequence) -> Described:
    """Return features learned from windows that are not held out."""
    if callable(kind):
        function: Described = kind
        return function
    rows = data.learn_rows
    lengths = None if data.lengths is None else data.lengths[rows]
    if kind == "summary":
        return SummarySteps().fit(data.X[rows], lengths)
    random_state, n_threads = int(seed.generate_state(1)[0]), torch.get_num_threads()
    if kind == "hydra":
        return CompetingKernels(random_state, n_threads, pad=True).fit(data.X[rows], lengths)
    many = len(data.X) > MANY_WINDOWS
    n_features = ROCKET_FEATURES_OF_MANY if many else ROCKET_FEATURES
    convolutions = RandomConvolutions(
        n_features, random_state=random_state, n_threads=n_threads, pad=True
    )
    return convolutions.fit(data.X[rows], lengths)


def _standard(
    values: NDArray[np.float32], *, is_plain: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each feature's mean and the factor that standardizes it."""
    if is_plain:  # steps are 0 or 1; a fixed scale keeps the effect of rare steps small
        n_features = values.shape[1]
        return np.full(n_features, 0.5, np.float32), np.full(n_features, 2.0, np.float32)
    center = values.mean(axis=0, dtype=np.float64)
    sd = values.std(axis=0, dtype=np.float64)
    varies = sd > 1e-6 * np.maximum(np.abs(center), 1e-30)
    scale = np.where(varies, 1.0 / np.where(varies, sd, 1.0), 0.0)
    return center.astype(np.float32), scale.astype(np.float32)


def _accuracy(
    scores: NDArray[np.float64], class_index: NDArray[np.int64], weight: NDArray[np.float64]
) -> float:
    return float(np.average(scores.argmax(axis=1) == class_index, weights=weight))


def _describe_choice(tried: list[Candidate], n_windows: int, n_folds: int) -> FeatureChoice:
    """Describe the choice; `tried` starts with the LSTM and ends with the sum of all models."""
    alone, together = tried[0], tried[-1]
    used = tuple(candidate.name for candidate in tried[1:] if candidate.weight)
    reason = (
        f"log-loss of {n_windows} windows left out in {n_folds} fold(s): LSTM alone"
        f" {alone.log_loss:.3f}, with {' and '.join(used)} {together.log_loss:.3f}"
        if used
        else "no features lowered the log-loss of windows left out"
    )
    return FeatureChoice(used, tuple(tried), n_windows, n_folds, reason)
