"""Hydra: kernels compete at each step of a window, and features summarize the wins."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sensorseq import _signal
from sensorseq.base.checks import RandomState, check_integer, check_random_state, check_state
from sensorseq.errors import SignalError
from sensorseq.features.random_convolutions import (
    N_KERNELS,
    KernelFeatures,
    draw_channels,
    read_windows,
)

N_RIVALS = 7  # number of kernels in a group
N_GROUPS = N_KERNELS // N_RIVALS
_ARRAYS = dict.fromkeys(
    ("dilations", "is_difference", "kernels", "channel_counts", "channel_indices"), np.int32
)


class CompetingKernels(KernelFeatures):
    """Describe windows by the kernels with the largest and the smallest outputs: Hydra [1]_.

    The kernels are the 84 kernels of `RandomConvolutions`, each used unchanged or negated. They are
    divided at random into 12 groups of 7. This division is drawn anew for each dilation (a power of
    2), and separately for the window and for the differences between its steps. The kernels of a
    group read the sum of channels drawn at random. For each kernel, two values are computed: the
    sum of its outputs at the steps where its output is the largest in its group, and the number of
    steps where its output is the smallest. Each value is divided by the number of steps, and the
    features are the square roots of the quotients. In a tie, the first kernel wins.

    Scale the channels first, because each group sums several channels. A linear classifier on the
    features is the usual next step.

    Parameters
    ----------
    random_state : int, numpy generator or None, default=None
        Seed for drawing the groups, signs and channels.
    n_threads : int, default=1
        Number of threads among which `transform` divides the windows, with no effect on the
        features.
    pad : bool, default=False
        As in `RandomConvolutions`.

    Attributes
    ----------
    n_features_ : int
        Number of features: 168 for each dilation of the windows, and 168 for each dilation of the
        differences.
    n_channels_ : int
        Number of channels of the windows given to `fit`.

    Notes
    -----
    The original Hydra has random kernels. The kernels of MiniRocket, used here, take a quarter of
    the time of random kernels. On the inertial data of BorealTC, they were as accurate as random
    kernels, but needed only a fifth as many features. The features of a window do not depend on
    other windows, and are bit-identical on every processor.

    References
    ----------
    .. [1] A. Dempster, D. F. Schmidt, G. I. Webb, "Hydra: competing convolutional kernels for fast
       and accurate time series classification", Data Mining and Knowledge Discovery 37 (2023),
       https://arxiv.org/abs/2203.13652

    Examples
    --------
    >>> import numpy as np
    >>> from sensorseq.features import CompetingKernels
    >>> X = np.random.default_rng(0).normal(size=(20, 100, 3)).astype(np.float32)
    >>> CompetingKernels(random_state=0).fit(X).transform(X).shape
    (20, 1344)
    """

    kind = "competing_kernels"
    _shares = staticmethod(_signal.share_wins)

    def __init__(
        self, random_state: RandomState = None, n_threads: int = 1, pad: bool = False
    ) -> None:
        super().__init__(random_state, n_threads, pad)

    def __repr__(self) -> str:
        return "CompetingKernels()"

    @property
    def n_features_(self) -> int:
        """The number of features."""
        return 2 * len(self._fitted()["kernels"])

    def fit(self, X: ArrayLike, lengths: ArrayLike | None = None) -> "CompetingKernels":
        """Draw groups, signs and channels, and return this object.

        Parameters
        ----------
        X, lengths : as in `RandomConvolutions.fit`
        """
        windows, _, steps = read_windows(X, lengths, checked=True)
        n_windows, n_timesteps, n_channels = windows.shape
        used = np.full(n_windows, n_timesteps) if steps is None else steps
        longest = int(used.max(initial=0))
        if not longest:
            raise SignalError("X has no valid step to learn from.")
        rng = check_random_state(self.random_state)
        rounds = [
            (dilation, is_difference)
            for is_difference in range(2)
            for dilation in _choose_dilations(longest - is_difference)
        ]
        kernels = [rng.permutation(N_KERNELS) for _ in rounds]
        flipped = rng.integers(0, 2, (len(rounds), N_KERNELS)).astype(bool)
        counts, indices = draw_channels(rng, N_GROUPS * len(rounds), n_channels)
        drawn = np.stack(kernels)
        values = {
            "dilations": [dilation for dilation, _ in rounds],
            "is_difference": [is_difference for _, is_difference in rounds],
            "kernels": np.where(flipped, -1 - drawn, drawn).ravel(),
            "channel_counts": counts,
            "channel_indices": np.concatenate(indices),
        }
        self._arrays = {name: np.asarray(array, np.int32) for name, array in values.items()}
        self._n_channels = n_channels
        self._padded_steps = longest if self.pad and used.min() < longest else 0
        return self

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "CompetingKernels":
        """Restore from `state`, or raise a SignalError if it is inconsistent or of a wrong kind.

        Parameters
        ----------
        state : mapping
        """
        needed = "random_state", "n_channels", "padded_steps"
        settings, stored = check_state(state, cls.kind, needed, _ARRAYS)
        n_channels = check_integer("n_channels", settings["n_channels"], 1)
        try:
            _signal.check_competition(n_channels=n_channels, **stored)
        except ValueError as error:
            raise SignalError(f"the stored kernels are inconsistent: {error}.") from error
        padded_steps = check_integer("padded_steps", settings["padded_steps"], 0)
        restored = cls(settings["random_state"], pad=padded_steps > 0)
        restored._arrays, restored._n_channels = stored, n_channels
        restored._padded_steps = padded_steps
        return restored


def _choose_dilations(n_timesteps: int) -> list[int]:
    """Return the dilations 1, 2, 4, ... at which a kernel fits into the window.

    The result always contains 1.
    """
    largest = max(1, (n_timesteps - 1) // 8)
    return [2**i for i in range(largest.bit_length())]
