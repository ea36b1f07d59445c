"""A split through a recording is reported with a remedy; there are no false alarms."""

import warnings
from functools import partial

import numpy as np
import pytest
import sklearn
from cut_windows import make_windows
from fits import plain_classifier
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from sklearn.model_selection import GroupKFold, cross_validate

from sensorseq import Recording, Windower, WindowSet
from sensorseq.errors import LeakWarning

OVERLAP = r"held out for validation.* overlap training windows, .*enable_metadata_routing"
IN_A_ROW = r"each window continues the one before it, .*enable_metadata_routing"
SETTINGS = {"hidden_size": 1, "max_epochs": 1, "device": "cpu", "random_state": 0}
T = 32
classifier = partial(plain_classifier, **SETTINGS)


def recordings(n=6, n_samples=400, n_channels=2, seed=0, digits=None):
    """Slow, noisy motor signals."""
    rng = np.random.default_rng(seed)
    drives = []
    for _ in range(n):
        walk = np.cumsum(rng.normal(size=(n_samples, n_channels)), axis=0)
        drive = walk / 5 + 0.3 * rng.normal(size=(n_samples, n_channels))
        drives.append(drive if digits is None else np.round(drive, digits))
    return drives


def cut(drives, hop, window=T):
    """Return windows with their recordings and classes."""
    parts = [make_windows(drive, window, hop) for drive in drives]
    groups = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.concatenate(parts), groups, groups % 2


def leak_warnings(fit):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    return [str(warning.message) for warning in caught if warning.category is LeakWarning]


@pytest.mark.parametrize(
    ("overlap", "is_shuffled"), [(0.25, False), (0.5, True), (0.75, False), (0.97, True)]
)
def test_overlapping_windows_are_named(overlap, is_shuffled):
    X, _, y = cut(recordings(), round(T * (1 - overlap)))
    order = np.random.default_rng(1).permutation(len(X)) if is_shuffled else np.arange(len(X))
    with pytest.warns(LeakWarning, match=OVERLAP) as caught:
        classifier().fit(X[order], y[order])
    assert caught[0].filename == __file__


