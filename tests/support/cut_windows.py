"""Recordings with numbered samples, windows of a signal, and windows with groups."""

import numpy as np
from hypothesis import strategies as st

from sensorseq.recording import Recording


def make_windows(signal, window_samples, hop_samples=None):
    """Return views (n_windows, window_samples, n_channels); without a hop, windows are adjacent."""
    if len(signal) < window_samples:
        return np.empty((0, window_samples, signal.shape[1]), signal.dtype)
    view = np.lib.stride_tricks.sliding_window_view(signal, window_samples, axis=0)
    return np.moveaxis(view, -1, 1)[:: hop_samples or window_samples]


def counting(n_samples, recording_id="run", rate=10.0, n_channels=2, **more):
    """Return a recording whose values are the sample's index + 1000 * the channel's index."""
    values = np.arange(float(n_samples))[:, None] + 1000.0 * np.arange(n_channels)
    channels = [f"channel {c}" for c in range(n_channels)]
    return Recording.evenly_sampled(values, rate, channels, recording_id, **more)


@st.composite
def grouped_windows(draw, min_groups=1):
    """Draw labels and groups. Either every group has one class, or a group may have several."""
    n_classes = draw(st.integers(1, 4))
    mixed = draw(st.booleans())
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    y, groups = [], []
    for label in range(n_classes):
        for index in range(draw(st.integers(min_groups, min_groups + 6))):
            size = int(rng.integers(1, 30))
            y += [f"class {label}"] * size
            groups += [index if mixed else 100 * label + index] * size
    order = rng.permutation(len(y))
    return np.array(y)[order], np.array(groups)[order]
