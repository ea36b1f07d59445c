"""The facts about a model's origin are restored from its file."""

import hashlib
import platform

import numpy as np
import pytest
import torch
from fits import plain_classifier

import sensorseq
from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ModelFileError
from sensorseq.io.model_file import read_model, write_model
from sensorseq.io.prepared import read_windows
from sensorseq.prediction.loading import load
from sensorseq.prepare import prepare


def test_preparation_history_digests_and_versions_are_restored(tmp_path):
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


def test_an_argument_that_is_gone_is_ignored_and_a_value_that_is_gone_is_refused(tmp_path):
    path, rng = tmp_path / "model", np.random.default_rng(0)
    X, y = rng.normal(size=(20, 12, 1)), np.arange(20) % 2
    fitted = plain_classifier(hidden_size=2, max_epochs=1).fit(X, y)
    fitted.save(path)
    arrays, description = read_model(path)
    for name, value in (("l1", 0.01), ("loss", "mse")):
        parameters = {**description["parameters"], name: value}
        write_model(path, arrays, {**description, "parameters": parameters})
        assert load(path).predict_proba(X).tobytes() == fitted.predict_proba(X).tobytes()
        if name == "loss":
            with pytest.raises(ModelFileError, match="loss='mse' is not known"):
                SensorLSTMClassifier.load(path)
            continue
        with pytest.warns(UserWarning, match=r"l1=0\.01, .* fit will not use it"):
            loaded = SensorLSTMClassifier.load(path)
        assert loaded.predict_proba(X).tobytes() == fitted.predict_proba(X).tobytes()
