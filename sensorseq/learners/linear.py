"""LinearLearner: ridge regression on features of windows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.features import CompetingKernels, RandomConvolutions, SummarySteps
from sensorseq.features.ridge import STRENGTHS, RidgeFit, fit_ridge
from sensorseq.learners.learner import FittedMember, Folds, Learner, LearnerData
from sensorseq.prediction.members.linear import Described, LinearMember, describe

MANY_WINDOWS = 4_000  # with more windows, use fewer convolutions, so that ridge fits stay fast
ROCKET_FEATURES, ROCKET_FEATURES_OF_MANY = 10_000, 2_016
# Steps use this many of the best statistics. On development folds with derived channels, using
# more statistics took longer and was no more accurate.
STEPPED_STATISTICS = 400
# The ridge penalty if folds are cut in time. In 12 draws of one training recording per class, the
# accuracy on the other recordings was 43.5 % (BorealTC's motor data) and 73.7 % (simulated
# surfaces) with this penalty and equal weights. With penalties chosen on folds cut in time, the
# accuracies were 39.9 % and 72.6 %.
_STRENGTH_IN_TIME = 1e-3

Learn = Callable[[LearnerData, np.random.SeedSequence], Described]


@dataclass(eq=False)
class LinearLearner(Learner):
    """Fits ridge regression on features, which `learn` chooses from windows not held out."""

    learn: Learn
    auto_place: int | None = None

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
        features = self.learn(data, seed)
        values = describe(features, data.X, data.lengths)
        center, scale = _standard(values[folds.rows])
        values -= center  # in place, because the array may take gigabytes
        values *= scale
        fitted = _fit(values, data, folds)
        weight = scale[:, None] * fitted.weight
        member = LinearMember(features, weight.astype(np.float32), fitted.bias - center @ weight)
        return FittedMember(member, fitted.out_of_fold)


class StepsLearner(Learner):
    """Fits ridge regression on steps of the most important summary statistics."""

    auto_place = 2

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold.

        Each fit chooses statistics on its own windows.
        """
        every = SummarySteps().fit_statistics(data.summary, data.statistics[data.learn_rows])
        thresholds = np.arange(every.n_steps - 1)
        rows_of_fits = *(fit_rows for fit_rows, _ in folds.pairs), folds.rows
        chosen = [data.important_statistics(rows, STEPPED_STATISTICS) for rows in rows_of_fits]
        of_any = np.unique(np.concatenate(chosen))
        places = [np.searchsorted(of_any, of_fit) for of_fit in chosen]
        columns = [np.ravel(at[:, None] * len(thresholds) + thresholds) for at in places]
        steps = every.take(of_any)
        values = steps.mark(data.statistics)
        values *= 2  # as -1 or 1: a fixed scale keeps the effect of rare steps small
        values -= 1
        has_all = len(places[-1]) == len(of_any)
        fitted = _fit(values, data, folds, None if has_all else columns)
        weight = 2 * fitted.weight[columns[-1]]
        bias = fitted.bias - weight.sum(axis=0) / 2
        member = LinearMember(steps.take(places[-1]), weight.astype(np.float32), bias)
        return FittedMember(member, fitted.out_of_fold)


def _fit(
    values: NDArray[np.float32],
    data: LearnerData,
    folds: Folds,
    columns: Sequence[NDArray[np.int64]] | None = None,
) -> RidgeFit:
    """Fit ridge regression on standardized features; see `fit_ridge` for `columns`."""
    target = 2.0 * np.eye(data.n_classes)[data.class_index] - 1.0

    def loss(scores: NDArray[np.float64]) -> float:
        return data.log_loss(scores, folds.tested)

    strengths = (_STRENGTH_IN_TIME,) if folds.in_time else STRENGTHS
    given = values, target, data.weight, folds.pairs, folds.rows
    return fit_ridge(*given, loss, columns, strengths)


def _standard(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return each feature's mean and the factor that standardizes it."""
    center = values.mean(axis=0, dtype=np.float64)
    sd = values.std(axis=0, dtype=np.float64)
    varies = sd > 1e-6 * np.maximum(np.abs(center), 1e-30)
    scale = np.where(varies, 1.0 / np.where(varies, sd, 1.0), 0.0)
    return center.astype(np.float32), scale.astype(np.float32)


@dataclass(eq=False)
class FunctionLearner(LinearLearner):
    """Fits ridge regression on the result of a user's function of windows."""

    def check(self, data: LearnerData) -> None:
        """Call the function on two windows to find mistakes before training."""
        lengths = None if data.lengths is None else data.lengths[:2]
        describe(self.learn(data, np.random.SeedSequence(0)), data.X[:2], lengths)


def learner_of(function: Callable[..., Any]) -> Learner:
    """Return the learner of a user's function ``(windows, lengths) -> features``."""
    return FunctionLearner(lambda data, seed: function)


def _random(seed: np.random.SeedSequence) -> dict[str, Any]:
    random_state = int(seed.generate_state(1)[0])
    return {"random_state": random_state, "n_threads": torch.get_num_threads(), "pad": True}


def learn_convolutions(data: LearnerData, seed: np.random.SeedSequence) -> Described:
    """Return random convolutions."""
    many = len(data.X) > MANY_WINDOWS
    n_features = ROCKET_FEATURES_OF_MANY if many else ROCKET_FEATURES
    return RandomConvolutions(n_features, **_random(seed)).fit(*data.learn_windows)


def learn_kernels(data: LearnerData, seed: np.random.SeedSequence) -> Described:
    """Return competing kernels."""
    return CompetingKernels(**_random(seed)).fit(*data.learn_windows)


LEARNERS: Mapping[str, Learner] = {
    "rocket": LinearLearner(learn_convolutions, 0),
    "hydra": LinearLearner(learn_kernels, 1),
    "summary": StepsLearner(),
}
