import numpy as np
import pytest
from fits import plain_classifier

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError
from sensorseq.evaluation.predict import predict_recordings
from sensorseq.options import ReadOptions

RATE = 20.0


def signal(label, number):
    """Return a sine with the frequency of its class, and the offset and gain of its recording."""
    rng = np.random.default_rng(number)
    t = np.arange(240) / RATE
    wave = np.sin(2 * np.pi * (0.5 if label == "slow" else 2.0) * t + rng.uniform(0, 6))
    return t, (10 * number + (1 + number) * (wave + 0.1 * rng.normal(size=t.size)))


@pytest.fixture(scope="module")
def recordings():
    return [
        Recording(
            signal(label, i)[1][:, None], signal(label, i)[0], ["a"], f"{label}_{i}", label=label
        )
        for label in ("slow", "fast")
        for i in range(6)
    ]


@pytest.fixture(scope="module")
def model(recordings, tmp_path_factory):
    windows = PreparePipeline(window_s=1.0, normalize="recording").prepare(recordings)
    classifier = plain_classifier(
        hidden_size=8, max_epochs=40, learning_rate=0.03, device="cpu", random_state=0
    )
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    classifier.fit(windows).save(path)
    return SensorLSTMClassifier.load(path)


def write(folder, name, t, values):
    folder.mkdir(exist_ok=True)
    rows = [f"{time!r},{value!r}" for time, value in zip(t.tolist(), values.tolist(), strict=True)]
    (folder / f"{name}.csv").write_text("\n".join(["time,a", *rows]) + "\n")
    return folder / f"{name}.csv"


def test_a_saved_model_normalizes_a_new_recording_whatever_its_offset_and_gain(model, tmp_path):
    t, values = signal("fast", 40)
    for wrong, error in (
        ({"options": ReadOptions(files=["a*"])}, ArgumentError),
        ({"time_column": "t"}, TypeError),
    ):
        with pytest.raises(error, match=r"only time_column|options=ReadOptions"):
            predict_recordings(model, [tmp_path / "a"], **wrong)
    (predicted,) = predict_recordings(model, [write(tmp_path / "a", "fresh", t, values)])
    (moved,) = predict_recordings(model, [write(tmp_path / "b", "moved", t, 7 * values - 300)])
    assert [predicted.label, moved.label] == ["fast", "fast"]
    np.testing.assert_allclose(moved.probability, predicted.probability, atol=1e-3)


def test_windows_that_were_prepared_differently_are_refused(model, recordings):
    plain = PreparePipeline(window_s=1.0).prepare(recordings)
    with pytest.raises(InputError, match="X and the training windows differ in normalize"):
        model.predict(plain)


@pytest.mark.parametrize(
    "use",
    [
        lambda model, folder: model.stream(),
        lambda model, folder: model.to_c(folder),
        lambda model, folder: model.to_onnx(folder / "model.onnx"),
    ],
    ids=["stream", "c", "onnx"],
)
def test_uses_without_whole_recordings_are_refused(model, tmp_path, use):
    with pytest.raises(InputError, match=r"'recording' needs complete recordings, which "):
        use(model, tmp_path)
