"""The resampler as a scikit-learn transformer."""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, Self

from sklearn.base import BaseEstimator, TransformerMixin

from sensorseq.checks import check_positive_or_none, check_rate
from sensorseq.preprocessing.resample.polyphase import ATTENUATION_DB, check_engine
from sensorseq.preprocessing.resample.signal import resample_recording
from sensorseq.recording import Recording


class RecordingTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of the transformers that learn nothing."""

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def fit(self, X: Iterable[Recording], y: Any = None) -> Self:
        """Check the arguments; there is nothing to learn.

        Parameters
        ----------
        X, y : object, optional
            Not used.

        Raises
        ------
        ArgumentError, SignalError
            If an argument is invalid, or a rate is not above zero.
        """
        self._check_arguments()
        return self

    @abstractmethod
    def _check_arguments(self) -> None: ...


class Resampler(RecordingTransformer):
    """Resample recordings to one even rate, and cut them at gaps.

    Parameters
    ----------
    sample_rate_hz : float
        Target rate in Hz.
    max_gap_s : float, optional
        Longest gap, in seconds, to interpolate across; by default ten sample periods of the input.
    attenuation_db, engine
        As in `sensorseq.preprocessing.resample.resample`.
    """

    def __init__(
        self,
        sample_rate_hz: float,
        max_gap_s: float | None = None,
        attenuation_db: float = ATTENUATION_DB,
        engine: str = "polyphase",
    ) -> None:
        self.sample_rate_hz = sample_rate_hz
        self.max_gap_s = max_gap_s
        self.attenuation_db = attenuation_db
        self.engine = engine

    def _check_arguments(self) -> None:
        check_rate("sample_rate_hz", self.sample_rate_hz)
        check_positive_or_none("max_gap_s", self.max_gap_s)
        check_engine(self.engine, self.attenuation_db)

    def transform(self, X: Iterable[Recording]) -> list[Recording]:
        """Return the pieces of all recordings, in order; see `resample_recording`.

        Parameters
        ----------
        X : iterable of Recording
            Stamps may be uneven, samples missing (NaN).

        Returns
        -------
        list of Recording
            Evenly sampled, free of NaN. Gaps cut a recording into several; a recording without any
            time at which all channels are known gives none.

        Raises
        ------
        RecordingError
            If a channel has no valid sample, or `max_gap_s` is shorter than a sample period.
        """
        how = self.get_params(deep=False)
        return [piece for recording in X for piece in resample_recording(recording, **how)]
