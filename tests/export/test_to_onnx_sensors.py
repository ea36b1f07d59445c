"""Exports of several sensors give the classifier's probabilities, even if sensors are missing."""

import json
from contextlib import suppress

import numpy as np
import onnxruntime
import pytest
from c_models import CSensors
from commands import refused, succeed
from fits import fused_classifier, weigh_sensors, with_int8

from sensorseq import Recording, SensorFusionClassifier, SensorWindows, WindowSet
from sensorseq.errors import ArgumentError, InputError
from sensorseq.export.to_onnx import onnx_difference
from sensorseq.io.prepared import read_one_or_several
from sensorseq.prediction.members.sensors import SensorSum, pattern_key
from sensorseq.recording import Channel
from sensorseq.sensor_windows import as_sensor_windows

SHAPES = {"fast one": (40, 2), "slow": (9, 1), "third": (12, 1)}
PATTERNS = np.array([[p >> s & 1 for s in range(3)] for p in range(8)], bool)
RATES_HZ = {"imu": 20.0, "motor": 5.0}
TOLERANCE = 1e-5


def windows(n=64, seed=0):
    """Return windows in which each of the first two sensors depends on one bit of the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    X = {}
    for bit, (name, shape) in enumerate(SHAPES.items()):
        level = (y >> bit & 1)[:, None, None]
        X[name] = (level + 0.5 * rng.normal(size=(n, *shape))).astype(np.float32)
    return X, np.array(["a", "b", "c", "d"])[y], np.arange(n) // 4 % 8


def lacking(X, present):
    """Return windows that have only the `present` sensors (n, n_sensors)."""
    return {
        name: np.where(present[:, at, None, None], windows, np.float32(np.nan))
        for at, (name, windows) in enumerate(X.items())
    }


@pytest.fixture(scope="module", params=["expected", "error"])
def fitted(request):
    X, y, groups = windows()
    settings = {"max_epochs": 2, "hidden_size": 4, "random_state": 0}
    model = fused_classifier(**settings, missing=request.param)
    if request.param == "expected":
        X["slow"][::7] = np.nan
    model.fit(X, y, groups=groups)
    for at, estimator in enumerate(model.sensors_.values()):
        estimator.temperature_ = 0.7 + at  # every sensor has a different factor
        for tensor in estimator.module_.state_dict().values():
            tensor.mul_(2.0)  # make weights large enough to matter
    rows = np.random.default_rng(0).uniform(0.3, 1.5, PATTERNS.shape) * PATTERNS
    keys = list(map(pattern_key, PATTERNS))
    weights = dict(zip(keys, rows, strict=True))
    del weights["011"]  # as if these sensors had never occurred together in the fit
    weigh_sensors(model, weights)
    return model


def expected_of(model, X, present):
    """Return the probabilities of windows, and NaN for windows that `predict` refuses."""
    probabilities = np.full((len(present), 4), np.nan)
    rows = present.all(axis=1) if model.model_.missing == "error" else present.any(axis=1)
    probabilities[rows] = model.predict_proba({name: windows[rows] for name, windows in X.items()})
    return probabilities


def test_a_graph_of_several_sensors_gives_the_probabilities_of_every_pattern(fitted, tmp_path):
    path = tmp_path / "model.onnx"
    fitted.to_onnx(path)
    present = np.concatenate([np.tile(PATTERNS, (4, 1)), np.ones((32, 3), bool)])
    X = lacking(windows(seed=1)[0], present)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {f"X_{name}": windows for name, windows in X.items()})
    expected = expected_of(fitted, X, present)
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    has_class = ~np.isnan(expected[:, 0])
    decided = {name: windows[has_class] for name, windows in X.items()}
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["sensors"]).keys() == SHAPES.keys()
    assert onnx_difference(fitted, path, as_sensor_windows(decided)) <= TOLERANCE


@pytest.mark.parametrize("missing", ["expected", "error"])
def test_a_graph_of_several_sensors_bridges_and_judges_windows_as_predict_does(tmp_path, missing):
    X, y, groups = windows()
    X = {"a": np.concatenate([X["fast one"], X["fast one"][:, :, ::-1]], axis=2), "b": X["slow"]}
    model = fused_classifier(max_epochs=2, hidden_size=4, random_state=0, missing=missing)
    model.fit(X, y, groups=groups)
    a, b = ({name: x[:10].copy() for name, x in X.items()}[name] for name in "ab")
    a[1, 3:8, 1] = a[2, :, 0] = a[3, :, :3] = a[4, :, :3] = a[5] = a[6] = np.nan
    b[4] = b[6] = b[7, 2:4] = np.nan
    a[8, 0, 0] = b[9, 1] = np.inf
    expected = np.full((10, 4), np.nan)
    for at, row in enumerate(expected):
        with suppress(InputError):
            row[:] = model.predict_proba({"a": a[at : at + 1], "b": b[at : at + 1]})[0]
    is_refused = np.isnan(expected[:, 0])
    assert np.flatnonzero(is_refused).tolist() == (
        [6, 8, 9] if missing == "expected" else [*range(1, 10)]
    )
    model.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"X_a": a, "X_b": b})
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


def test_c_of_several_sensors_gives_the_probabilities_of_every_pattern(fitted, tmp_path):
    weights = "int8" if fitted.model_.missing == "error" else "float32"
    export = fitted.to_c(tmp_path, weights=weights)
    model = with_int8(fitted) if weights == "int8" else fitted
    compiled = CSensors(export, 4)
    present = np.repeat(PATTERNS, 3, axis=0)
    X = windows(len(present), seed=1)[0]
    by_sensor = {name: [compiled.stream(name, window)[0] for window in X[name]] for name in X}
    expected = expected_of(model, lacking(X, present), present)
    for at, row in enumerate(expected):
        parts = [by_sensor[name][at] if present[at, s] else None for s, name in enumerate(X)]
        found = compiled.join(parts)
        np.testing.assert_allclose(found, -1 if np.isnan(row[0]) else row, atol=TOLERANCE, rtol=0)
    full = [by_sensor[name][0] for name in X]
    assert compiled.join([np.float32([np.nan, 0, 0, 1]), *full[1:]]) == -1
    assert np.isfinite(compiled.join([np.float32([0, 0, 0, 1]), *full[1:]])).all()
    assert export.ram_bytes == sum(part.ram_bytes for part in export.sensors.values())
    assert "fast one " in str(export)


def test_a_sensor_whose_windows_differ_in_length_has_an_input_for_lengths(tmp_path):
    X, y, groups = windows()
    lengths = np.random.default_rng(0).integers(5, 41, len(y))
    long = X["fast one"] * (np.arange(40) < lengths[:, None])[:, :, None]
    sets = {"fast": WindowSet(long, lengths=lengths), "slow": WindowSet(X["slow"])}
    model = fused_classifier(max_epochs=2, hidden_size=4, missing="expected").fit(
        sets, y, groups=groups
    )
    model.to_onnx(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert [declared.name for declared in session.get_inputs()] == [
        "X_fast",
        "lengths_fast",
        "X_slow",
    ]
    facts = json.loads(session.get_modelmeta().custom_metadata_map["sensors"])
    assert [facts[name]["lengths"] for name in sets] == [True, False]
    for some_sets in (sets, {"slow": sets["slow"]}):
        difference = onnx_difference(model, tmp_path / "model.onnx", SensorWindows(some_sets))
        assert difference <= TOLERANCE
    model.to_onnx(tmp_path / "model.onnx", lengths=False)
    with pytest.raises(ArgumentError, match="no input lengths_fast; export the model with"):
        onnx_difference(model, tmp_path / "model.onnx", SensorWindows(sets))


def test_the_table_has_the_weights_of_every_pattern():
    alone = {"100": [2.0, 0, 0], "010": [0, 1.0, 0], "001": [0, 0, 4.0], "110": [1.0, 3.0, 0]}
    rows = {key: np.array(row) for key, row in alone.items()}
    joint = SensorSum({}, rows, np.zeros(2))
    table = joint.weight_table()
    assert table.shape == (8, 3)
    for number, pattern in enumerate(PATTERNS[1:], 1):
        np.testing.assert_array_equal(table[number], joint.weights_of(pattern))


def test_what_a_graph_of_several_sensors_cannot_do_is_reported(fitted, tmp_path):
    with pytest.raises(ArgumentError, match="prefix='a b' is not a C identifier"):
        fitted.to_c(tmp_path / "c", prefix="a b")
    with pytest.raises(InputError, match="of 11 sensors cannot be exported"):
        SensorSum({}, {"1" * 11: np.ones(11)}, np.zeros(2)).weight_table()
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a prepared file of two sensors (one ends early in one recording), and a model."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for label in range(3):
        (folder / "logs" / f"class_{label}").mkdir(parents=True)
        for number in range(4):
            for sensor, rate in RATES_HZ.items():
                end_s = 9 if (sensor, label, number) == ("motor", 1, 2) else 20
                t = np.arange(0, end_s, 1 / rate)
                rows = np.column_stack([t, np.sin((1 + label) * t), rng.normal(size=len(t))])
                path = folder / "logs" / f"class_{label}" / f"{sensor}_{number}.csv"
                head = f"time,{sensor}_a,{sensor}_b"
                np.savetxt(path, rows, "%.9g", ",", header=head, comments="")
    how = ["--files", "imu_*.csv", "--files", "motor_*.csv", "--pair", "{sensor}_{recording}.*"]
    how += ["--window-s", 2, "--hop-s", 1, "--native-rates", "--missing", "expected", "-q"]
    prepared, model = folder / "both.h5", folder / "model.safetensors"
    succeed("prepare", folder / "logs", "-o", prepared, *how)
    fused_classifier(max_epochs=1, hidden_size=4, missing="expected").fit(prepared).save(model)
    return prepared, model


def test_the_command_checks_a_graph_on_a_file_of_several_sensors(files, tmp_path):
    prepared, model = files
    path = tmp_path / "model.onnx"
    found = json.loads(succeed("export", model, "-o", path, "--check", prepared, "--json"))
    assert found["n_windows"] == len(read_one_or_several(prepared))
    assert found["largest_difference"] <= TOLERANCE
    metadata = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map
    sensors = json.loads(metadata["sensors"])
    assert sensors["motor"]["channels"] == ["motor_a", "motor_b"]
    assert [sensors[name]["sample_rate_hz"] for name in sensors] == pytest.approx([20, 5])
    assert {"n_timesteps", "window_s", "preparation"} <= sensors["imu"].keys()
    other = tmp_path / "other.onnx"
    for option, value, more in (
        ("--timesteps", 5, []),
        ("--hop", 5, ["--format", "c"]),
        ("--smooth", "lag", ["--format", "c"]),
    ):
        command = "export", model, "-o", other, option, value, *more
        assert f"{option} {value} cannot apply to all sensors" in refused(2, *command)
        assert not other.exists()


@pytest.mark.parametrize("other", ["A B", "a b_model"])
def test_sensors_with_the_same_name_in_c_are_refused(tmp_path, other):
    X, y, _ = windows()
    model = fused_classifier(max_epochs=1, hidden_size=2).fit(
        {"a b": X["slow"], other: X["third"]}, y
    )
    with pytest.raises(ArgumentError, match=f"'a b' and '{other}' would both have the name"):
        model.to_c(tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_command_writes_c_with_the_decisions_of_the_timeline(files, tmp_path):
    prepared, path = files
    how = ["--format", "c", "--prefix", "robot", "--check", prepared, "--json"]
    printed = json.loads(succeed("export", path, "-o", tmp_path / "c", *how))
    assert {file.name for file in (tmp_path / "c").iterdir()} == {
        f"robot_{name}model.{end}" for name in ("", "imu_", "motor_") for end in "ch"
    }
    model = SensorFusionClassifier.load(path)
    part = read_one_or_several(prepared).part("validation")
    assert printed["accuracy"]["rounded"] == model.score(part)
    export = model.to_c(tmp_path / "c")
    assert "a multiple of the hop (1 s)" in export.header.read_text()
    rng, recordings, probabilities = np.random.default_rng(1), {}, []
    compiled = CSensors(export, 3)
    for sensor, rate in RATES_HZ.items():
        t = 0.53 + np.arange(0, 12, 1 / rate) + 0.3 / rate
        values = np.column_stack([np.sin(2 * t), rng.normal(size=len(t))])
        channels = tuple(Channel(f"{sensor}_{name}") for name in "ab")
        recordings[sensor] = Recording(values, t, channels, "new")
        probabilities.append(compiled.stream(sensor, values[t >= 1.0]))
    expected = model.timeline(recordings, smooth="none")
    rows = [compiled.join(both) for both in zip(*probabilities, strict=True)]
    np.testing.assert_allclose(expected.start_s[:2], [1.0, 2.0], atol=0.1)
    np.testing.assert_allclose(rows, expected.probabilities, atol=TOLERANCE, rtol=0)
