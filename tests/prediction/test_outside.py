"""Planted faults are found to be unlike the training windows; ordinary windows are not."""

import numpy as np
import pytest
from fits import plain_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone

from sensorseq import (
    PreparePipeline,
    Recording,
    SensorLSTMClassifier,
    WindowSet,
)
from sensorseq.errors import InputError
from sensorseq.io.model_file import read_model, write_model
from sensorseq.io.prepared import write_windows
from sensorseq.prediction import checked_windows as windows_module
from sensorseq.prediction.outside import TrainedRanges

NAMES = ("current", "speed", "tilt")
FAST = {"hidden_size": 4, "max_epochs": 1, "random_state": 0}


def make_windows(n, seed, n_steps=40):
    """Three noisy sines of different amplitudes; the second is constant in every third window."""
    rng = np.random.default_rng(seed)
    t = np.arange(n_steps)[None, :, None]
    X = np.sin(t * rng.uniform(0.1, 1, (n, 1, 3)) + rng.uniform(0, 6, (n, 1, 3)))
    X = (X + 0.2 * rng.normal(size=X.shape)) * [5.0, 1.0, 0.1] + [0.0, 0.0, 9.81]
    X[::3, :, 1] = 0.0
    return X


X, Y = make_windows(90, seed=0), np.arange(90) % 2
NEW = make_windows(60, seed=1)


@pytest.fixture(scope="module")
def model():
    windows = WindowSet(X, y=Y, channels=NAMES)
    return plain_classifier(**FAST).fit(windows)


def changed(c, values):
    """New windows, in which one channel is changed in windows 10 to 29."""
    windows = NEW.copy()
    windows[10:30, :, c] = values(windows[10:30, :, c])
    return windows


def ramps(x):
    """Straight lines of the usual size, without noise, so that high frequency bands are empty."""
    return np.linspace(-5, 5, x.shape[1]) * np.ones((len(x), 1))


def ranges_of(fitted):
    return fitted.model_.input.ranges


def full(windows):
    return np.full(len(windows), windows.shape[1])


@given(seed=st.integers(0, 999), n=st.integers(1, 40), n_steps=st.integers(1, 50))
def test_no_training_window_is_outside(seed, n, n_steps):
    windows = make_windows(n, seed, n_steps)
    lengths = np.random.default_rng(seed).integers(1, n_steps + 1, n)
    ranges = TrainedRanges.learn(windows, lengths)
    assert not ranges.compare(windows, lengths, NAMES).n_outside
    wider = ranges.widened(100 * NEW, full(NEW))
    assert not wider.compare(windows, lengths, NAMES).n_outside
    assert not wider.compare(100 * NEW, full(NEW), NAMES).n_outside


def test_new_windows_of_the_same_kind_are_inside(model):
    assert str(model.outside(NEW)) == "All 60 windows lie within what the model was trained on."


@pytest.mark.parametrize(
    ("c", "values", "reason", "words"),
    [
        (0, lambda x: 1000 * x, "spread", "'current' varies 980 times as much as in training (20"),
        (0, lambda x: 1000 * x, "spread", "1000 times smaller, such as mA where training had A"),
        (0, lambda x: x / 1000, "spread", "times less than in training (20"),
        (2, np.degrees, "spread", "degrees where training had radians"),
        (2, lambda x: x - 9.81, "values", "'tilt' has values far from"),
        (0, lambda x: 0 * x + x[0, 0], "constant", "is constant, which it never was"),
        (0, ramps, "spectrum", "a different spectrum than in training"),
    ],
)
def test_planted_faults_are_found_and_named(model, c, values, reason, words):
    result = model.outside(changed(c, values))
    np.testing.assert_array_equal(np.flatnonzero(result.mask), np.arange(10, 30))
    assert set(result.reasons[10:30, c]) == {reason}
    assert str(result).startswith("20 of 60 windows lie outside what the model was trained on: ")
    assert words in str(result)


def test_a_channel_that_was_once_constant_counts_as_stuck_if_the_others_vary():
    """In training, the channel was constant only in windows in which all channels were."""
    rng = np.random.default_rng(0)
    size = np.where(np.arange(80) < 40, 0.0, 1.0)[:, None, None]
    windows = rng.normal(size=(80, 40, 2)) * size
    ranges = TrainedRanges.learn(windows, full(windows))
    stuck = windows[40:].copy()
    stuck[:, :, 1] = 0.0
    result = ranges.compare(stuck, full(stuck), ("a", "b"))
    assert result.mask.all()
    assert set(result.reasons.ravel()) == {"share"}
    assert "is constant while others vary" in str(result)


def test_a_window_is_judged_the_same_alone_and_among_others(model):
    windows = changed(0, lambda x: 40 * x)
    together = model.outside(windows)
    alone = [model.outside(windows[i : i + 1]) for i in range(len(windows))]
    np.testing.assert_array_equal(
        np.concatenate([part.reasons for part in alone]), together.reasons
    )
    order = np.random.default_rng(0).permutation(len(windows))
    np.testing.assert_array_equal(model.outside(windows[order]).mask, together.mask[order])


