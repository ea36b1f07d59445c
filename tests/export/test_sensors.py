"""Exports of several sensors decide as the classifier does, whichever sensors a window has."""

import json

import numpy as np
import onnxruntime
import pytest
from commands import refused, succeed
from fits import plain_classifier, weigh_sensors

from sensorseq.errors import ArgumentError, InputError
from sensorseq.export.check import onnx_difference
from sensorseq.export.sensors import weight_table
from sensorseq.io.prepared import read_one_or_several
from sensorseq.prediction.fusion import Fusion, key_of
from sensorseq.sensor_windows import as_sensor_windows

SHAPES = {"fast one": (40, 2), "slow": (9, 1), "third": (12, 1)}
PATTERNS = np.array([[p >> s & 1 for s in range(3)] for p in range(8)], bool)
TOLERANCE = 1e-5


def windows(n=64, seed=0):
    """Each of the first two sensors knows one of the two bits of the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    X = {}
    for bit, (name, shape) in enumerate(SHAPES.items()):
        level = (y >> bit & 1)[:, None, None]
        X[name] = (level + 0.5 * rng.normal(size=(n, *shape))).astype(np.float32)
    return X, np.array(["a", "b", "c", "d"])[y], np.arange(n) // 4 % 8


def lacking(X, present):
    """Return windows that have these sensors (n, n_sensors)."""
    return {
        name: np.where(present[:, at, None, None], own, np.float32(np.nan))
        for at, (name, own) in enumerate(X.items())
    }


@pytest.fixture(scope="module", params=["expected", "error"])
def fitted(request):
    X, y, groups = windows()
    settings = {"max_epochs": 2, "hidden_size": 4, "random_state": 0}
    model = plain_classifier(**settings, missing=request.param)
    if request.param == "expected":
        X["slow"][::7] = np.nan
    model.fit(X, y, groups=groups)
    for at, one in enumerate(model.sensors_.values()):
        one.temperature_ = 0.7 + at  # no factor is that of another sensor
        for tensor in one.module_.state_dict().values():
            tensor.mul_(2.0)  # weights that are large enough to matter
    rows = np.random.default_rng(0).uniform(0.3, 1.5, PATTERNS.shape) * PATTERNS
    keys = list(map(key_of, PATTERNS))
    weights = dict(zip(keys, rows, strict=True))
    del weights["011"]  # as if never seen together in the fit
    weigh_sensors(model, weights, windows()[0])
    return model


def expected_of(model, X, present):
    """Return the probabilities of windows, and NaN for those that `predict` refuses."""
    probabilities = np.full((len(present), 4), np.nan)
    rows = present.all(axis=1) if model.missing == "error" else present.any(axis=1)
    probabilities[rows] = model.predict_proba({name: own[rows] for name, own in X.items()})
    return probabilities


def test_a_graph_of_several_sensors_gives_the_probabilities_of_every_pattern(fitted, tmp_path):
    path = tmp_path / "model.onnx"
    fitted.to_onnx(path, false_alarm_rate=0.2)
    present = np.concatenate([np.tile(PATTERNS, (4, 1)), np.ones((32, 3), bool)])
    X = lacking(windows(seed=1)[0], present)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    found, unknown = session.run(None, {f"X_{name}": own for name, own in X.items()})
    expected = expected_of(fitted, X, present)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    has_class = ~np.isnan(expected[:, 0])
    is_known = np.zeros(len(present), bool)
    decided = {name: own[has_class] for name, own in X.items()}
    is_known[has_class] = fitted.predict_or_abstain(decided, false_alarm_rate=0.2).answered
    assert 0 < is_known.sum() < has_class.sum()
    np.testing.assert_array_equal(unknown, ~is_known)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["sensors"]).keys() == SHAPES.keys()
    assert onnx_difference(fitted, path, as_sensor_windows(decided)) <= TOLERANCE


def test_the_table_has_the_weights_of_every_pattern():
    alone = {"100": [2.0, 0, 0], "010": [0, 1.0, 0], "001": [0, 0, 4.0], "110": [1.0, 3.0, 0]}
    fusion = Fusion(("a", "b", "c"), {key: np.array(row) for key, row in alone.items()})
    table = weight_table(fusion)
    assert table.shape == (8, 3)
    for number, pattern in enumerate(PATTERNS[1:], 1):
        np.testing.assert_array_equal(table[number], fusion.weights_of(pattern))


def test_what_a_graph_of_several_sensors_cannot_do_is_said(fitted, tmp_path):
    for arguments, message in (
        (
            {"n_timesteps": 40},
            r"n_timesteps=40 cannot hold for all sensors \(fast one, slow, third",
        ),
        ({"lengths": True}, "lengths=True is for a model of one sensor"),
    ):
        with pytest.raises(ArgumentError, match=message):
            fitted.to_onnx(tmp_path / "model.onnx", **arguments)
    with pytest.raises(InputError, match="of 11 sensors cannot be exported"):
        weight_table(Fusion(tuple("abcdefghijk"), {}))
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A prepared file of two sensors, of which one falls silent in a recording, and a model."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for label in range(3):
        (folder / "logs" / f"class_{label}").mkdir(parents=True)
        for number in range(4):
            for sensor, rate in {"imu": 20.0, "motor": 6.5}.items():
                t = np.arange(0, 9 if (sensor, label, number) == ("motor", 1, 2) else 20, 1 / rate)
                rows = np.column_stack([t, np.sin((1 + label) * t), rng.normal(size=len(t))])
                path = folder / "logs" / f"class_{label}" / f"{sensor}_{number}.csv"
                head = f"time,{sensor}_a,{sensor}_b"
                np.savetxt(path, rows, "%.9g", ",", header=head, comments="")
    how = ["--files", "imu_*.csv", "--files", "motor_*.csv", "--pair", "{sensor}_{recording}.*"]
    how += ["--window-s", 2, "--hop-s", 1, "--native-rates", "--missing", "expected", "-q"]
    prepared, model = folder / "both.h5", folder / "model.safetensors"
    succeed("prepare", folder / "logs", "-o", prepared, *how)
    plain_classifier(max_epochs=1, hidden_size=4, missing="expected").fit(prepared).save(model)
    return prepared, model


def test_the_command_checks_a_graph_on_a_file_of_several_sensors(files, tmp_path):
    prepared, model = files
    path = tmp_path / "model.onnx"
    how = ["--check", prepared, "--false-alarm-rate", 0.3]
    found = json.loads(succeed("export", model, "-o", path, *how, "--json"))
    assert found["n_windows"] == len(read_one_or_several(prepared))
    assert found["largest_difference"] <= TOLERANCE
    said = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    sensors = json.loads(said["sensors"])
    assert sensors["motor"]["channels"] == ["motor_a", "motor_b"]
    assert [sensors[name]["sample_rate_hz"] for name in sensors] == pytest.approx([20, 6.5])
    assert {"n_timesteps", "window_s", "preparation"} <= sensors["imu"].keys()
    other = tmp_path / "other.onnx"
    assert "one sensor at a time" in refused(3, "export", model, "-o", other, "--smooth", "lag")
    assert "--timesteps 5 cannot hold for all" in refused(
        2, "export", model, "-o", other, "--timesteps", 5
    )
    assert not other.exists()
