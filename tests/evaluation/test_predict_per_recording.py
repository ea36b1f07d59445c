from dataclasses import replace

import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import PreparePipeline, Recording
from sensorseq.evaluation.predict import predict_recordings
from sensorseq.preprocessing.scale.keyed import KeyedScaler

RATE = 20.0
INPUT = {"files": None, "pair": None, "manifest": None, "time_column": None, "channels": None}


def signal(label, number):
    """A sine of the class's frequency, with an offset and a gain of the recording's own."""
    rng = np.random.default_rng(number)
    t = np.arange(240) / RATE
    wave = np.sin(2 * np.pi * (0.5 if label == "slow" else 2.0) * t + rng.uniform(0, 6))
    return t, (10 * number + (1 + number) * (wave + 0.1 * rng.normal(size=t.size)))


@pytest.fixture(scope="module")
def model():
    recordings = [
        Recording(
            signal(label, i)[1][:, None], signal(label, i)[0], ["a"], f"{label}_{i}", label=label
        )
        for label in ("slow", "fast")
        for i in range(6)
    ]
    windows = PreparePipeline(window_s=1.0, sample_rate_hz=RATE).prepare(recordings)
    configuration = {
        **windows.provenance["configuration"],
        "input": INPUT,
        "scale": {"kind": "standard", "per": "recording"},
    }
    windows = replace(windows, provenance={**windows.provenance, "configuration": configuration})
    classifier = plain_classifier(
        hidden_size=8, max_epochs=40, learning_rate=0.03, device="cpu", random_state=0
    )
    return classifier.fit(windows)


def write(folder, name, t, values):
    folder.mkdir(exist_ok=True)
    rows = [f"{time!r},{value!r}" for time, value in zip(t.tolist(), values.tolist(), strict=True)]
    (folder / f"{name}.csv").write_text("\n".join(["time,a", *rows]) + "\n")
    return folder / f"{name}.csv"


def test_a_new_recording_is_scaled_by_itself_whatever_it_is_called(model, tmp_path):
    assert isinstance(model.scaler_, KeyedScaler)
    known = next(iter(model.scaler_.scalers))
    t, values = signal("fast", 40)
    predictions = [
        predict_recordings(model, [write(tmp_path / name, name, t, values)])[0]
        for name in ("fresh", known)
    ]
    assert [p.label for p in predictions] == ["fast", "fast"]
    np.testing.assert_array_equal(predictions[0].probability, predictions[1].probability)
    assert [p.recording_id for p in predictions] == ["fresh", known]
    # and offset and gain are taken out of it
    (moved,) = predict_recordings(model, [write(tmp_path / "m", "moved", t, 7 * values - 300)])
    np.testing.assert_allclose(moved.probability, predictions[0].probability, atol=1e-3)
