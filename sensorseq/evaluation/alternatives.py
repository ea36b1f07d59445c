"""Whether boosting would classify a user's recordings better than the network that was trained."""

from typing import NamedTuple

import numpy as np

from sensorseq.estimator import SensorLSTMClassifier
from sensorseq.estimator.whole_data import N_FOLDS, split_folds
from sensorseq.features import SummaryFeatures
from sensorseq.features.trees import make_boosting
from sensorseq.windows import WindowSet

_NOTABLE = 0.01  # of accuracy: less is not worth another model


class Alternative(NamedTuple):
    """Accuracies on windows left out, in folds of whole groups.

    Parameters
    ----------
    model, boosting : float
        Of the fitted classifier and of gradient boosting on summary features.
    n_windows : int
        Windows left out.
    """

    model: float
    boosting: float
    n_windows: int

    @property
    def is_better(self) -> bool:
        """Whether boosting is better by more than a point and the standard error of both."""
        share = (self.model + self.boosting) / 2
        error = np.sqrt(2 * share * (1 - share) / self.n_windows)
        return bool(self.boosting - self.model > max(_NOTABLE, error))


def try_boosting(
    model: SensorLSTMClassifier, windows: WindowSet, seed: int = 0
) -> Alternative | None:
    """Compare a fitted classifier with boosting on the windows that it was fitted on.

    Parameters
    ----------
    model : SensorLSTMClassifier
        Fitted; its accuracy is that on windows left out during its fit.
    windows : WindowSet
        Those of its fit. Their test part is not used.
    seed : int, default=0
        Decides the folds.

    Returns
    -------
    Alternative or None
        None if the fit left no windows out in folds, or there are too few groups.
    """
    together = [tried for tried in model.features_.candidates if tried.name == "together"]
    if not together or model.features_.n_folds < 2 or windows.y is None:
        return None
    if windows.split is not None:
        windows = windows.take(np.flatnonzero(windows.split != "test"))
    labels = np.unique(np.asarray(windows.y), return_inverse=True)[1]
    groups = windows.recording_id if windows.groups is None else windows.groups
    statistics = (
        SummaryFeatures().fit(windows.X, windows.lengths).transform(windows.X, windows.lengths)
    )
    right = tested = 0
    for fit_rows, test_rows in split_folds(labels, groups, N_FOLDS, seed):
        fitted = make_boosting(seed).fit(statistics[fit_rows], labels[fit_rows])
        right += int((fitted.predict(statistics[test_rows]) == labels[test_rows]).sum())
        tested += len(test_rows)
    return Alternative(together[0].accuracy, right / tested, tested) if tested else None
