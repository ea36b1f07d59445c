"""Patches: join several samples of a window into one step of the network."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_N_STATISTICS = 4  # of a patch, see `Patch`
SMALLEST_VARIANCE = 1e-6  # added so that a constant patch has a finite gradient


class Patch(NamedTuple):
    """A rule that joins `n_samples` samples into one step.

    The inputs of a step are mean, standard deviation, minimum and maximum of each channel, after
    the samples themselves unless `has_samples` is False. If a window ends within a patch, its last
    sample is repeated.
    """

    n_samples: int
    has_samples: bool = True

    def n_inputs(self, n_channels: int) -> int:
        """Return the number of inputs per step."""
        return n_channels * (_N_STATISTICS + self.n_samples * self.has_samples)

    def apply(
        self, X: NDArray[Any], lengths: NDArray[np.int64] | None
    ) -> tuple[NDArray[Any], NDArray[np.int64] | None]:
        """Convert windows (n, t, c) to steps (n, ceil(t / n_samples), n_inputs), with lengths.

        Steps beyond a length are zero.
        """
        n, t, c = X.shape
        n_steps = count_steps(t, self)
        last = np.full(1, t) if lengths is None else lengths
        held = np.minimum(np.arange(n_steps * self.n_samples), last[:, None] - 1)
        parts = np.take_along_axis(X, held[:, :, None], 1)
        parts = parts.reshape(n, n_steps, self.n_samples, c)
        mean = parts.mean(axis=2)
        variance = np.square(parts - mean[:, :, None]).mean(axis=2)
        sd = np.sqrt(variance + X.dtype.type(SMALLEST_VARIANCE))
        samples = [parts.reshape(n, n_steps, -1)] if self.has_samples else []
        steps = np.concatenate([*samples, mean, sd, parts.min(axis=2), parts.max(axis=2)], axis=2)
        if lengths is None:
            return steps, None
        lengths = -(-lengths // self.n_samples)
        steps[np.arange(n_steps) >= lengths[:, None]] = 0
        return steps, lengths


def count_steps(n_timesteps: int, patch: Patch | None) -> int:
    """Return the number of steps in a window of this many samples."""
    return n_timesteps if patch is None else -(-n_timesteps // patch.n_samples)


def read_patch(stored: Sequence[Any] | None) -> Patch | None:
    """Read a patch from the fields of a file; raise a ValueError if they are invalid."""
    if stored is None:
        return None
    n_samples, has_samples = stored
    if type(n_samples) is not int or n_samples < 2 or type(has_samples) is not bool:
        raise ValueError(f"patch={stored!r}")
    return Patch(n_samples, has_samples)
