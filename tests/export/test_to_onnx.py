"""An exported graph computes the same probabilities as its model."""

import json
from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from commands import succeed
from fits import on_features, plain_classifier, use_members
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError
from sensorseq.export.to_onnx import onnx_difference
from sensorseq.recording import Channel

pytestmark = pytest.mark.usefixtures("few_features")

LABELS = np.array(["ice", "mud", "sand"])
UNITS = np.float32([1.0, 40.0, 0.01])  # scales of the channels, over a wide range


def windows(n, n_timesteps=24, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_timesteps, 3)).astype(np.float32)
    y = np.arange(n) % 3
    X[:, :, 0] += 0.5 * y[:, None]
    X = np.cumsum(X, axis=1) * UNITS + 5 * UNITS
    return X.astype(np.float32), LABELS[y]


def fitted(seed=0, n_timesteps=24, lengths=None, **arguments):
    """Return an estimator after one epoch, with weights that are large enough to matter."""
    X, y = windows(30, n_timesteps)
    arguments = {"max_epochs": 1, "early_stopping": False, "device": "cpu"} | arguments
    clf = plain_classifier(random_state=seed, hidden_size=5, **arguments).fit(X, y, lengths=lengths)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in clf.modules_:
            for tensor in module.state_dict().values():
                if tensor.is_floating_point():
                    tensor += 0.5 * torch.rand(tensor.shape, generator=generator)
    return clf


OPTIONS = st.fixed_dictionaries(
    {
        "pooling": st.sampled_from(["last", "mean", "max", "meanmax"]),
        "bidirectional": st.booleans(),
        "num_layers": st.integers(1, 3),
        "head_norm": st.sampled_from(["none", "batch", "layer"]),
        "scale": st.sampled_from([None, "standard", "robust"]),
        "n_models": st.integers(1, 2),
        "dtype": st.sampled_from(["float32", "float64"]),
        "max_timesteps": st.sampled_from([None, 10]),
        "crop": st.sampled_from(["head", "tail", "centre", "random"]),
    }
)
LENGTHS = np.array([24, 1, 2, 9, 11, 17, 24])


@settings(deadline=None)
@given(
    OPTIONS,
    st.floats(0.3, 3.0),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["float32", "float64"]),
)
def test_probabilities_equal_those_of_the_model(
    tmp_path_factory, options, temperature, has_lengths, is_fixed, dtype
):
    clf = fitted(**options)
    clf.temperature_ = temperature
    path = tmp_path_factory.mktemp("export") / "model.onnx"
    clf.to_onnx(path, n_timesteps=24 if is_fixed else None, lengths=has_lengths, dtype=dtype)
    X, _ = windows(7, seed=1)
    assert onnx_difference(clf, path, X, LENGTHS if has_lengths else None) <= 1e-5
    if not is_fixed:
        assert onnx_difference(clf, path, X[:, :9], None) <= 1e-5


def featured(X, y, lengths=None, **arguments):
    settings = {"max_epochs": 1, "early_stopping": False, "device": "cpu", "hidden_size": 4}
    clf = SensorLSTMClassifier(**settings | {"random_state": 0} | arguments)
    clf.fit(X, y, lengths=lengths)
    use_members(clf, 1.0)  # as if the fit had also chosen the LSTM
    return clf


@pytest.mark.parametrize(
    ("features", "has_lengths"),
    [
        ("rocket", False),
        ("hydra", False),
        ("hydra", True),
        ("summary", False),
        (["rocket", "summary", "boosting"], True),
    ],
)
def test_features_are_in_the_graph(tmp_path, features, has_lengths):
    X, y = windows(60)
    lengths = None
    if has_lengths:
        lengths = np.random.default_rng(0).integers(2, 25, 60)
        lengths[0] = 24
    clf = featured(X, y, lengths, features=features)
    assert on_features(clf)
    clf.to_onnx(tmp_path / "model.onnx", lengths=has_lengths)
    other, _ = windows(7, seed=1)
    for windows_, valid in ((X, lengths), (other, LENGTHS if has_lengths else None)):
        assert onnx_difference(clf, tmp_path / "model.onnx", windows_, valid) <= 1e-5
    longer, _ = windows(4, 40, seed=2)
    assert onnx_difference(clf, tmp_path / "model.onnx", longer) <= 1e-5


