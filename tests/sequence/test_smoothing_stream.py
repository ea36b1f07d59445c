"""A smoothing stream is bit-identical to the timeline of the complete recording."""

import dataclasses

import numpy as np
import pytest
from fits import class_shares_of, small_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.recording import Channel, LabelSpan
from sensorseq.sequence.smoothing import Smoothing


def drive(name, seed=0, n=1600):
    """Return a recording at 20 Hz whose class alternates every 20 s; rough ground vibrates more."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / 20
    is_rough = (t // 20).astype(int) % 2
    values = rng.normal(size=(n, 1)) * (1 + 0.7 * is_rough[:, None])
    spans = tuple(
        LabelSpan(20.0 * i, 20.0 * (i + 1), ("calm", "rough")[i % 2]) for i in range(n // 400)
    )
    return Recording(values, t, (Channel("cur", "A"),), name, group=name, label_spans=spans)


@pytest.fixture(scope="module")
def fitted():
    pipeline = PreparePipeline(sample_rate_hz=20, window_s=2, hop_s=0.5, split=None)
    windows = pipeline.prepare([drive(f"drive {i}", i) for i in range(4)])
    return small_classifier(hidden_size=4, max_epochs=2).fit(windows)


@pytest.mark.parametrize(
    ("smooth", "lag", "mean_dwell_s"), [("filter", None, None), ("lag", 0, 15.0), ("lag", 3, None)]
)
def test_a_stream_is_bit_identical_to_the_timeline(fitted, smooth, lag, mean_dwell_s):
    recording = dataclasses.replace(drive("new", 9, 800), label_spans=())
    arguments = {"smooth": Smoothing(smooth, lag, mean_dwell_s)}
    assert class_shares_of(fitted).sum() == pytest.approx(1)
    made = fitted.timeline(recording, **arguments)
    live = fitted.stream(**arguments)
    decisions = [d for at in range(0, 800, 7) for d in live.push(recording.values[at : at + 7])]
    decisions += live.flush()
    np.testing.assert_array_equal([d.probabilities for d in decisions], made.probabilities)
    assert [d.label for d in decisions] == made.labels.tolist()
