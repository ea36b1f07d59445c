"""Files of old versions load and predict what they predicted; what a header holds comes back."""

import hashlib
import json
import platform
from pathlib import Path

import numpy as np
import pytest
import torch
from fits import plain_classifier

import sensorseq
from sensorseq import SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.prepare import prepare
from sensorseq.storage.model_file import read_model
from sensorseq.storage.prepared import read_windows

ARCHIVES = Path(__file__).parents[1] / "data" / "archives"
FILES = sorted(ARCHIVES.glob("*/*.safetensors"))


def load(path):
    kind = SensorLSTMRegressor if path.stem == "regressor" else SensorLSTMClassifier
    return kind.load(path, device="cpu")


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_of_an_old_version_predicts_what_it_predicted(path):
    expected = json.loads(path.with_suffix(".json").read_text("utf-8"))
    fitted = load(path)
    windows = np.array(expected["X"])
    if fitted.dtype == "float32":
        windows = windows.astype(np.float32)
    for method in {"predict", "predict_proba"} & set(expected):
        values = getattr(fitted, method)(windows)
        if values.dtype.kind == "f":
            np.testing.assert_allclose(values, expected[method], rtol=1e-4, atol=1e-6)
        else:
            assert values.tolist() == expected[method]
    assert len(fitted.history_) == expected["n_epochs"]
    assert fitted.fluctuation_.verdict == expected["verdict"]
    recordings = (fitted.preparation_ or {}).get("recordings", {})
    assert sorted(recordings) == expected["recordings"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_file_of_an_old_version_is_saved_anew_and_trained_on(path, tmp_path):
    fitted = load(path)
    windows = np.array(json.loads(path.with_suffix(".json").read_text("utf-8"))["X"])
    fitted.save(tmp_path / "model")
    again = type(fitted).load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict(windows), fitted.predict(windows))
    assert again.get_params() == fitted.get_params()


def test_every_folder_of_the_archives_says_where_it_came_from():
    assert len(FILES) >= 5
    for folder in {path.parent for path in FILES}:
        assert (folder / "README.md").is_file()
        assert sum(file.stat().st_size for file in folder.iterdir()) < 50_000


def test_preparation_history_digests_and_versions_come_back(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("ice", "mud"):
        (tmp_path / label).mkdir()
        for run in range(4):
            rows = rng.normal(size=(120, 2)) * (1 + (label == "mud"))
            text = "\n".join(f"{t / 50:.2f},{a:.4f},{b:.4f}" for t, (a, b) in enumerate(rows))
            (tmp_path / label / f"run_{run}.csv").write_text(f"time,left,right\n{text}\n")
    prepare(tmp_path, tmp_path / "windows.h5", window_s=0.5, sample_rate_hz=25.0)
    windows = read_windows(tmp_path / "windows.h5")
    fitted = plain_classifier(hidden_size=2, max_epochs=3, device="cpu", random_state=0)
    fitted.fit(windows).save(tmp_path / "model")

    _, description = read_model(tmp_path / "model")
    assert description["versions"] == {
        "sensorseq": sensorseq.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    again = SensorLSTMClassifier.load(tmp_path / "model")
    assert again.history_ == fitted.history_
    assert len(again.history_) == 3
    assert again.preparation_ == fitted.preparation_
    configuration = again.preparation_["configuration"]
    assert configuration["window"]["window_s"] == 0.5
    assert configuration["resample"]["sample_rate_hz"] == 25.0
    assert again.preparation_["channels"] == ["left", "right"]
    seen = np.unique(windows.recording_id[windows.split != "test"])
    assert set(again.preparation_["recordings"]) == set(seen)
    for recording_id, digests in again.preparation_["recordings"].items():
        content = (tmp_path / f"{recording_id}.csv").read_bytes()
        assert digests == [hashlib.sha256(content).hexdigest()]