def test_a_constant_channel_and_coarse_values_stay_on_their_side_of_thresholds(tmp_path):
    X, y = windows(60)
    X = np.round(2 * X / UNITS) / 2
    X[:, :, 1] = 0.3
    clf = featured(X, y, features="auto", scale=None)
    clf.to_onnx(tmp_path / "model.onnx")
    assert onnx_difference(clf, tmp_path / "model.onnx", X) <= 1e-5
    assert onnx_difference(clf, tmp_path / "model.onnx", X[:, ::-1]) <= 1e-5


def with_bad_values():
    """Return windows of 24 steps with gaps and unusable values, and lengths of these windows."""
    n = 14
    X, lengths = windows(n, seed=3)[0], np.full(n, 24)
    lengths[[0, 6, 7, 8, 9]] = 17
    X[1, 5:12, 1] = X[2, :, 0] = X[3] = X[4, 0, 2] = X[4, 23, 1] = np.nan
    X[5, :, :2] = np.nan  # most channels
    X[6, 20, 1] = X[7, 16, 1] = X[8, 14:, 0] = np.nan  # beyond the length, at its end, or both
    X[9, 23, 0], X[10, 3, 2], X[11, 0, 0] = np.inf, np.inf, -np.inf
    X[12, 3] = np.finfo(np.float32).max  # becomes infinite in the channel that is divided by 0.01
    return X, lengths


def answers(clf, X, lengths):
    """Return the probabilities of each window alone, and NaN if `predict_proba` refuses it."""
    rows = np.full((len(X), 3), np.nan)
    for row, window, length in zip(rows, X, lengths, strict=True):
        with suppress(InputError):
            row[:] = clf.predict_proba(window[None], lengths=[length])
    return rows


@pytest.mark.parametrize("has_lengths", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        {"pooling": "last", "missing": "expected"},
        {"pooling": "max", "n_models": 2, "max_timesteps": 9, "missing": "expected"},
        {"pooling": "mean", "bidirectional": True, "patch": 4, "crop": "tail"},
        {"features": ["rocket", "summary", "boosting"], "missing": "expected"},
        {"features": "hydra", "scale": None},
    ],
)
def test_a_graph_answers_the_windows_that_predict_answers(tmp_path, arguments, has_lengths):
    kind = featured if "features" in arguments else fitted
    clf = kind(*(windows(30) if kind is featured else ()), **arguments)
    X, lengths = with_bad_values()
    clf.to_onnx(tmp_path / "model.onnx", lengths=has_lengths)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    feed = {"X": X, **({"lengths": lengths} if has_lengths else {})}
    expected = answers(clf, X, lengths if has_lengths else np.full(len(X), 24))
    (found,) = session.run(None, feed)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    refused = set(np.flatnonzero(np.isnan(expected[:, 0])))
    is_bridged = "missing" in arguments
    assert {3, 10, 11} <= refused <= {*range(1, 13)}
    assert ({1, 2, 4, 5} & refused == set()) == is_bridged
    assert (6 in refused, 9 in refused) == (not has_lengths and not is_bridged, not has_lengths)
    assert (12 in refused) == (arguments.get("scale", "") is not None)
    if has_lengths:
        for wrong in (0, -1, 25):
            (found,) = session.run(None, {"X": X[:1], "lengths": [wrong]})
            assert np.isnan(found).all()


