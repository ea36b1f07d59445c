"""What is done to recordings, as scikit-learn transformers: resample, filter, cut into windows."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import (
    RandomState,
    check_positive,
    check_positive_or_none,
    check_random_state,
    check_rate,
)
from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.plan import make_steps
from sensorseq.preprocessing.polyphase import ATTENUATION_DB, check_engine
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.steps import Step, StepChain
from sensorseq.preprocessing.steps.base import even_rate_hz
from sensorseq.preprocessing.window import check_window_choices, window_recordings
from sensorseq.preprocessing.window_transformers import check_window_array
from sensorseq.recording import Channel, Recording
from sensorseq.windows import WindowSet


class _RecordingTransformer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Shared by the transformers that learn nothing."""

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


class Resampler(_RecordingTransformer):
    """Resample recordings to one even rate; gaps cut them into pieces.

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


class Windower(_RecordingTransformer):
    """Cut evenly sampled recordings into windows.

    Parameters
    ----------
    window_s : float
        Length of a window in seconds.
    hop_s : float, optional
        Seconds between window starts; `window_s` by default.
    label_rule : {"whole", "majority", "centre", "last"}, default="whole"
        The label of a window of a recording with label spans. whole: windows are cut inside each
        span, from its first sample on, so that none has two labels or unlabelled samples. The other
        rules cut the recording as if it had no spans and choose a label for each window. majority:
        the most frequent label, see `min_purity`. centre: the label of the middle sample. last: the
        label of the last sample, which is current when the window is complete. All rules agree for
        recordings with one label.
    min_purity : float, default=0.5
        Only for majority: share of the window's samples that must have its label, above 0 to 1.
        Windows with less are dropped, and so are windows in which two labels have equal shares.
    short : {"drop", "pad", "error"}, default="drop"
        What to do with a piece, or under whole a label span, that is shorter than a window. pad:
        make one window filled up with zeros, with the number of samples in `lengths`.
    phase : {"grid", "random"}, default="grid"
        Start of the first window of a piece or span. grid: its first sample. random: up to a hop
        later, as far as a window still fits, so that each training can see other cuts of the
        signal. Use grid for validation and test, so that scores only differ by the model.
    random_state : int, Generator, RandomState or None
        For ``phase="random"``. The offset depends only on it, the recording's id and the start of
        the piece, not on other recordings or their order.
    drop_unlabelled : bool, default=True
        False keeps windows for which the rule finds no label, with the label ``""``, for prediction
        but not for training. If no recording has a label, this has no effect, and `y` is None.
    """

    def __init__(
        self,
        window_s: float,
        hop_s: float | None = None,
        label_rule: str = "whole",
        min_purity: float | None = None,
        short: str = "drop",
        phase: str = "grid",
        random_state: RandomState = None,
        drop_unlabelled: bool = True,
    ) -> None:
        self.window_s = window_s
        self.hop_s = hop_s
        self.label_rule = label_rule
        self.min_purity = min_purity
        self.short = short
        self.phase = phase
        self.random_state = random_state
        self.drop_unlabelled = drop_unlabelled

    def _check_arguments(self) -> None:
        check_positive("window_s", self.window_s)
        check_positive_or_none("hop_s", self.hop_s)
        check_window_choices(self.label_rule, self.min_purity, self.short, self.phase)
        check_random_state(self.random_state)

    def transform(self, X: Iterable[Recording]) -> WindowSet:
        """Return the windows of all recordings; see `window_recordings`.

        Parameters
        ----------
        X : iterable of Recording
            Evenly sampled, as returned by `Resampler`.

        Returns
        -------
        WindowSet
            In the order of the recordings, then of time.

        Raises
        ------
        RecordingError
            If a recording is uneven, has gaps, or differs from the others in channels or rate.
        WindowError
            If no recording is as long as a window, or a class loses all its windows.
        """
        return window_recordings(X, **self.get_params(deep=False))


class SignalSteps(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Apply filters and features to recordings, or to windows one by one.

    Apply them before cutting windows if possible: there a filter sees what comes before and after,
    while every window adds edges. Nothing is fitted, so nothing can leak.

    Parameters
    ----------
    steps : sequence of Step or dict, optional
        Steps in the order they are applied; see `sensorseq.preprocessing.steps`. None leaves values
        unchanged.
    sample_rate_hz : float, optional
        Rate of windows given as arrays; recordings and a WindowSet have their own.

    Attributes
    ----------
    steps_ : tuple of Step
        The steps as objects.
    n_features_in_ : int
        Timesteps for 2-D input, channels for 3-D input and for recordings.

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.preprocessing import SignalSteps
    >>> rate = SignalSteps([{"kind": "difference"}], sample_rate_hz=100.0)
    >>> rate.fit_transform(np.array([[1.0, 2.0, 4.0]]))
    array([[0., 1., 2.]])
    """

    def __init__(
        self,
        steps: Sequence[Step | Mapping[str, Any]] | None = None,
        sample_rate_hz: float | None = None,
    ) -> None:
        self.steps = steps
        self.sample_rate_hz = sample_rate_hz

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the steps against the channels; there is nothing to learn.

        Parameters
        ----------
        X : list of Recording, WindowSet, or array of shape (n_windows, n_timesteps[, n_channels])
            What will be transformed.
        y : None
            Not used.

        Raises
        ------
        ArgumentError, ConfigurationError
            If an entry is not a step, or is invalid; a note names it.
        SignalError
            If `sample_rate_hz` is not a positive rate.
        """
        self.steps_ = make_steps(self.steps)
        if self.sample_rate_hz is not None:
            check_rate("sample_rate_hz", self.sample_rate_hz)
        chain = StepChain(self.steps_)
        if isinstance(X, WindowSet):
            self.n_features_in_, self._window_ndim = X.n_channels, 3
            rate = X.sample_rate_hz if self.sample_rate_hz is None else self.sample_rate_hz
            if rate is not None:  # `transform` reports that it is missing
                chain.output_channels(tuple(map(Channel, X.channels)), rate)
        elif _are_recordings(X):
            for recording in X:
                if recording.n_samples > 1:
                    chain.output_channels(recording.channels, even_rate_hz(recording))
        else:
            check_window_array(self, X, reset=True)
        return self

    def transform(self, X: Any) -> Any:
        """Return the input after all steps, in the same form.

        Windows of one channel, (n, t), are returned as (n, t) if the result has one channel, else
        as (n, t, c).

        Parameters
        ----------
        X : list of Recording, WindowSet, or array of shape (n_windows, n_timesteps[, n_channels])
            Recordings must be evenly sampled; channels of an array are named channel_0, channel_1
            and so on.

        Returns
        -------
        list of Recording, WindowSet, or ndarray of shape (n_windows, n_timesteps, n_outputs)
            Spectral frames give fewer timesteps.

        Raises
        ------
        ArgumentError
            If a step names a missing channel, or `sample_rate_hz` is not given for an array.
        SignalError, RecordingError
            If samples are missing or uneven, or X does not match the fitted input.
        WindowError
            If windows of a WindowSet are padded.
        """
        check_is_fitted(self, "steps_")
        if isinstance(X, WindowSet):
            return self._transform_window_set(X)
        if _are_recordings(X):
            return [StepChain(self.steps_).apply(recording) for recording in X]
        values = check_window_array(self, X, reset=False)
        windows = values[:, :, np.newaxis] if values.ndim == 2 else values
        if not self.steps_:
            return values.copy()
        names = tuple(f"channel_{i}" for i in range(windows.shape[2]))
        made = np.stack(self._each(windows, names, self._rate_hz(None))[0])
        return made[:, :, 0] if values.ndim == 2 and made.shape[2] == 1 else made

    def _transform_window_set(self, windows: WindowSet) -> WindowSet:
        lengths = np.asarray(windows.lengths)
        if (lengths < windows.n_timesteps).any():
            raise WindowError(
                "windows are padded (lengths below n_timesteps); apply the steps to the recordings"
                " before cutting windows."
            )
        rate = self._rate_hz(windows.sample_rate_hz)
        if not self.steps_:
            return windows
        # Without windows, one of zeros determines the shape of the result.
        given = windows.X if len(windows) else np.zeros((1, *windows.X.shape[1:]), np.float32)
        made, last = self._each(given, windows.channels, rate)
        return replace(
            windows,
            X=np.stack(made)[: len(windows)].astype(np.float32, copy=False),
            lengths=None,
            channels=last.channel_names,
            sample_rate_hz=StepChain(self.steps_).output_rate_hz(rate),
        )

    def _rate_hz(self, known_hz: float | None) -> float:
        rate = known_hz if self.sample_rate_hz is None else self.sample_rate_hz
        if rate is None:
            raise ArgumentError("sample_rate_hz is not given, and the windows have none; give it.")
        return float(rate)

    def _each(
        self, windows: NDArray[np.floating], names: Sequence[str], rate: float
    ) -> tuple[list[NDArray[np.floating]], Recording]:
        made, out = [], None
        for row, values in enumerate(windows):
            recording = Recording.evenly_sampled(values, rate, names, f"window {row}")
            out = StepChain(self.steps_).apply(recording, rate)
            made.append(out.values)
        assert out is not None
        return made, out


def _are_recordings(X: Any) -> bool:
    if isinstance(X, Recording):
        raise ArgumentError("X is one recording; give a list of recordings.")
    return (
        isinstance(X, list | tuple) and bool(X) and all(isinstance(item, Recording) for item in X)
    )
