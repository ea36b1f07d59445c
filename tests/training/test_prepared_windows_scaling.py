from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from fits import small_classifier

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError
from sensorseq.io.prepared import write_windows
from sensorseq.preprocessing.scale import Scaler, fit_scaler, rated_scaler
from sensorseq.windows import WindowSet

small = partial(small_classifier, hidden_size=6, max_epochs=6, learning_rate=0.03)
N_RECORDINGS = 8


def configured(windows, **scale):
    """Return the windows with a configuration in the form that a pipeline writes."""
    return replace(windows, provenance={"configuration": {"scale": scale}})


@pytest.fixture(scope="module")
def windows():
    """Two classes that differ in frequency; each recording has its own offset and gain."""
    rng = np.random.default_rng(0)
    recording = np.repeat(np.arange(N_RECORDINGS), 6)
    t = np.arange(30)
    frequency = np.where(recording % 2, 0.9, 0.3)
    X = np.sin(frequency[:, None] * t + rng.uniform(0, 6, len(recording))[:, None])
    X = X * (1 + 5 * recording[:, None]) + 40 * recording[:, None]
    X = np.stack([X, rng.normal(size=X.shape)], axis=2)
    names = np.array([f"run {i}" for i in range(N_RECORDINGS)])
    return WindowSet(
        X.astype(np.float32),
        y=np.where(recording % 2, "fast", "slow"),
        recording_id=names[recording],
        groups=np.array(["x", "y"])[recording // 4],
        split=np.where(recording < 6, "train", "validation"),
        channels=("current", "gyro"),
    )


def without_groups(windows):
    return replace(windows, groups=windows.recording_id)


def test_windows_prepared_for_a_different_kind_are_scaled_as_the_estimator_requests(windows):
    prepared = configured(without_groups(windows), kind="robust")
    with pytest.warns(UserWarning, match="prepared with scale='robust'"):
        assert isinstance(small().fit(prepared).scaler_, Scaler)
    assert small(scale=None).fit(prepared).scaler_ is None


def test_physical_windows_provide_their_rated_values(windows):
    prepared = configured(
        without_groups(windows), kind="physical", rated={"gyro": 2.0, "current": 20.0}
    )
    classifier = small(scale="physical", max_timesteps=20).fit(prepared)
    np.testing.assert_array_equal(classifier.scaler_.channel_scale, [20.0, 2.0])
    np.testing.assert_array_equal(classifier.scaler_.channel_center, [0.0, 0.0])
    scaled = prepared.X / np.array([20.0, 2.0], np.float32)
    plain = small(scale=None, max_timesteps=20).fit(replace(without_groups(windows), X=scaled))
    expected = classifier.predict_proba(prepared.X)
    np.testing.assert_allclose(plain.predict_proba(scaled), expected, atol=1e-5)


def test_physical_needs_windows_that_provide_rated_values(windows):
    for X, y in ((windows.X, windows.y), (without_groups(windows), None)):
        with pytest.raises(ArgumentError, match="needs the rated value of each channel"):
            small(scale="physical").fit(X, y)


@pytest.mark.parametrize("scale", ["physical", "robust"])
def test_the_scaling_survives_the_prepared_file_and_the_model_file(windows, scale, tmp_path):
    prepared = without_groups(windows)
    train = prepared.part("train")
    if scale == "physical":
        prepared = configured(prepared, kind=scale, rated={"current": 20.0, "gyro": 2.0})
        stored = rated_scaler({"current": 20.0, "gyro": 2.0}, 2, prepared.channels)
    else:
        prepared = configured(prepared, kind=scale)
        stored = fit_scaler(train.X, train.lengths, scale)
    path = tmp_path / "windows.h5"
    write_windows(path, prepared, scaler=stored.to_dict())
    by_file, by_set = small(scale=scale).fit(path), small(scale=scale).fit(prepared)
    expected = by_set.predict_proba(prepared)
    np.testing.assert_array_equal(by_file.predict_proba(prepared), expected)
    by_file.save(tmp_path / "model.safetensors")
    loaded = SensorLSTMClassifier.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(loaded.predict_proba(path), expected)
    assert loaded.scaler_.kind == scale


def test_cropped_windows_are_not_scaled_by_the_statistics_of_whole_windows(windows, tmp_path):
    prepared = without_groups(windows)
    prepared = replace(prepared, X=prepared.X * np.linspace(1, 9, 30, dtype=np.float32)[:, None])
    train = prepared.part("train")
    path = tmp_path / "windows.h5"
    write_windows(path, prepared, scaler=fit_scaler(train.X).to_dict())
    whole, cropped = small().fit(path), small(max_timesteps=10).fit(path)
    for classifier, X in ((whole, train.X), (cropped, train.X[:, :10])):
        np.testing.assert_array_equal(classifier.scaler_.channel_scale, fit_scaler(X).channel_scale)
    rated = rated_scaler([20.0, 2.0], 2)
    write_windows(path, prepared, scaler=rated.to_dict())  # rated values do not depend on timesteps
    cropped = small(scale="physical", max_timesteps=10).fit(path)
    np.testing.assert_array_equal(cropped.scaler_.channel_scale, [20.0, 2.0])
