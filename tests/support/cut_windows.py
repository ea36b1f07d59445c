"""Windows of one signal, as a view."""

import numpy as np


def make_windows(signal, window_samples, hop_samples=None):
    """Return (n_windows, window_samples, n_channels); adjacent windows without a hop."""
    if len(signal) < window_samples:
        return np.empty((0, window_samples, signal.shape[1]), signal.dtype)
    view = np.lib.stride_tricks.sliding_window_view(signal, window_samples, axis=0)
    return np.moveaxis(view, -1, 1)[:: hop_samples or window_samples]
