"""Each recording is scaled to mean 0 and standard deviation 1 by its own statistics."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.io.blocks import Rows
from sensorseq.preprocessing import scale as scaler_module
from sensorseq.preprocessing.scale import fit_scaler, normalize_pieces

RATE = 20.0


def recording(seed=0, n_samples=400, name="r", dtype=np.float64):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n_samples, 3)) * rng.uniform(0.1, 9, 3) + rng.normal(0, 1e3, 3)
    return Recording.evenly_sampled(x.astype(dtype), RATE, ("a", "b", "c"), name, label="ice")


def values_of(pieces):
    return np.concatenate([piece.values for piece in pieces])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@given(seed=st.integers(0, 99), cut=st.integers(0, 400))
def test_all_pieces_of_a_recording_are_scaled_by_their_common_statistics(dtype, seed, cut):
    whole = recording(seed, dtype=dtype)
    pieces = [
        replace(whole, values=whole.values[rows], timestamps_s=whole.timestamps_s[rows])
        for rows in (slice(cut), slice(cut, None))
    ]
    scaled = values_of(normalize_pieces(pieces))
    assert scaled.dtype == dtype
    expected = fit_scaler(whole.values[np.newaxis]).transform(whole.values[np.newaxis])[0]
    np.testing.assert_allclose(scaled, expected, rtol=1e-5, atol=1e-5)


def test_a_recording_on_disk_is_scaled_to_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(scaler_module, "_SUMMED", 64)
    held = recording()
    rows = Rows(tmp_path, np.float64, 3)
    rows.append(held.values)
    stored = replace(held, values=rows.as_array())
    (expected,), (found,) = normalize_pieces([held]), normalize_pieces([stored])
    np.testing.assert_array_equal(found.values, expected.values)


def test_a_constant_channel_becomes_zero():
    given = recording()
    given.values[:, 1] = 0.1
    scaled = normalize_pieces([given])[0].values
    np.testing.assert_array_equal(scaled[:, 1], 0.0)
    assert scaled[:, 0].std() == pytest.approx(1.0)


def test_a_piece_without_samples_stays_and_a_missing_sample_is_named():
    empty = recording(n_samples=0)
    assert normalize_pieces([empty]) == [empty]
    assert normalize_pieces([]) == []
    lost = recording()
    lost.values[7, 2] = np.nan
    with pytest.raises(RecordingError, match="recording 'r': channel 'c' has no value at sample 7"):
        normalize_pieces([lost])
    wide = recording()
    wide.values[:2, 0] = -1e200, 1e200
    with pytest.raises(SignalError, match=r"recording 'r': channel 0 .* too wide"):
        normalize_pieces([wide])


def test_windows_are_cut_from_recordings_that_are_normalized_independently():
    recordings = [recording(i, name=f"r{i}") for i in range(4)]
    pipeline = PreparePipeline(window_s=1.0, normalize="recording", split=None)
    windows = pipeline.prepare(recordings)
    for name in np.unique(windows.recording_id):
        own = windows.X[windows.recording_id == name]
        np.testing.assert_allclose(own.mean(axis=(0, 1)), 0, atol=1e-6)
        np.testing.assert_allclose(own.std(axis=(0, 1)), 1, rtol=1e-5)
    (alone,) = (pipeline.prepare([one]) for one in recordings[2:3])
    np.testing.assert_array_equal(alone.X, windows.X[windows.recording_id == "r2"])
    # The offset and gain of a recording have no effect.
    moved = [replace(one, values=one.values * 7 - 300) for one in recordings]
    np.testing.assert_allclose(pipeline.prepare(moved).X, windows.X, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normalize": "group"}, "normalize='group' is not known. Known: recording"),
        ({"normalize": "recording", "split_by": "time"}, "cannot be combined with normalize"),
    ],
)
def test_options_that_exclude_normalization_are_refused(options, message):
    with pytest.raises(ArgumentError, match=message):
        PreparePipeline(window_s=1.0, **options)
