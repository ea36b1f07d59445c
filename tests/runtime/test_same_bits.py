"""Every model predicts the same bits in the toolkit and in the runtime."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.recording import Channel

pytestmark = pytest.mark.trains
SHORT = {"max_epochs": 1, "random_state": 0, "device": "cpu", "refit": None}
STEPS = [
    [],
    [{"kind": "band_pass", "high_hz": 6.0, "order": 2, "phase": "causal"}],
    [{"kind": "derivative", "phase": "causal"}, {"kind": "product", "left": "cur", "right": "vel"}],
    [{"kind": "moving", "statistic": "rms", "window_s": 0.4, "phase": "causal"}],
]


def recordings(rate_hz=20.0):
    rng = np.random.default_rng(0)
    t = np.arange(int(12 * rate_hz)) / rate_hz
    for i in range(6):
        x = np.sin(t * (2 + 4 * (i % 2)))[:, None] * [1, 2] + 0.3 * rng.normal(size=(len(t), 2))
        channels = (Channel("cur", "A"), Channel("vel", "V"))
        yield Recording(x, t + i, channels, f"r{i}", f"r{i}", ["calm", "rough"][i % 2])


def same(ours, theirs):
    for array, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(array, expected)


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(
    st.sampled_from(STEPS),
    st.fixed_dictionaries(
        {
            "hidden_size": st.sampled_from([3, 16]),
            "num_layers": st.sampled_from([1, 2]),
            "bidirectional": st.booleans(),
            "pooling": st.sampled_from(["last", "mean", "max", "meanmax"]),
            "head_norm": st.sampled_from(["none", "batch", "layer"]),
            "dtype": st.sampled_from(["float32", "float64"]),
            "scale": st.sampled_from(["standard", "robust", None]),
            "n_models": st.sampled_from([1, 2]),
            "max_timesteps": st.sampled_from([None, 12]),
            "patch": st.sampled_from([None, 3]),
            "features": st.sampled_from([None, "summary", "rocket", "boosting", "auto"]),
        }
    ),
)
def test_a_classifier(runtime, tmp_path_factory, steps, arguments):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    pipeline = PreparePipeline(window_s=1.0, hop_s=0.5, split=None, steps=steps)
    windows = pipeline.prepare([*recordings()])
    fitted = SensorLSTMClassifier(**SHORT, **arguments).fit(windows)
    fitted.save(path)
    loaded = runtime.load(path)
    X = np.asarray(windows.X)
    lengths = np.random.default_rng(0).integers(1, X.shape[1] + 1, len(X))
    same(
        [fitted.predict_proba(X), fitted.predict_proba(X, lengths), fitted.outside(3 * X).reasons],
        [loaded.predict_proba(X), loaded.predict_proba(X, lengths), loaded.outside(3 * X).reasons],
    )
    at = {"start_s": np.arange(len(X)) / 2, "window_s": 1.0}
    same([fitted.timeline(X, **at).probabilities], [loaded.timeline(X, **at).probabilities])
    names = np.arange(len(X)) // 9
    assert [*map(tuple, fitted.predict_recordings(X, names))] == [
        *map(tuple, loaded.predict_recordings(X, names))
    ]
    with pytest.raises(runtime.errors.InputError, match="path"):
        loaded.predict("w.h5")
    *_, new = recordings(26.0)
    recording = runtime.Recording(new.values, new.timestamps_s, ("cur", "vel"), "new")
    if steps and steps[-1]["kind"] == "product":  # needs units
        recording = runtime.Recording(
            new.values,
            new.timestamps_s,
            (runtime.Channel("cur", "A"), runtime.Channel("vel", "V")),
            "new",
        )
    same(
        [fitted.timeline(new).probabilities, fitted.timeline(new).start_s],
        [loaded.timeline(recording).probabilities, loaded.timeline(recording).start_s],
    )
    streams = fitted.stream(26.0), loaded.stream(26.0)
    decided = [
        [decision.probabilities for decision in [*stream.push(new.values), *stream.flush()]]
        for stream in streams
    ]
    assert decided[0] == decided[1]
    assert len(decided[0]) > 5