def test_a_graph_of_float64_refuses_values_that_float32_cannot_hold(tmp_path):
    clf = plain_classifier(max_epochs=1, device="cpu")
    clf.fit(1e30 * windows(30)[0][:, :, 0].astype(np.float64), windows(30)[1])
    clf.to_onnx(tmp_path / "model.onnx", dtype="float64")
    X = np.full((3, 24), 1e31)
    X[1, 2], X[2, 2] = 1e39, np.nan
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(None, {"X": X})
    np.testing.assert_allclose(found[:1], clf.predict_proba(X[:1]), atol=1e-5)
    assert np.isnan(found[1:]).all()


def test_a_graph_that_cannot_notice_failed_channels_says_so(tmp_path):
    clf = fitted(missing="outside")
    with pytest.warns(UserWarning, match="does not notice failed channels"):
        clf.to_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize("n_classes", [2, 3])
def test_boosted_trees_are_in_the_graph(tmp_path, n_classes):
    X, y = windows(90)
    is_used = np.isin(y, LABELS[:n_classes])
    clf = featured(X[is_used], y[is_used], features="boosting", scale="robust")
    assert [*on_features(clf)] == ["boosting"]
    clf.to_onnx(tmp_path / "model.onnx")
    kinds = {node.op_type for node in onnx.load(tmp_path / "model.onnx").graph.node}
    assert "TreeEnsembleRegressor" in kinds
    for seed in (0, 3):  # the thresholds were learned from the windows of seed 0
        X, _ = windows(90, seed=seed)
        assert onnx_difference(clf, tmp_path / "model.onnx", X) <= 1e-5


def test_a_model_of_windows_of_several_lengths_has_an_input_for_them(tmp_path):
    """Without lengths, the padding is read, and most of these windows get a different class."""
    rng = np.random.default_rng(0)
    y, lengths = np.arange(160) % 2, rng.integers(15, 61, 160)
    X = rng.normal(size=(160, 60, 2)) + 2.0
    X[y == 1] += np.linspace(-0.6, 0.6, 60)[:, None]
    X = (X * (np.arange(60) < lengths[:, None])[:, :, None]).astype(np.float32)
    path, saved = tmp_path / "model.onnx", tmp_path / "model.safetensors"
    clf = plain_classifier(max_epochs=2, hidden_size=4).fit(X, y, lengths=lengths)
    clf.save(saved)

    def inputs():
        session = onnxruntime.InferenceSession(path)
        return session, [declared.name for declared in session.get_inputs()]

    SensorLSTMClassifier.load(saved).to_onnx(path)
    session, names = inputs()
    assert names == ["X", "lengths"]
    assert session.get_modelmeta().custom_metadata_map["lengths"] == "true"
    (found,) = session.run(None, {"X": X, "lengths": lengths})
    np.testing.assert_allclose(found, clf.predict_proba(X, lengths), atol=1e-5)
    clf.to_onnx(path, lengths=False)
    assert inputs()[1] == ["X"]
    clf.fit(X, y, lengths=np.full(160, 60)).to_onnx(path)
    assert inputs()[1] == ["X"]
    for words, expected in ((), ["X", "lengths"]), (["--no-lengths"], ["X"]):
        printed = succeed("export", saved, "-o", path, *words)
        assert inputs()[1] == expected
        assert ("valid steps of each window as lengths" in printed) == (len(expected) == 2)


def test_a_table_of_one_channel_stays_one(tmp_path):
    X, y = windows(30)
    clf = plain_classifier(max_epochs=1, device="cpu").fit(X[:, :, 0], y)
    clf.to_onnx(tmp_path / "model.onnx")
    assert onnx_difference(clf, tmp_path / "model.onnx", X[:, :, 0]) <= 1e-5


