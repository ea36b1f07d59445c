"""MiniRocket: random convolutions of windows, and the fractions of their outputs above biases."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq import _signal
from sensorseq.base.checks import (
    RandomState,
    as_windows,
    check_channels,
    check_finite,
    check_integer,
    check_lengths,
    check_not_empty,
    check_random_state,
    check_state,
    raise_not_finite,
    valid_steps,
)
from sensorseq.errors import SignalError

N_KERNELS = 84  # number of ways to choose 3 of 9 taps
_TAPS = 9
_MAX_CHANNELS = 9  # largest number of channels in one combination
_MOST_STEPS = 2**24  # maximum number of steps of a window in the native loops
_GOLDEN_RATIO = (5**0.5 + 1) / 2
_SETTINGS = ("n_features", "max_dilations", "random_state", "n_channels")
_ARRAYS = {
    "dilations": np.int32,
    "features_per_dilation": np.int32,
    "channel_counts": np.int32,
    "channel_indices": np.int32,
    "biases": np.float32,
}


class KernelFeatures:
    """Base class of features that kernels compute; `fit` fills `_arrays`."""

    kind: ClassVar[str]
    _own_settings: ClassVar[tuple[str, ...]] = ()
    # The native loop; it returns the features and the first window that is not finite, or -1.
    _shares: ClassVar[Callable[..., tuple[NDArray[np.float32], int]]]

    def __init__(self, random_state: RandomState, n_threads: int, pad: bool) -> None:
        check_random_state(random_state)
        self.random_state = random_state
        self.n_threads = check_integer("n_threads", n_threads, 1, 4096)
        self.pad = pad
        self._arrays: dict[str, NDArray[Any]] = {}
        self._n_channels = 0
        self._padded_steps = 0

    @property
    def n_channels_(self) -> int:
        """Number of channels of the windows given to `fit`."""
        self._fitted()
        return self._n_channels

    def transform(self, X: ArrayLike, lengths: ArrayLike | None = None) -> NDArray[np.float32]:
        """Return the features of windows: a float32 array (n_windows, n_features_) of values >= 0.

        Parameters
        ----------
        X, lengths : as in `fit`
            Windows with the same channels as in `fit`. A SignalError is raised if their number of
            channels differs, or if `fit` was not called.
        """
        arrays = self._fitted()
        windows, original, steps = read_windows(X, lengths, self._n_channels, self._padded_steps)
        shares, bad = self._shares(windows, steps, n_threads=self.n_threads, **arrays)
        if bad >= 0:
            raise_not_finite(windows, bad, original)
        return shares

    def state(self) -> dict[str, dict[str, Any]]:
        """Return the state for `from_state`: settings as plain values for JSON, and arrays."""
        seed = self.random_state
        settings = {
            "kind": self.kind,
            **{name: getattr(self, name) for name in self._own_settings},
            "random_state": int(seed) if isinstance(seed, (int, np.integer)) else None,
            "n_channels": self.n_channels_,
            "padded_steps": self._padded_steps,
        }
        return {"settings": settings, "arrays": dict(self._fitted())}

    def _fitted(self) -> dict[str, NDArray[Any]]:
        if not self._arrays:
            raise SignalError(f"{type(self).__name__} was not fitted: call fit first.")
        return self._arrays


class RandomConvolutions(KernelFeatures):
    """Describe windows by random convolutions: MiniRocket [1]_.

    Each window is convolved with 84 fixed kernels of 9 taps (three of weight 2, six of weight -1)
    at several dilations. A feature is the fraction of the outputs of one kernel and dilation that
    are above a bias. `fit` derives the dilations from the longest window, draws the channels to sum
    for each kernel and dilation, and sets the biases to quantiles of the outputs for randomly drawn
    training windows. Every second kernel uses only steps where all its taps lie inside the window;
    the others use all steps, with zeros around the window.

    Scale the channels first, because each kernel sums several channels. A linear classifier on the
    features is the usual next step.

    Parameters
    ----------
    n_features : int, default=10_000
        Number of features, rounded down to a multiple of 84, and at least 84.
    max_dilations : int, default=32
        Maximum number of dilations. The dilations are spaced exponentially up to the largest
        dilation at which a kernel fits into the longest window.
    random_state : int, numpy generator or None, default=None
        Seed for drawing the channels and training windows.
    n_threads : int, default=1
        Number of threads among which `transform` divides the windows, with no effect on the
        features.
    pad : bool, default=False
        If the windows of `fit` differ in length, pad shorter windows with zeros to the length of
        the longest window of `fit`, and count the zeros as steps. The features then also depend on
        the length of the window, which is often informative about the class.

    Attributes
    ----------
    n_features_ : int
        Number of features.
    n_channels_ : int
        Number of channels of the windows given to `fit`.

    Notes
    -----
    Windows may differ in length from each other and from the windows of `fit`. The fraction is
    taken over the valid steps that a kernel uses, or over all valid steps if the window is too
    short for all 9 taps of a kernel. If a window has no valid steps, its features are 0. The
    features of a window do not depend on other windows, and are bit-identical on every processor,
    because all arithmetic is in float32 in a fixed order.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt, G. I. Webb, "MiniRocket: A Very Fast (Almost) Deterministic
       Transform for Time Series Classification", KDD 2021, https://arxiv.org/abs/2012.08791

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.features import RandomConvolutions
    >>> X = np.random.default_rng(0).normal(size=(20, 100, 3)).astype(np.float32)
    >>> convolutions = RandomConvolutions(n_features=840, random_state=0).fit(X)
    >>> convolutions.transform(X).shape
    (20, 840)
    """

    kind = "random_convolutions"
    _own_settings = ("n_features", "max_dilations")
    _shares = staticmethod(_signal.share_above_biases)

    def __init__(
        self,
        n_features: int = 10_000,
        max_dilations: int = 32,
        random_state: RandomState = None,
        n_threads: int = 1,
        pad: bool = False,
    ) -> None:
        self.n_features = check_integer("n_features", n_features, 1)
        self.max_dilations = check_integer("max_dilations", max_dilations, 1)
        super().__init__(random_state, n_threads, pad)

    def __repr__(self) -> str:
        return f"RandomConvolutions(n_features={self.n_features})"

    @property
    def n_features_(self) -> int:
        """The number of features."""
        return len(self._fitted()["biases"])

    def fit(self, X: ArrayLike, lengths: ArrayLike | None = None) -> "RandomConvolutions":
        """Choose dilations, channels and biases, and return this object.

        Parameters
        ----------
        X : array-like of shape (n_windows, n_timesteps, n_channels) or (n_windows, n_timesteps)
            Training windows; the second form is for one channel. A SignalError is raised if there
            is no valid step, or a valid step is NaN, infinite or too large.
        lengths : array-like of shape (n_windows,), int, optional
            Number of valid steps of each window; later steps are never read.
        """
        windows, _, steps = read_windows(X, lengths, checked=True)
        n_windows, n_timesteps, n_channels = windows.shape
        used = np.full(n_windows, n_timesteps) if steps is None else steps
        rows = np.flatnonzero(used)
        if not rows.size:
            raise SignalError("X has no valid step to learn from.")
        padded_steps = int(used.max()) if self.pad and used.min() < used.max() else 0
        if padded_steps:
            windows, steps = _padded(windows, used, padded_steps)
            used, rows = steps, np.arange(n_windows)
        rng = check_random_state(self.random_state)
        dilations, features_per_dilation = choose_dilations(
            int(used.max()), self.n_features // N_KERNELS or 1, self.max_dilations
        )
        n_combinations = N_KERNELS * len(dilations)
        counts, indices = draw_channels(rng, n_combinations, n_channels)
        biases = []
        quantiles = _quantiles(N_KERNELS * int(features_per_dilation.sum()))
        done = 0
        for j, (dilation, n_biases) in enumerate(
            zip(dilations.tolist(), features_per_dilation.tolist())
        ):
            here = slice(j * N_KERNELS, (j + 1) * N_KERNELS)
            drawn = rng.choice(rows, N_KERNELS)
            outputs = _signal.convolve_windows(
                windows, steps, drawn, dilation, counts[here], np.concatenate(indices[here])
            )
            for kernel, length in enumerate(used[drawn].tolist()):
                rising = np.sort(outputs[kernel, :length])
                if not np.isfinite(rising).all():
                    raise SignalError(
                        "the values of X are too large for sums in float32; scale the channels."
                    )
                biases.append(_interpolate(rising, quantiles[done : done + n_biases]))
                done += n_biases
        arrays = {
            "dilations": dilations,
            "features_per_dilation": features_per_dilation,
            "channel_counts": counts,
            "channel_indices": np.concatenate(indices),
            "biases": np.concatenate(biases),
        }
        self._arrays, self._n_channels, self._padded_steps = arrays, n_channels, padded_steps
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "RandomConvolutions":
        """Restore from `state`, or raise a SignalError if it is inconsistent or of a wrong kind.

        Parameters
        ----------
        state : mapping
        """
        settings, stored = check_state(state, cls.kind, _SETTINGS, _ARRAYS)
        restored = cls(settings["n_features"], settings["max_dilations"], settings["random_state"])
        n_channels = check_integer("n_channels", settings["n_channels"], 1)
        try:
            _signal.check_convolutions(n_channels=n_channels, **stored)
        except ValueError as error:
            raise SignalError(f"the stored convolutions are inconsistent: {error}.") from error
        if not np.isfinite(stored["biases"]).all():
            raise SignalError("the stored convolutions have a bias that is not finite.")
        padded_steps = check_integer("padded_steps", settings.get("padded_steps", 0), 0)
        restored._arrays, restored._n_channels = stored, n_channels
        restored._padded_steps, restored.pad = padded_steps, padded_steps > 0
        return restored


def choose_dilations(
    n_timesteps: int, n_features: int, max_dilations: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return the dilations, increasing from 1, and the number of features per kernel and dilation.

    At the largest dilation, a kernel still fits into `n_timesteps`. The numbers of features are
    rounded down, and the remaining features are added to the first dilations.
    """
    wanted = min(n_features, max_dilations)
    largest = max(0.0, np.log2(max(n_timesteps - 1, 1) / (_TAPS - 1)))
    exact = np.logspace(0, largest, wanted, base=2)
    dilations, repeats = np.unique(exact.astype(np.int32), return_counts=True)
    features = (repeats * (n_features / wanted)).astype(np.int32)
    left = n_features - int(features.sum())
    features += (left // len(features)) + (np.arange(len(features)) < left % len(features))
    return dilations, features.astype(np.int32)


def draw_channels(
    rng: np.random.Generator, n_combinations: int, n_channels: int
) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """Draw combinations of channels; return the number and the indices of the channels in each."""
    most = np.log2(min(n_channels, _MAX_CHANNELS) + 1)
    counts = (2 ** rng.uniform(0, most, n_combinations)).astype(np.int32)
    counts = np.clip(counts, 1, min(n_channels, _MAX_CHANNELS))
    return counts, [rng.permutation(n_channels)[:count].astype(np.int32) for count in counts]


def read_windows(
    X: ArrayLike,
    lengths: ArrayLike | None,
    n_channels: int | None = None,
    padded_steps: int = 0,
    *,
    checked: bool = False,
) -> tuple[NDArray[np.float32], Any, NDArray[np.int64] | None]:
    """Return float32 windows, the windows to quote in errors, and the lengths.

    Windows are padded to `padded_steps` unless this is 0. `n_channels` is checked if it is given.
    If `checked` is True or windows are padded, values that are not finite raise an error here;
    otherwise, the native loops detect such values.
    """
    original = as_windows(X)
    check_not_empty(original)
    if original.shape[1] > _MOST_STEPS:
        raise SignalError(
            f"X has windows of {original.shape[1]} steps; at most 2**24 are supported."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        windows = np.ascontiguousarray(original, np.float32)
    steps = check_lengths(windows, lengths)
    if n_channels is not None:
        check_channels(windows, n_channels)
    if checked or padded_steps:
        check_finite(windows, steps, original)
    if not padded_steps:
        return windows, original, steps
    used = np.full(len(windows), windows.shape[1]) if steps is None else steps
    padded, steps = _padded(windows, used, padded_steps)
    return padded, windows, steps


def _padded(
    windows: NDArray[np.float32], lengths: NDArray[Any], n_steps: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Pad windows with zeros to at least `n_steps`; the returned lengths count the zeros."""
    is_valid = valid_steps(windows.shape[1], lengths)
    padded = np.where(is_valid[:, :, None], windows, np.float32(0))
    missing = max(0, n_steps - windows.shape[1])
    padded = np.pad(padded, ((0, 0), (0, missing), (0, 0)))
    return padded, np.maximum(lengths, n_steps)


def _quantiles(n: int) -> NDArray[np.float32]:
    """Return n evenly spread numbers in [0, 1): multiples of the golden ratio, modulo 1."""
    multiples = np.arange(1, n + 1, dtype=np.float64) * _GOLDEN_RATIO
    return (multiples - np.floor(multiples)).astype(np.float32)


def _interpolate(rising: NDArray[np.float32], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute quantiles of sorted values by linear interpolation."""
    position = at.astype(np.float64) * (len(rising) - 1)
    below = position.astype(np.int64)
    weight = position - below
    above = np.minimum(below + 1, len(rising) - 1)
    values = rising.astype(np.float64)
    between: NDArray[np.float64] = values[below] * (1 - weight) + values[above] * weight
    return between.astype(np.float32)