@settings(max_examples=2)
@given(seed=st.integers(0, 99))
def test_steps_beyond_the_lengths_change_nothing(model, seed):
    lengths = np.random.default_rng(seed).integers(1, 41, len(NEW))
    padded = changed(0, lambda x: 1000 * x)
    expected = model.outside(padded, lengths)
    padded[np.arange(40) >= lengths[:, None]] = 1e9
    result = model.outside(padded, lengths)
    np.testing.assert_array_equal(result.reasons, expected.reasons)
    np.testing.assert_array_equal(result.ratio, expected.ratio)
    cut = [model.outside(padded[i : i + 1, :n]).mask[0] for i, n in enumerate(lengths)]
    np.testing.assert_array_equal(result.mask, cut)


def test_a_channel_constant_in_training_may_not_change():
    windows = X.copy()
    windows[:, :, 2] = np.float32(0.1)
    ranges = TrainedRanges.learn(windows, full(windows))
    assert not ranges.compare(windows, full(windows), NAMES).n_outside
    result = ranges.compare(X, full(X), NAMES)
    assert result.mask.all()
    assert set(result.reasons[:, 2]) == {"values"}
    assert np.isnan(result.ratio[:, 2]).all()


def test_a_model_file_without_ranges_loads_and_the_error_explains_what_is_missing(model, tmp_path):
    path = tmp_path / "m.safetensors"
    model.save(path)
    arrays, description = read_model(path)
    older = {name: array for name, array in arrays.items() if not name.startswith("ranges.")}
    write_model(path, older, description)
    loaded = SensorLSTMClassifier.load(path)
    np.testing.assert_array_equal(loaded.predict_proba(NEW), model.predict_proba(NEW))
    with pytest.raises(InputError, match=r"because it was imported\. Fit it"):
        loaded.outside(NEW)


def test_a_table_of_one_channel_has_its_ranges():
    clf = plain_classifier(**FAST).fit(X[:, :, 0], Y)
    assert not clf.outside(NEW[:, :, 0]).n_outside
    result = clf.outside(1000 * NEW[:, :, 0])
    assert result.mask.all()
    assert "channel 'channel_0' varies" in str(result)


def test_more_windows_widen_the_ranges():
    large = 1000 * NEW
    clf = plain_classifier(**FAST, warm_start=True).fit(X, Y)
    assert clf.outside(large).mask.all()
    clf.fit(large, np.arange(60) % 2)
    assert not clf.outside(large).n_outside
    assert not clf.outside(NEW).n_outside


def test_an_adapted_model_knows_both_robots_and_the_old_one_only_its_own(model):
    large = 1000 * NEW
    adapted = model.adapt(WindowSet(large, y=np.arange(60) % 2, channels=NAMES))
    assert not adapted.outside(large).n_outside
    assert not adapted.outside(NEW).n_outside
    assert model.outside(large).mask.all()


def test_windows_given_for_validation_count_and_the_test_part_does_not():
    split = np.where(np.arange(90) < 60, "train", "test")
    windows = np.concatenate([X[:60], 1000 * X[60:]])
    tested = plain_classifier(**FAST, early_stopping=False)
    tested.fit(WindowSet(windows, y=Y, split=split))
    assert tested.outside(windows[60:]).mask.all()
    with_X_val = plain_classifier(**FAST).fit(X[:60], Y[:60], X_val=1000 * X[60:], y_val=Y[60:])
    assert not with_X_val.outside(windows).n_outside


def test_windows_that_stay_in_their_file_are_learned_from_and_judged(tmp_path, monkeypatch):
    windows = WindowSet(X, y=Y, channels=NAMES, recording_id=np.arange(90).astype(str))
    write_windows(tmp_path / "w.h5", windows)
    held = plain_classifier(**FAST, validation_fraction=0.0, early_stopping=False, refit=None)
    stored = clone(held)
    expected = held.fit(windows).outside(windows)
    monkeypatch.setenv("SENSORSEQ_BUFFER_BYTES", "20000")
    stored.set_params(batch_size=8).fit(tmp_path / "w.h5")
    for name, array in ranges_of(held).arrays().items():
        np.testing.assert_allclose(ranges_of(stored).arrays()[name], array, rtol=1e-5, atol=1e-6)
    result = stored.outside(tmp_path / "w.h5")
    np.testing.assert_array_equal(result.reasons, expected.reasons)
    monkeypatch.setattr(windows_module, "PIECE_BYTES", 7 * 4 * X[0].size)
    stored.fit(tmp_path / "w.h5")
    low, of_pieces = (
        ranges.low[1] + np.log10(ranges.scale) for ranges in map(ranges_of, (held, stored))
    )
    moving = [0, 2]  # channel 1 is left out because its recorded spread depends on the pieces
    np.testing.assert_allclose(of_pieces[moving], low[moving], atol=1e-6)
    assert not stored.outside(windows).n_outside


def test_units_do_not_matter_if_each_recording_is_scaled_separately():
    rng = np.random.default_rng(0)
    sizes, labels = [1, 1, 1, 1, 1, 1000], 3 * ["calm", "rough"]
    recordings = [
        Recording.evenly_sampled(
            size * rng.normal(size=(200, 2)), 20.0, ("a", "b"), f"r{i}", label=label
        )
        for i, (size, label) in enumerate(zip(sizes, labels, strict=True))
    ]
    options = {"window_s": 2.0, "normalize": "recording", "split": None}
    windows = PreparePipeline(**options).prepare(recordings, allow_scales=True)
    is_large = windows.recording_id == "r5"
    model = plain_classifier(**FAST).fit(windows.take(np.flatnonzero(~is_large)))
    assert not model.outside(windows).n_outside
