"""The steps as a scikit-learn transformer of recordings and windows."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sensorseq.checks import check_rate
from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.scale.transformer import check_window_array
from sensorseq.preprocessing.steps import Step, StepChain
from sensorseq.preprocessing.steps.base import even_rate_hz
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.recording import Channel, Recording
from sensorseq.windows import WindowSet


class SignalSteps(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Apply filters and features to recordings, or to windows one by one.

    Apply them before cutting windows if possible: filters then use the samples before and after a
    window, while single windows have edges. Nothing is fitted, so nothing can leak.

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
            Data that will be transformed.
        y : None
            Not used.

        Raises
        ------
        ArgumentError, ConfigurationError
            If an entry is not a step, or is invalid; a note names the entry.
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
            if rate is not None:  # otherwise `transform` raises an error
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

        Windows of one channel, (n, t), are returned as (n, t) if the result has one channel,
        otherwise as (n, t, c).

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
        made = np.stack(self._apply_to_each(windows, names, self._rate_hz(None))[0])
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
        # Without any windows, a window of zeros determines the shape of the result.
        inputs = windows.X if len(windows) else np.zeros((1, *windows.X.shape[1:]), np.float32)
        made, last = self._apply_to_each(inputs, windows.channels, rate)
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

    def _apply_to_each(
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
