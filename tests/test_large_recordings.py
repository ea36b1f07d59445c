"""A recording kept on disk and worked through in blocks becomes the file that memory gives."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq import scratch
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.steps import BandPass, Derivative, Detrend, Moving, SpectralFrames
from sensorseq.preprocessing.window import window_recordings
from sensorseq.recording import LabelSpan, Recording


def stored(array, folder):
    rows = scratch.Rows(folder, array.dtype, *array.shape[1:])
    for part in np.array_split(array, 3):
        rows.append(part)
    return rows.as_array()


def in_blocks_of(rows, patch):
    patch.setattr(scratch, "_MOST_ROWS", rows)


@st.composite
def recordings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n = draw(st.integers(50, 600))
    t = np.arange(n) * 0.01 + draw(st.sampled_from([0.0, 1e9]))
    if draw(st.booleans()):
        t = t + rng.normal(size=n) * draw(st.sampled_from([1e-5, 3e-3, 2e-2]))
    keep = rng.random(n) < draw(st.sampled_from([1.0, 0.9, 0.5]))
    keep[:4] = True
    t = t + np.cumsum(rng.random(n) < draw(st.sampled_from([0.0, 0.01]))) * 2.0  # gaps
    t = np.unique(t[keep])
    x = rng.normal(size=(len(t), 2))
    x[4:][rng.random((len(t) - 4, 2)) < draw(st.sampled_from([0.0, 0.1, 0.7]))] = np.nan
    if draw(st.booleans()):
        x = x.astype(np.float32)
    spans = ()
    if draw(st.booleans()):
        ends = np.linspace(t[0] - 1, t[-1] + 1, draw(st.integers(2, 9)))
        spans = tuple(
            LabelSpan(a, b - rng.random() * 0.1 * (b - a), "AB"[i % 2])
            for i, (a, b) in enumerate(pairwise(ends))
        )
    return Recording(x, t, ("a", "b"), "r", label=None if spans else "A", label_spans=spans)


STEPS = (
    [],
    [Detrend(window_s=0.5), BandPass(low_hz=2.0, high_hz=8.0, phase="zero")],
    [BandPass(low_hz=2.0, high_hz=8.0, phase="causal"), Derivative()],
    [Moving(0.2, "mean"), SpectralFrames(frame_s=0.4, hop_s=0.1)],
)


def windows_of(recording, rate, steps, rule):
    pieces = resample_recording(recording, rate)
    for step in steps:
        pieces = [step.apply(piece, rate) for piece in pieces]
        rate = step.output_rate_hz(rate)
    return pieces, window_recordings(
        pieces, 0.3, 0.1, sample_rate_hz=rate, label_rule=rule, check_classes=False
    )


@given(
    recording=recordings(),
    rows=st.integers(1, 700),
    rate=st.sampled_from([100.0, 37.3, 20.0, 130.0]),
    steps=st.sampled_from(STEPS),
    rule=st.sampled_from(["whole", "majority", "centre", "last"]),
)
def test_windows_of_a_stored_recording_are_those_of_memory(
    recording, rows, rate, steps, rule, tmp_path_factory
):
    folder = tmp_path_factory.getbasetemp()
    on_disk = Recording(
        stored(recording.values, folder),
        stored(recording.timestamps_s, folder),
        recording.channels,
        "r",
        label=recording.label,
        label_spans=recording.label_spans,
    )
    assert scratch.is_stored(on_disk.values)
    assert scratch.is_stored(on_disk.timestamps_s)
    pieces, windows = windows_of(recording, rate, steps, rule)
    with pytest.MonkeyPatch.context() as patch:
        in_blocks_of(rows, patch)
        others, same = windows_of(on_disk, rate, steps, rule)
    assert len(pieces) == len(others)
    for one, other in zip(pieces, others, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.timestamps_s, other.timestamps_s)
        assert one.attributes == other.attributes
        assert one.values.dtype == other.values.dtype
        assert not one.n_samples or scratch.is_stored(other.values)
    for name in ("X", "y", "lengths", "start_s"):
        np.testing.assert_array_equal(getattr(windows, name), getattr(same, name))
    assert windows.provenance == same.provenance
