"""Summary statistics encoded as steps, so that a linear layer can model nonlinear effects."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sensorseq.base.checks import check_integer, check_state
from sensorseq.errors import SignalError
from sensorseq.features.summary import SummaryFeatures, above_ties


class SummarySteps:
    """Mark, for each summary statistic of a window, the training quantiles that it exceeds.

    A linear layer on a statistic can only model a monotonic effect. A linear layer on the steps can
    give each range of values its own weight, as boosted trees of depth one do. On motor currents,
    most of the advantage of boosting over a linear classifier comes from such weights.

    Parameters
    ----------
    n_steps : int, default=32
        Number of ranges into which each statistic is divided by ``n_steps - 1`` thresholds.
    spectrum : bool, default=False
        Whether the statistics of narrow bands are used, too; see `SummaryFeatures`.

    Attributes
    ----------
    n_features_ : int
        Number of features: the number of statistics (or of those chosen by `take`) times the number
        of thresholds.
    n_channels_ : int
        Number of channels of the windows given to `fit`.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.features import SummarySteps
    >>> X = np.random.default_rng(0).normal(size=(20, 100, 3))
    >>> SummarySteps(n_steps=8).fit(X).transform(X).shape
    (20, 378)
    """

    def __init__(self, n_steps: int = 32, spectrum: bool = False) -> None:
        self.n_steps = check_integer("n_steps", n_steps, 2, 10_000)
        self._summary = SummaryFeatures(spectrum)
        self._thresholds = np.zeros((0, 0))
        self._columns = np.zeros(0, np.int64)

    def __repr__(self) -> str:
        return f"SummarySteps(n_steps={self.n_steps}, spectrum={self._summary.spectrum})"

    @property
    def summary(self) -> SummaryFeatures:
        """The statistics that have steps."""
        if not self._thresholds.size:
            raise SignalError("SummarySteps was not fitted: call fit first.")
        return self._summary

    @property
    def n_features_(self) -> int:
        """The number of features."""
        return len(self.columns) * (self.n_steps - 1)

    @property
    def n_channels_(self) -> int:
        """Number of channels of the windows given to `fit`."""
        return self.summary.n_channels_

    @property
    def columns(self) -> NDArray[np.int64]:
        """The columns of `SummaryFeatures` in use."""
        self.summary  # noqa: B018
        return self._columns

    def fit(self, X: ArrayLike, lengths: ArrayLike | None = None) -> "SummarySteps":
        """Learn the quantiles of each statistic, and return this object.

        Parameters
        ----------
        X, lengths : as in `RandomConvolutions.fit`
            Training windows, at least one.

        Raises
        ------
        SignalError
            If there are no windows, the shapes disagree, or a valid step is NaN or infinite.
        """
        summary = SummaryFeatures(self._summary.spectrum).fit(X, lengths)
        return self.fit_statistics(summary, summary.transform(X, lengths))

    def fit_statistics(
        self, summary: SummaryFeatures, statistics: NDArray[np.float64]
    ) -> "SummarySteps":
        """Learn the quantiles of statistics that are already computed, and return this object.

        Parameters
        ----------
        summary : SummaryFeatures
            What computed the statistics.
        statistics : ndarray of shape (n_windows, n_statistics)
            Its result for the training windows, at least one.

        Raises
        ------
        SignalError
            If there are no windows.
        """
        if not len(statistics):
            raise SignalError("X has no windows to learn quantiles from.")
        self._summary = summary
        at = np.arange(1, self.n_steps) / self.n_steps
        self._thresholds = np.ascontiguousarray(np.quantile(statistics, at, axis=0).T)
        self._columns = np.arange(len(self._thresholds))
        return self

    def take(self, columns: ArrayLike) -> "SummarySteps":
        """Return a new object with the same thresholds, but only for some of the statistics.

        Parameters
        ----------
        columns : array-like of int
            Indices of the statistics to keep.
        """
        summary, chosen = self.summary, np.asarray(columns)
        taken = SummarySteps(self.n_steps)
        taken._summary = summary
        taken._thresholds, taken._columns = self._thresholds[chosen], self._columns[chosen]
        return taken

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float32]:
        """Mark the thresholds that each statistic exceeds, in a float32 array.

        The array has shape (n_windows, n_features_). A feature is 1 if the statistic is above the
        threshold, otherwise 0. All features of the first statistic come first.

        Parameters
        ----------
        X, lengths : as in `RandomConvolutions.transform`

        Raises
        ------
        SignalError
            If `fit` was not called, `X` has a different number of channels, or a valid step is NaN
            or infinite.
        """
        return self.mark(self.summary.transform(X, lengths))

    def mark(self, statistics: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the features of windows whose statistics are already computed, as `transform`.

        Parameters
        ----------
        statistics : ndarray of shape (n_windows, n_statistics)
            All statistics that `summary` computes.
        """
        exceeds = statistics[:, self._columns, None] > self.edges()
        return exceeds.reshape(len(statistics), self.n_features_).astype(np.float32)

    def edges(self) -> NDArray[np.float64]:
        """Return the thresholds of each statistic, raised by `above_ties`."""
        spread = np.abs(self._thresholds).max(axis=1, keepdims=True)
        return above_ties(self._thresholds, spread)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`: settings as plain values for JSON, and arrays."""
        summary = self.summary.state()["settings"]
        settings = {"kind": "summary_steps", "n_steps": self.n_steps, "summary": summary}
        arrays: dict[str, NDArray[Any]] = {"thresholds": self._thresholds}
        if len(self._columns) < self._summary.n_features_:
            arrays["columns"] = self._columns
        return {"settings": settings, "arrays": arrays}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "SummarySteps":
        """Restore from `state`, or raise a SignalError if it is inconsistent or of a wrong kind.

        Parameters
        ----------
        state : mapping
        """
        needed = "n_steps", "summary"
        arrays: dict[str, DTypeLike] = {"thresholds": np.float64}
        if "columns" in (state.get("arrays") or {}):
            arrays["columns"] = np.int64
        settings, stored = check_state(state, "summary_steps", needed, arrays)
        restored = cls(settings["n_steps"])
        summary = {"settings": settings["summary"], "arrays": {}}
        restored._summary = SummaryFeatures.from_state(summary)
        n_statistics = restored._summary.n_features_
        columns = stored.get("columns", np.arange(n_statistics))
        inside = columns.ndim == 1 and ((columns >= 0) & (columns < n_statistics)).all()
        if not (inside and columns.size and (np.diff(columns) > 0).all()):
            raise SignalError(
                f"the stored columns are not ascending indices of {n_statistics} statistics."
            )
        thresholds = stored["thresholds"]
        shape = len(columns), restored.n_steps - 1
        if thresholds.shape != shape or not np.isfinite(thresholds).all():
            raise SignalError(
                f"the stored thresholds are not an array of finite numbers with shape {shape}."
            )
        restored._thresholds, restored._columns = thresholds, columns
        return restored
