"""A table of samples given as windows is rejected; windows and scikit-learn tables are accepted."""

import numpy as np
import pandas as pd
import pytest
from borealtc import BOREALTC, needs_borealtc
from fits import plain_classifier
from hypothesis import given
from hypothesis import strategies as st
from motion import TRACE_UNITS, Robot
from numpy.lib.stride_tricks import sliding_window_view
from simulate import SURFACES, simulate_recordings
from sklearn import datasets

from sensorseq.datasets import load_surfaces
from sensorseq.errors import InputError
from sensorseq.training.inputs import LEAST_ROWS, refuse_rows


def is_refused(X, y):
    try:
        refuse_rows(X, np.unique(y, return_inverse=True)[1])
    except InputError:
        return True
    return False


def table(signals):
    """Join signals, which are pairs (values, label); return the rows and the label of each row."""
    return np.concatenate([x for x, _ in signals]), np.repeat(
        [label for _, label in signals], [len(x) for x, _ in signals]
    )


def windows(signals, channel, n_timesteps, hop):
    """Windows (n, t) of one channel in the order of the recordings, and their labels."""
    cut = [(sliding_window_view(x[:, channel], n_timesteps)[::hop], y) for x, y in signals]
    return table([(some[:2000], y) for some, y in cut])


@pytest.fixture(scope="module")
def drives():
    surfaces = list(SURFACES)
    made = simulate_recordings(
        surfaces,
        [Robot()] * len(surfaces),
        8.0,
        random_states=range(len(surfaces)),
        recording_ids=surfaces,
        channels=tuple(TRACE_UNITS),
    )
    return [
        (recording.values[np.isfinite(recording.values).all(axis=1)], recording.label)
        for recording in made
    ]


@pytest.fixture(scope="module")
def embedded():
    return [(x.values[np.isfinite(x.values[:, 0])], x.label) for x in load_surfaces()[::4]]


def test_a_table_of_simulated_samples_is_refused_and_the_remedy_works(drives):
    X, y = table([(x[:500, [0, 4, 6]], label) for x, label in drives[:3]])
    settings = {"hidden_size": 2, "max_epochs": 1, "device": "cpu", "random_state": 0}
    words = rf"read as {len(X)} windows .* PreparePipeline\(window_s=\.\.\.\)\.prepare"
    for given_as in (X, pd.DataFrame(X, columns=["current", "motor", "speed"])):
        with pytest.raises(InputError, match=words):
            plain_classifier(**settings).fit(given_as, y)
    plain_classifier(**settings).fit(X[:, :, None], y, groups=np.arange(len(y)) // 100)


@given(seed=st.integers(0, 10**6), n_channels=st.integers(1, 10), n=st.integers(3, 6))
def test_any_channels_of_any_simulated_recordings_are_found(drives, seed, n_channels, n):
    rng = np.random.default_rng(seed)
    channels = rng.choice(len(TRACE_UNITS), n_channels, replace=False)
    some = [drives[i] for i in rng.choice(len(drives), n, replace=False)]
    assert is_refused(*table([(x[:, channels], label) for x, label in some]))


@pytest.mark.parametrize(("n_timesteps", "hop"), [(2, 1), (5, 1), (16, 4), (31, 4)])
def test_windows_of_one_channel_are_accepted_however_they_overlap(
    drives, embedded, n_timesteps, hop
):
    assert not is_refused(*windows(embedded, 0, n_timesteps, hop))
    for channel in range(len(TRACE_UNITS)):
        some = windows(drives, channel, n_timesteps, min(hop, 2))
        assert len(some[0]) > LEAST_ROWS
        assert not is_refused(*some)


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "digits"])
@pytest.mark.parametrize("times", [1, 10])
def test_tables_of_scikit_learn_are_accepted_sorted_by_class(name, times):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    X, y = (
        np.concatenate([part[np.random.default_rng(0).permutation(len(y))]] * times)
        for part in (X, y)
    )
    order = np.argsort(y, kind="stable")
    assert not is_refused(X[order], y[order])


@given(seed=st.integers(0, 10**6), n_columns=st.integers(1, 31), n_classes=st.integers(1, 4))
def test_independent_rows_are_accepted_sorted_by_class(seed, n_columns, n_classes):
    rng = np.random.default_rng(seed)
    y = np.sort(rng.integers(0, n_classes, 1000))
    centers = rng.normal(scale=10, size=(n_classes, n_columns))
    assert not is_refused(centers[y] + rng.standard_t(3, size=(1000, n_columns)), y)


@pytest.mark.long
@needs_borealtc
@pytest.mark.parametrize("files", ["pro_*.csv", "imu_*.csv.gz"])
def test_tables_and_windows_of_borealtc_are_distinguished(files):
    signals = []
    for terrain in ("ASPHALT", "FLOORING", "ICE", "SANDY_LOAM", "SNOW"):
        for path in sorted((BOREALTC / terrain).glob(files))[:6]:
            signals.append((pd.read_csv(path).iloc[:, 1:].to_numpy(), terrain))
    for first in range(6):
        assert is_refused(*table(signals[first::6]))
    for channel in range(signals[0][0].shape[1]):
        for n_timesteps, hop in ((5, 1), (5, 5), (16, 4), (31, 31)):
            assert not is_refused(*windows(signals, channel, n_timesteps, hop))