def test_metadata_describe_the_input(tmp_path):
    clf = fitted(scale="standard")
    clf.save(tmp_path / "model.safetensors")
    clf.preparation_ = {
        "channels": ["current", "gyro_x", "gyro_y"],
        "sample_rate_hz": 20.0,
        "n_timesteps": 24,
        "configuration": {"input": {"units": {"gyro_x": "rad/s"}}},
        "recordings": {"run_1": ["0" * 64]},
    }
    clf.save(tmp_path / "model.safetensors")
    again = SensorLSTMClassifier.load(tmp_path / "model.safetensors", device="cpu")
    again.to_onnx(tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(metadata["classes"]) == LABELS.tolist()
    assert json.loads(metadata["channels"]) == ["current", "gyro_x", "gyro_y"]
    assert json.loads(metadata["units"])["gyro_x"] == "rad/s"
    assert float(metadata["sample_rate_hz"]) == 20
    assert float(metadata["window_s"]) == 1.2
    assert "input" in json.loads(metadata["preparation"])
    stored = (tmp_path / "model.safetensors").read_bytes()
    assert metadata["sha256"].encode() in stored
    assert model.ir_version == 8
    assert {each.domain: each.version for each in model.opset_import} == {"": 17, "ai.onnx.ml": 3}


def test_what_a_graph_cannot_compute_is_refused_by_name(tmp_path):
    X, y = windows(60)
    path = tmp_path / "model.onnx"
    described = featured(X, y, features=lambda X, lengths: X[:, 0])
    assert on_features(described)
    with pytest.raises(InputError, match="is your own function, which cannot be exported to ONNX"):
        described.to_onnx(path)
    with pytest.raises(ArgumentError, match="dtype='float16' is not known"):
        fitted().to_onnx(path, dtype="float16")
    assert not path.exists()


STEPS = [
    {"kind": "subtract", "left": "left", "right": "right"},
    {"kind": "power", "current": "left", "voltage": "volts", "keep": False},
    {
        "kind": "chain",
        "steps": [
            {"kind": "magnitude", "channels": ["right", "left_minus_right"], "name": "size"},
            {"kind": "signed_by", "value": "size", "by": "left_minus_right", "keep": False},
        ],
    },
]
CHANNELS = (Channel("left", "mA"), Channel("right", "mA"), Channel("volts", "V"))


def prepared(steps):
    recordings = [
        Recording(
            values=windows(1, 200, seed=number)[0][0],
            timestamps_s=np.arange(200) / 20,
            channels=CHANNELS,
            recording_id=f"{label}_{number}",
            label=label,
        )
        for number, label in enumerate(np.tile(LABELS, 4).tolist())
    ]
    return PreparePipeline(window_s=1, steps=steps, split=None).prepare(recordings)


def test_steps_of_one_sample_are_in_the_graph(tmp_path):
    after, before = prepared(STEPS), prepared(None)
    clf = plain_classifier(max_epochs=1, device="cpu").fit(after)
    path = tmp_path / "model.onnx"
    with pytest.raises(InputError, match=r"the step 'power' cannot be exported: .* the units"):
        clf.to_onnx(path, steps=True)
    clf.preparation_["configuration"]["input"] = {"units": {"left": "mA", "volts": "V"}}
    clf.to_onnx(path, steps=True)
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert json.loads(metadata["channels"]) == ["left", "right", "volts"]
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {"X": before.X})
    np.testing.assert_allclose(found, clf.predict_proba(after), atol=1e-5)


def test_steps_with_a_memory_are_refused_by_name(tmp_path):
    filtered = prepared([{"kind": "band_pass", "low_hz": 1.0}])
    clf = plain_classifier(max_epochs=1, device="cpu").fit(filtered)
    with pytest.raises(InputError, match="the step 'band_pass' cannot be exported"):
        clf.to_onnx(tmp_path / "model.onnx", steps=True)
    clf.to_onnx(tmp_path / "model.onnx")
    with pytest.raises(InputError, match="steps=True needs the preparation of the windows"):
        fitted().to_onnx(tmp_path / "model.onnx", steps=True)
