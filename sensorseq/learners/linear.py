"""LinearLearner: ridge regression on features of windows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sensorseq.features import CompetingKernels, RandomConvolutions, SummarySteps
from sensorseq.features.ridge import STRENGTHS, fit_ridge
from sensorseq.features.stack import fit_stack
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
    """Fits ridge regression on features, which `learn` chooses from windows that are not held out.

    If `has_steps` is true, the features are 0 or 1.
    """

    learn: Learn
    auto_place: int | None = None
    has_steps: bool = False

    def fit(self, data: LearnerData, folds: Folds, seed: np.random.SeedSequence) -> FittedMember:
        """Fit a member on the windows `folds.rows`, and once more for each fold."""
        features = self.learn(data, seed)
        columns = None
        if isinstance(features, SummarySteps):
            features, columns = _choose_steps(features, data, folds)
        values = describe(features, data.X, data.lengths)
        center, scale = self._standard(values[folds.rows])
        target = 2.0 * np.eye(data.n_classes)[data.class_index] - 1.0
        values -= center  # in place, because the array may take gigabytes
        values *= scale
        tested = folds.tested
        class_index, weight_of = data.class_index[tested], data.weight[tested]

        def loss(scores: NDArray[np.float64]) -> float:
            return fit_stack(scores[None, tested], class_index, weight_of)[1]

        strengths = (_STRENGTH_IN_TIME,) if folds.in_time else STRENGTHS
        given = values, target, data.weight, folds.pairs, folds.rows
        fitted = fit_ridge(*given, loss, columns, strengths)
        weight = scale[:, None] * fitted.weight
        bias = fitted.bias - center @ weight
        if isinstance(features, SummarySteps) and columns is not None:
            n_thresholds = features.n_steps - 1
            features = features.take(columns[-1][::n_thresholds] // n_thresholds)
            weight = weight[columns[-1]]
        member = LinearMember(features, weight.astype(np.float32), bias)
        return FittedMember(member, fitted.out_of_fold)

    def _standard(
        self, values: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return each feature's mean and the factor that standardizes it."""
        if self.has_steps:  # a fixed scale keeps the effect of rare steps small
            n_features = values.shape[1]
            return np.full(n_features, 0.5, np.float32), np.full(n_features, 2.0, np.float32)
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


def learn_steps(data: LearnerData, seed: np.random.SeedSequence) -> Described:
    """Return steps of summary statistics."""
    return SummarySteps(spectrum=data.summary.spectrum).fit(*data.learn_windows)


def _choose_steps(
    steps: SummarySteps, data: LearnerData, folds: Folds
) -> tuple[SummarySteps, list[NDArray[np.int64]] | None]:
    """Select statistics for each fit; return all selected steps, and the columns of each fit.

    There is one fit per fold, then one fit on `folds.rows`; each selects statistics on its own
    windows. The columns are None if every fit uses all columns.
    """
    n_thresholds = steps.n_steps - 1
    if steps.n_features_ <= STEPPED_STATISTICS * n_thresholds:
        return steps, None
    chosen = [
        data.important_statistics(of_fit, STEPPED_STATISTICS)
        for of_fit in (*(fit_rows for fit_rows, _ in folds.pairs), folds.rows)
    ]
    of_any = np.unique(np.concatenate(chosen))
    places = [np.searchsorted(of_any, of_fit) for of_fit in chosen]
    thresholds = np.arange(n_thresholds)
    columns = [np.ravel(place[:, None] * n_thresholds + thresholds) for place in places]
    return steps.take(of_any), columns


LEARNERS: Mapping[str, Learner] = {
    "rocket": LinearLearner(learn_convolutions, 0),
    "hydra": LinearLearner(learn_kernels, 1),
    "summary": LinearLearner(learn_steps, 2, has_steps=True),
}