def test_groups_that_share_samples_are_named():
    X, groups, y = cut(recordings(), T // 2)
    torn = 10 * groups + np.arange(len(X)) % 2  # each recording is divided into two groups
    with pytest.warns(LeakWarning, match=r"These groups share windows: \d+ and \d+") as caught:
        classifier().fit(X, y, groups=torn)
    message = str(caught[0].message)
    assert "groups=" not in message
    pairs = [
        pair.split(" and ") for pair in message.split("windows: ")[1].split(". ")[0].split(", ")
    ]
    assert pairs
    assert all(int(group) // 10 == int(other) // 10 for group, other in pairs if other)


def test_a_window_set_provides_its_recordings_as_groups():
    drives = [
        Recording.evenly_sampled(drive, 50.0, ("left", "right"), f"drive {i}", label=str(i % 2))
        for i, drive in enumerate(recordings())
    ]
    windows = Windower(window_s=T / 50, hop_s=T / 100).transform(drives)
    classifier().fit(windows)
    bare = WindowSet(windows.X, y=windows.y, recording_id=windows.recording_id)
    classifier().fit(bare)
    with pytest.warns(LeakWarning, match=OVERLAP):
        classifier().fit(windows.X, windows.y)


def test_the_suggested_remedy_works_inside_a_cross_validation():
    X, groups, y = cut(recordings(), T // 2)
    with pytest.warns(LeakWarning, match="enable_metadata_routing"):
        cross_validate(classifier(), X, y, groups=groups, cv=GroupKFold(3), error_score="raise")
    how = {"params": {"groups": groups}, "cv": GroupKFold(3), "error_score": "raise"}
    with sklearn.config_context(enable_metadata_routing=True):
        cross_validate(classifier(), X, y, **how)


@pytest.mark.parametrize("kind", ["all", "some", "overlap", "part of a set", "float32"])
def test_training_windows_given_as_validation_are_named(kind):
    X, _, y = cut(recordings(), T // 2)
    X_val, y_val = {"some": (X[:60], y[:60]), "overlap": (X[1::2], y[1::2])}.get(kind, (X, y))
    if kind == "overlap":
        X, y = X[::2], y[::2]
    how = {"X_val": X_val.astype(np.float32 if kind == "float32" else X.dtype), "y_val": y_val}
    if kind == "part of a set":
        split = np.repeat(["train", "validation"], len(X))
        X, y, how = WindowSet(np.concatenate([X, X]), y=np.tile(y, 2), split=split), None, {}
    with pytest.warns(LeakWarning, match=r"overlap training windows, .*the temperature, features_"):
        classifier().fit(X, y, **how)


def test_validation_windows_of_other_recordings_and_none_at_all_are_no_leak():
    X, groups, y = cut(recordings(), T // 2)
    own = groups < 4
    classifier().fit(X[own], y[own], X_val=X[~own], y_val=y[~own])
    alone = classifier(validation_fraction=0.0, early_stopping=False)
    alone.fit(X, y)


def test_an_overlap_is_found_among_many_windows():
    X, _, y = cut(recordings(n=20, n_samples=8000, n_channels=3), T // 2)
    order = np.random.default_rng(0).permutation(len(X))
    with pytest.warns(LeakWarning, match=rf"of the 1\d\d windows .* checked \({len(X) // 5}"):
        classifier(batch_size=512).fit(X[order], y[order])


def test_lengths_and_other_types_hide_no_overlap():
    X, _, y = cut(recordings(), T // 2)
    lengths = np.full(len(X), T)
    lengths[::5] = T - 3
    for windows, extra in ((X.astype(np.float32), {}), (X, {"lengths": lengths}), (list(X), {})):
        with pytest.warns(LeakWarning, match=OVERLAP):
            classifier().fit(windows, y, **extra)


def test_a_quantized_signal_hides_no_overlap():
    X, _, y = cut(recordings(digits=1), T // 2)
    with pytest.warns(LeakWarning, match=OVERLAP):
        classifier().fit(X, y)


# Windows that follow each other.


@pytest.mark.parametrize("n_channels", [1, 3])
def test_consecutive_windows_are_reported_if_they_are_in_order(n_channels):
    X, groups, y = cut(recordings(n_channels=n_channels), T)
    with pytest.warns(LeakWarning, match=IN_A_ROW):
        classifier().fit(X, y)
    classifier().fit(X, y, groups=groups)
    order = np.random.default_rng(0).permutation(len(X))
    classifier().fit(X[order], y[order])  # the order no longer reveals the recordings


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("gap", [3 * T, 5 * T])
def test_distant_windows_of_a_recording_are_not_reported_as_consecutive(gap, seed):
    X, _, y = cut(recordings(n=4, n_samples=100 * T, seed=seed), gap)
    classifier().fit(X, y)


def honest(kind, seed):
    """Independent windows of many shapes."""
    rng = np.random.default_rng(seed)
    n, t = 120, np.arange(T)[:, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 2))
    noise = rng.normal(size=(n, T, 2))
    level = rng.normal(size=(n, 1, 2))
    return {
        "noise": noise,
        "sines": np.sin(0.3 * t + phase),
        "walks": np.cumsum(noise, axis=1) / 5,
        "walks from zero": np.cumsum(noise, axis=1) - noise[:, :1],
        "levels in order": np.sort(level, axis=0) * 20 + 0.1 * noise,
        "walks at levels in order": np.sort(level, axis=0) * 20 + np.cumsum(noise, axis=1) / 9,
        "one waveform": np.sin(2 * np.pi * t / T) + 0.02 * noise,
        "ramps": t / T + 0.001 * noise,
        "ramps at levels in order": t / T + np.sort(level, axis=0) * 50 + 0.01 * noise,
        "at rest": np.round(0.2 * noise) + np.round(level),
        "all zero": 0 * noise,
        "few levels": np.round(np.cumsum(noise, axis=1) / 9),
        "a quantized waveform": np.round(9 * np.sin(2 * np.pi * t / T)) + 0 * noise,
        "binary": (noise > 0).astype(float),
    }[kind]


HONEST = "noise|sines|walks|walks from zero|levels in order|walks at levels in order|one waveform"
HONEST += "|a quantized waveform|ramps|ramps at levels in order|at rest|all zero|few levels|binary"


@pytest.mark.long
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", HONEST.split("|"))
def test_independent_windows_are_never_reported(kind, seed):
    X = honest(kind, seed)
    y = np.arange(len(X)) % 2
    for order in (np.arange(len(X)), np.argsort(y, kind="stable")):
        assert not leak_warnings(lambda order=order: classifier().fit(X[order], y[order]))


@given(
    shape=st.tuples(st.integers(10, 60), st.integers(1, 40), st.integers(1, 4)),
    seed=st.integers(0, 2**32 - 1),
    is_sorted=st.booleans(),
)
def test_random_windows_of_any_shape_are_never_reported(shape, seed, is_sorted):
    X = np.random.default_rng(seed).normal(size=shape)
    if is_sorted:
        X = X[np.argsort(X.mean(axis=(1, 2)))]
    y = np.arange(len(X)) % 2
    fit = classifier(validation_fraction=0.4).fit
    assert not leak_warnings(lambda: fit(X, y, lengths=np.full(shape[0], shape[1])))


RESTING = {"elements": st.sampled_from([0.0, -0.0, 1.0]), "fill": st.just(0.0)}


@given(values=arrays.arrays(np.float32, (12, 20, 2), **RESTING))
def test_a_sensor_that_mostly_rests_never_causes_a_warning(values):
    y = np.arange(12) % 2
    fit = classifier(validation_fraction=0.4).fit
    assert not leak_warnings(lambda: fit(values, y))
