"""A model in C gives the same probabilities as in Python, with every compiler that is found."""

import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from c_models import STRICT, CModel, need
from commands import refused, succeed
from fits import (
    class_shares_of,
    on_features,
    plain_classifier,
    set_class_shares,
    use_members,
    with_int8,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError
from sensorseq.export.c_tables import rounded
from sensorseq.export.to_onnx import onnx_difference
from sensorseq.features import SummaryFeatures
from sensorseq.features.trees import BoostedTrees
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.steps import (
    BandPass,
    Derivative,
    Detrend,
    Difference,
    Magnitude,
    Moving,
    Notch,
    Power,
    Product,
    SignedBy,
    StepChain,
    Subtract,
)
from sensorseq.recording import Channel
from sensorseq.sequence import timeline_of
from sensorseq.sequence.smoothing import Smoothing

pytestmark = [
    pytest.mark.filterwarnings("ignore::sensorseq.errors.LeakWarning"),  # only a few windows
    pytest.mark.usefixtures("few_features"),
]
ROOT = Path(__file__).resolve().parents[2]
N_STEPS, N_CHANNELS, N_CLASSES = 23, 3, 3
TOLERANCE = 1e-5


def make_windows(n=30, seed=0):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % N_CLASSES
    angle = np.arange(N_STEPS)[None, :, None] * (0.3 + 0.3 * y[:, None, None])
    angle = angle + np.arange(N_CHANNELS)
    X = np.sin(angle) + 5.0 * np.arange(N_CHANNELS) + 0.3 * rng.normal(size=angle.shape)
    return X.astype(np.float32), y


def fitted(**arguments):
    X, y = make_windows()
    defaults = {"max_epochs": 1, "hidden_size": 5, "random_state": 0, "early_stopping": False}
    return plain_classifier(**{**defaults, **arguments}).fit(X, y)


def shaken(classifier, seed):
    """Give all weights random values, so that none is near its initial value."""
    rng = np.random.default_rng(seed)
    for module in classifier.modules_:
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                # matrices with a deviation of 1 would amplify rounding errors in every layer
                values = rng.normal(scale=1 if tensor.ndim == 1 else 0.5, size=tuple(tensor.shape))
                # one of the buffers of a batch norm is a variance
                values = np.abs(values) + 0.1 if tensor.ndim == 1 else values
                tensor.copy_(torch.from_numpy(values))  # in place, because the weights are packed
    return classifier


def check_same(classifier, model, hop):
    """Compare full windows, shorter windows, and windows cut from a stream."""
    X, _ = make_windows(seed=1)
    for n_steps in (N_STEPS, 11, 2, 1):
        expected = classifier.predict_proba(X, lengths=np.full(len(X), n_steps))
        found = [model.predict(window[:n_steps]) for window in X]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    signal = X.reshape(-1, N_CHANNELS)[:300]
    starts = range(0, len(signal) - N_STEPS + 1, hop)
    expected = classifier.predict_proba(np.stack([signal[at : at + N_STEPS] for at in starts]))
    model.reset()
    np.testing.assert_allclose(model.stream(signal), expected, atol=TOLERANCE, rtol=0)


networks = st.fixed_dictionaries(
    {
        "num_layers": st.integers(1, 3),
        "bidirectional": st.booleans(),
        "pooling": st.sampled_from(["last", "mean", "max", "meanmax"]),
        "head_norm": st.sampled_from(["none", "batch", "layer"]),
        "scale": st.sampled_from([None, "standard", "robust"]),
        "n_models": st.sampled_from([1, 1, 2]),
        "hidden_size": st.integers(1, 9),
        "dtype": st.sampled_from(["float32", "float64"]),
        "patch": st.sampled_from([None, 2, 5, N_STEPS]),
    }
)


@settings(max_examples=5, deadline=None)
@given(
    networks,
    st.sampled_from(["float32", "int8"]),
    st.integers(1, 40),
    st.integers(0, 9),
)
def test_every_network_in_c_equals_that_of_python(tmp_path_factory, arguments, weights, hop, seed):
    classifier = shaken(fitted(**arguments), seed)
    classifier.temperature_ = 1.7
    folder = tmp_path_factory.mktemp("c")
    export = classifier.to_c(folder, n_timesteps=N_STEPS, hop=hop, weights=weights)
    # compilers give different warnings at this optimization level
    model = CModel(export, N_CHANNELS, N_CLASSES, options=("-O1",))
    assert model.size == export.ram_bytes
    check_same(with_int8(classifier) if weights == "int8" else classifier, model, hop)


def fitted_with_features(**arguments):
    """Fit with every kind of features; a fit with 'auto' might choose only one kind."""
    classifier = fitted(features="rocket", **arguments)
    for features in ("hydra", "summary", "boosting"):
        more = on_features(fitted(features=features))
        use_members(classifier, 0.5, on_features(classifier) | more)
    *linear, boosting = (members := on_features(classifier)).values()
    assert [*members] == ["rocket", "hydra", "summary", "boosting"]
    assert all(np.abs(member.weight).sum() > 0 for member in linear)
    assert len(boosting.trees.columns) > 3
    return classifier


@pytest.fixture(scope="module")
def plain():
    return fitted()


@pytest.fixture(scope="module")
def with_features(few_features):
    return fitted_with_features()


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_features_in_c_equal_those_of_python(with_features, tmp_path, weights):
    classifier = with_features
    export = classifier.to_c(tmp_path, n_timesteps=N_STEPS, hop=9, weights=weights)
    model = CModel(export, N_CHANNELS, N_CLASSES)
    assert model.size == export.ram_bytes
    check_same(with_int8(classifier) if weights == "int8" else classifier, model, 9)


@pytest.mark.parametrize("n_steps", [64, 75])
def test_the_spectrum_of_long_windows_in_c_and_in_a_graph_equals_that_of_python(tmp_path, n_steps):
    rng = np.random.default_rng(0)
    y = np.arange(90) % N_CLASSES
    angle = (
        np.arange(n_steps)[None, :, None]
        * (0.3 + 0.1 * y + 0.02 * rng.normal(size=90))[:, None, None]
    )
    X = np.sin(angle) + rng.normal(size=(90, n_steps, N_CHANNELS))
    X[:30, :, 1] = X[30:, :, 2] = 0.3  # some channels are constant
    X[5, :, 1:] = 0.3
    lengths = np.where(np.arange(90) % 4, n_steps, np.arange(90) // 4 + n_steps - 25)
    models = [
        plain_classifier(features=features, max_epochs=1, hidden_size=2, scale=None).fit(
            X, y, lengths=lengths
        )
        for features in ("summary", "boosting")
    ]
    classifier = models[0]
    use_members(classifier, 0.0, on_features(classifier) | on_features(models[1]))
    boosting = on_features(classifier)["boosting"]
    n_statistics = len(boosting.summary.names)
    assert (boosting.trees.columns % n_statistics >= 18).any()
    export = classifier.to_c(tmp_path, n_timesteps=n_steps)
    model = CModel(export, N_CHANNELS, N_CLASSES)
    assert model.size == export.ram_bytes
    classifier.to_onnx(tmp_path / "model.onnx", lengths=True)
    for n in (n_steps, n_steps - 1, 33, 4, 2, 1):
        expected = classifier.predict_proba(X, lengths=np.full(len(X), n))
        found = [model.predict(window[:n]) for window in X]
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    uneven = np.arange(len(X)) % n_steps + 1
    difference = onnx_difference(classifier, tmp_path / "model.onnx", X, lengths=uneven)
    assert difference <= TOLERANCE


def test_members_that_read_different_statistics_are_refused_in_c(tmp_path):
    classifier, other = fitted(features="summary"), fitted(features="boosting")
    (boosting,) = on_features(other).values()
    changed = replace(boosting, summary=SummaryFeatures(spectrum=True).fit(make_windows()[0]))
    use_members(classifier, 0.0, on_features(classifier) | {"boosting": changed})
    with pytest.raises(InputError, match="'summary' and 'boosting' read different statistics"):
        classifier.to_c(tmp_path)


@pytest.mark.parametrize("arguments", [{}, {"n_models": 2, "patch": 5}, {"bidirectional": True}])
def test_the_networks_keep_their_weight_in_c_if_no_features_were_chosen(tmp_path, arguments):
    classifier = shaken(fitted(**arguments), 0)
    use_members(classifier, 0.3, {})
    export = classifier.to_c(tmp_path, n_timesteps=N_STEPS, hop=9)
    check_same(classifier, CModel(export, N_CHANNELS, N_CLASSES, options=("-O1",)), 9)


@pytest.mark.parametrize(("n_classes", "weights"), [(2, "int8"), (3, "float32")])
def test_boosted_trees_in_c_equal_those_of_python(tmp_path, n_classes, weights):
    X, y = make_windows(200)
    is_used = y < n_classes
    classifier = plain_classifier(features="boosting", max_epochs=1, hidden_size=2)
    classifier.fit(X[is_used], y[is_used])
    member = on_features(classifier)["boosting"]
    export = classifier.to_c(tmp_path, n_timesteps=N_STEPS, hop=9, weights=weights)
    model = CModel(export, N_CHANNELS, n_classes)
    assert model.size == export.ram_bytes
    expected = with_int8(classifier) if weights == "int8" else classifier
    check_same(expected, model, 9)
    found = [
        model.predict(window) for window in X
    ]  # the windows from which the thresholds were learned
    np.testing.assert_allclose(found, expected.predict_proba(X), atol=TOLERANCE, rtol=0)
    np.testing.assert_allclose(found, classifier.predict_proba(X), atol=0.02, rtol=0)
    assert "Features  boosting\n" in export.header.read_text()
    use_members(classifier, 1.0, {})
    bare = classifier.to_c(tmp_path, n_timesteps=N_STEPS, weights=weights)
    constants = [each.flash_bytes - each.code_bytes for each in (export, bare)]
    feature = member.trees.state()["arrays"]["feature"]
    n_leaves, n_inner = (feature < 0).sum(), (feature >= 0).sum()
    node_bytes = 4 * n_inner + n_leaves * (1 if weights == "int8" else 4)
    n_tests = constants[0] - constants[1] - node_bytes
    assert 0 < n_tests < 2200 + 8 * 31 * len(member.trees.columns)


def test_trees_without_a_split_and_a_threshold_that_needs_double(tmp_path):
    classifier = fitted(features="boosting")
    member = on_features(classifier)["boosting"]
    trees = member.trees.state()["arrays"]
    n = np.arange(3)
    for step in (0.0, 1e-12):  # one threshold is exact in float32, but the other is not
        arrays = {name: values[:0] for name, values in trees.items()} | {
            "feature": np.array([-1, 5, -1, -1, -1], np.int32),
            "threshold": np.array([0, 0.5 + step, 0, 0, 0]),
            "left": np.array([0, 2, 0, 0, 0], np.int32),
            "right": np.array([0, 3, 0, 0, 0], np.int32),
            "value": np.array([0.3, 0, -1.0, 1.0, 0.2]),
            "root": np.array([[0, 1, 4]], np.int32),
            "baseline": 0.1 * n,
        }
        state = {"settings": member.trees.state()["settings"], "arrays": arrays}
        changed = replace(member, trees=BoostedTrees.from_state(state))
        use_members(classifier, 1.0, {"boosting": changed})
        export = classifier.to_c(tmp_path / str(step), n_timesteps=N_STEPS, hop=5)
        check_same(classifier, CModel(export, N_CHANNELS, N_CLASSES), 5)
        kind = "double" if step else "float"
        assert f"static const {kind} boosting_threshold[1]" in export.source.read_text()


@pytest.mark.parametrize("amplitude", [1e-4, 1e4])
def test_frames_of_unscaled_channels_agree_in_c_and_in_a_graph(tmp_path, amplitude):
    """If a channel is small, the logarithms vary so little that scaling enlarges their errors."""
    X, y = make_windows()
    X = (amplitude * X).astype(np.float32)
    classifier = plain_classifier(max_epochs=1, hidden_size=5, patch=5, scale=None).fit(X, y)
    expected = shaken(classifier, 0).predict_proba(X)
    model = CModel(classifier.to_c(tmp_path), N_CHANNELS, N_CLASSES)
    found = [model.predict(window) for window in X]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)
    classifier.to_onnx(tmp_path / "model.onnx")
    assert onnx_difference(classifier, tmp_path / "model.onnx", X) <= TOLERANCE


def test_trees_that_are_all_leaves_compile(tmp_path):
    classifier = fitted(features="boosting")
    member = on_features(classifier)["boosting"]
    state = member.trees.state()
    leaves = {"feature": -np.ones(3, np.int32), "value": np.array([0.3, -1.0, 0.2])}
    leaves |= {"left": np.zeros(3, np.int32), "right": np.zeros(3, np.int32)}
    leaves |= {"threshold": np.zeros(3), "root": np.array([[0, 1, 2]], np.int32)}
    state["arrays"] = state["arrays"] | leaves
    changed = replace(member, trees=BoostedTrees.from_state(state))
    use_members(classifier, 1.0, {"boosting": changed})
    export = classifier.to_c(tmp_path, n_timesteps=N_STEPS, hop=5)
    check_same(classifier, CModel(export, N_CHANNELS, N_CLASSES), 5)


@pytest.mark.parametrize("features", ["rocket", "hydra"])
def test_windows_of_several_lengths_are_padded_for_features_as_in_python(tmp_path, features):
    X, y = make_windows()
    lengths = np.where(np.arange(len(X)) % 2, N_STEPS, 15)
    classifier = plain_classifier(features=features, max_epochs=1).fit(X, y, lengths=lengths)
    assert [*on_features(classifier)] == [features]
    model = CModel(classifier.to_c(tmp_path, n_timesteps=N_STEPS), N_CHANNELS, N_CLASSES)
    check_same(classifier, model, N_STEPS)


def test_a_model_of_features_alone_contains_no_part_of_the_network_in_c(tmp_path):
    X = np.tile(make_windows()[0], (1, 2, 1))  # long enough for frames
    classifier = plain_classifier(features="hydra", max_epochs=1, hidden_size=2)
    classifier.fit(X, make_windows()[1])
    assert classifier.patch_ is not None
    use_members(classifier, 0.0)
    model = CModel(classifier.to_c(tmp_path), N_CHANNELS, N_CLASSES)
    found = [model.predict(window) for window in X]
    np.testing.assert_allclose(found, classifier.predict_proba(X), atol=TOLERANCE, rtol=0)


def record(number, rate_hz=100.0, n_samples=500):
    rng = np.random.default_rng(number)
    times = np.arange(n_samples) / rate_hz
    slow = 1.0 + 2.0 * (number % 2)
    current = 2.0 * np.sin(2 * np.pi * slow * times + number) + 20.0
    voltage = np.cos(2 * np.pi * 1.5 * times) + 3.0
    gyro = 0.1 * np.cumsum(rng.normal(size=n_samples))
    values = np.stack([current, voltage, gyro], axis=1) + 0.2 * rng.normal(size=(n_samples, 3))
    return Recording(
        recording_id=f"r{number}",
        timestamps_s=times,
        values=values.astype(np.float32).astype(np.float64),
        channels=(Channel("current", "mA"), Channel("voltage", "V"), Channel("gyro", "rad/s")),
        label=str(number % 2),
        group=f"g{number}",
    )


def trained_on_recordings(steps, rate_hz=100.0, resampled_hz=100.0, hop_s=0.37):
    pipeline = PreparePipeline(
        sample_rate_hz=resampled_hz, window_s=0.9, hop_s=hop_s, steps=steps, split=None, scale=None
    )
    windows = pipeline.prepare([record(number, rate_hz) for number in range(6)])
    return shaken(plain_classifier(max_epochs=1, hidden_size=4).fit(windows), 0)


def check_stream(classifier, tmp_path, rate_hz, **arguments):
    export = classifier.to_c(tmp_path, **arguments)
    model = CModel(export, N_CHANNELS, len(classifier.classes_), options=("-O1",))
    assert model.size == export.ram_bytes
    new = record(100, rate_hz)
    offline = RecordingPlan.recorded(classifier.preparation_).prepare([new])
    expected = classifier.predict_proba(offline)
    found = model.stream(new.values)
    assert len(expected) - 4 <= len(found) <= len(expected)  # resampling needs later samples
    assert len(found) > 3
    np.testing.assert_allclose(found, expected[: len(found)], atol=TOLERANCE, rtol=0)


@pytest.fixture(scope="module")
def on_recordings():
    classifier = trained_on_recordings([], hop_s=0.4)
    set_class_shares(classifier, [0.1, 0.9])
    return classifier


@pytest.mark.parametrize(("smooth", "lag"), [("filter", None), ("lag", 0), ("lag", 5)])
def test_smoothing_in_c_equals_that_of_the_timeline(on_recordings, tmp_path, smooth, lag):
    """Compare results for certain and uncertain probabilities, with the networks' tolerance."""
    classifier = on_recordings
    arguments = {"smooth": Smoothing(smooth, lag, [2.0, 5.0])}
    export = classifier.to_c(tmp_path, **arguments)
    model = CModel(export, N_CHANNELS, 2)
    assert export.ram_bytes - model.size <= 200 * 2 + 8
    assert "and smoother" in str(export)
    rng = np.random.default_rng(lag or 3)
    p = rng.dirichlet([0.02, 0.02], 60).astype(np.float32)
    p[20:23] = [1, 0]
    start_s = 0.4 * np.arange(60)
    shares = {"class_shares": class_shares_of(classifier)}
    made = timeline_of(p, classifier.classes_, start_s, 0.9, **arguments, **shares)
    found = model.smooth(p, lag if smooth == "lag" else 0)
    np.testing.assert_allclose(found, made.probabilities, atol=TOLERANCE, rtol=0)


def test_smoothing_in_c_needs_the_rate_of_the_windows(plain, tmp_path):
    with pytest.raises(InputError, match="rate of the windows"):
        plain.to_c(tmp_path, n_timesteps=N_STEPS, smooth="lag")


UNITS = {"current": "mA", "voltage": "V", "gyro": "rad/s"}
STEP_LISTS = {
    "filters and slopes": [
        BandPass(low_hz=0.5, high_hz=20, phase="causal"),
        Notch(frequency_hz=30, phase="causal", channels=("gyro",)),
        BandPass(high_hz=25, phase="causal", keep=True, channels=("voltage", "current")),
        Detrend(window_s=0.3, phase="causal"),
        Derivative(phase="causal", channels=("current",)),
        Derivative(phase="causal", window_s=0.2, order=2, polynomial=3, keep=False),
    ],
    "statistics": [
        Moving(window_s=0.2, statistic=statistic, channels=("current", "gyro"))
        for statistic in ("rms", "mean", "std", "range", "min", "max", "mean_absolute")
    ],
    "combinations": [
        StepChain((Power("current", "voltage"), Product("current", "gyro"))),
        SignedBy("current", "gyro"),
        Difference(lag_samples=3),
        Difference(channels=("gyro",), absolute=True, suffix="change"),
        Subtract("current_power", "current_power", name="zero"),
        Magnitude(("gyro", "gyro_change"), name="length"),
    ],
}


@pytest.mark.parametrize("name", STEP_LISTS)
def test_causal_steps_in_c_equal_those_of_python(tmp_path, name):
    classifier = trained_on_recordings(STEP_LISTS[name])
    check_stream(classifier, tmp_path, 100.0, units=UNITS)


@pytest.mark.parametrize(
    ("rate_hz", "resampled_hz", "steps"),
    [(40.0, 100.0, []), (100.0, 30.0, [Moving(window_s=0.2)])],
)
def test_samples_at_a_different_rate_are_resampled_as_in_python(
    tmp_path, rate_hz, resampled_hz, steps
):
    classifier = trained_on_recordings(steps, rate_hz, resampled_hz)
    check_stream(classifier, tmp_path, rate_hz, sample_rate_hz=rate_hz)


def test_a_sample_that_is_not_finite_is_ignored_and_reported(tmp_path):
    classifier = fitted()
    model = CModel(classifier.to_c(tmp_path, n_timesteps=N_STEPS), N_CHANNELS, N_CLASSES)
    X, _ = make_windows()
    for sample in X[0][:-1]:
        assert model.push(sample) == 0
    for bad in (np.nan, np.inf):
        assert model.push(np.array([0.0, bad, 0.0])) == -1
    expected = classifier.predict_proba(X[:1])[0]
    np.testing.assert_allclose(model.push(X[0][-1]), expected, atol=TOLERANCE)
    assert model.predict(np.zeros((N_STEPS + 1, N_CHANNELS))) == -1
    assert model.predict(np.zeros((0, N_CHANNELS))) == -1
    assert model.predict(np.full((2, N_CHANNELS), np.nan)) == -1


@pytest.mark.parametrize("arguments", [{}, {"bidirectional": True}])
def test_a_value_that_becomes_infinite_is_refused_by_python_and_c(tmp_path, arguments):
    X, y = make_windows()
    X = (X * np.float32(1e-3)).astype(np.float32)
    classifier = plain_classifier(max_epochs=1, hidden_size=5, **arguments).fit(X, y)
    model = CModel(classifier.to_c(tmp_path, n_timesteps=N_STEPS), N_CHANNELS, N_CLASSES)
    window = X[0].copy()
    window[2, 1] = np.finfo(np.float32).max
    with pytest.raises(InputError, match="infinite after scaling"):
        classifier.predict_proba(window[None])
    assert model.predict(window) == -1
    assert [model.push(sample) for sample in window][:3] == [0, 0, -1]


def test_c_that_does_not_bridge_gaps_says_so(tmp_path):
    classifier = fitted(missing="expected")
    with pytest.warns(UserWarning, match="does not bridge gaps"):
        export = classifier.to_c(tmp_path, n_timesteps=N_STEPS)
    assert "trained with missing='expected'" in export.header.read_text()
    model, (X, _) = CModel(export, N_CHANNELS, N_CLASSES), make_windows()
    X[0, 3:6, 1] = np.nan
    assert np.isfinite(classifier.predict_proba(X[:1])).all()
    assert model.predict(X[0]) == -1


def test_the_header_and_the_table_state_what_the_model_needs(tmp_path):
    X, y = make_windows()
    classifier = fitted()
    windows = PreparePipeline(window_s=0.23, sample_rate_hz=100.0, split=None, scale=None)
    checked = windows.prepare(
        [
            Recording(
                recording_id=str(i),
                timestamps_s=np.arange(N_STEPS) / 100.0,
                values=window.astype(float),
                channels=tuple(Channel(f"channel_{c}") for c in range(N_CHANNELS)),
                label=str(label),
            )
            for i, (window, label) in enumerate(zip(X, y, strict=True))
        ]
    )
    labels = classifier.classes_
    classifier.classes_ = np.array(['a"\\b??/', "c*/d", "ä"])
    checked = type(checked)(**{**vars(checked), "y": classifier.classes_[y]})
    export = classifier.to_c(tmp_path, n_timesteps=N_STEPS, weights="int8", check=checked)
    header = export.header.read_text()
    scores = [model.score(checked) for model in (with_int8(classifier), classifier)]
    accuracy = "{:.2f} % (before rounding {:.2f} %) on 30 given windows".format(
        *np.multiply(scores, 100)
    )
    assert accuracy in header
    assert accuracy in str(export)
    for stated in (
        f"RAM       {export.ram_bytes} bytes",
        f"SENSORSEQ_STATE_BYTES {export.ram_bytes}",
        "Weights   int8",
        "Windows   23 samples, one every 23 samples",
    ):
        assert stated in header
    for row in ("RAM", "flash", "multiply-adds"):
        assert row in str(export)
    library = CModel(export, N_CHANNELS, len(labels))
    names = library.class_names()
    assert names == classifier.classes_.tolist()


def test_int8_weights_take_a_quarter_of_the_flash(tmp_path):
    classifier = fitted(hidden_size=64)
    single, int8 = (
        classifier.to_c(tmp_path, n_timesteps=N_STEPS, weights=weights).flash_bytes
        for weights in ("float32", "int8")
    )
    assert int8 < 0.4 * single


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a prepared file of raw recordings, and a model trained on it."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(10):
        recording = record(number)
        lines = ["time,current,voltage,gyro"]
        rows = np.column_stack([recording.timestamps_s, recording.values])
        lines += [",".join(f"{value:.6f}" for value in row) for row in rows]
        path = folder / "raw" / recording.label / f"run_{number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    prepared, model = folder / "windows.h5", folder / "model.safetensors"
    how = ["--window-s", 0.5, "--sample-rate-hz", 50, "--hop-s", 0.25, "-q"]
    succeed("prepare", folder / "raw", "-o", prepared, *how)
    plain_classifier(max_epochs=1, hidden_size=4).fit(prepared).save(model)
    return prepared, model


def test_the_command_writes_c_with_its_accuracy(files, tmp_path):
    prepared, path = files
    command = ["export", path, "--format", "c", "-o", tmp_path / "new"]
    how = ["--weights", "int8", "--sample-rate", "100", "--check", prepared]
    printed = json.loads(succeed(*command, *how, "--json"))
    header = Path(printed["header"]).read_text()
    accuracy = printed["accuracy"]
    assert accuracy["part"] == "validation"
    shares = [f"{100 * accuracy[name]:.2f} %" for name in ("rounded", "trained")]
    stated = (
        f"{shares[0]} (before rounding {shares[1]}) on {accuracy['n_windows']} validation windows"
    )
    assert f"{stated}\n" in header
    for stated in ("SAMPLE_RATE_HZ 100.0", "MODEL_RATE_HZ 50.0", "HOP 12.5", "WINDOW 25"):
        assert stated in header.replace("(25.0 / 2)", "12.5")
    assert "sensorseq_model.c" in succeed(*command, "--hop", "5")
    classifier = SensorLSTMClassifier.load(path)
    classifier.refitted_ = True
    export = classifier.to_c(tmp_path / "new", check=prepared)
    assert "validation windows, which the final model learned from" in str(export)
    export = classifier.to_c(tmp_path / "new", sample_rate_hz=100.0)
    new = record(100)
    offline = RecordingPlan.recorded(classifier.preparation_).prepare([new])
    found = CModel(export, N_CHANNELS, 2).stream(new.values)
    expected = classifier.predict_proba(offline)[: len(found)]
    np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--format c --lengths", "--lengths does not apply to --format c"),
        ("--weights int8", "--weights does not apply to --format onnx"),
    ],
)
def test_options_of_the_other_format_are_errors(files, tmp_path, options, message):
    assert message in refused(2, "export", files[1], "-o", tmp_path / "out", *options.split())


def test_rows_of_any_magnitude_keep_their_precision_in_int8():
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(200, 6)) * 10.0 ** rng.uniform(-8, 8, size=(200, 1))
    weight[7] = 0.0
    largest = np.abs(weight).max(axis=1, keepdims=True)
    for exponents, bound in ((False, 0.501 / 127), (True, 1.001 / 127)):
        error = np.abs(rounded(weight, exponents=exponents) - weight)
        assert (error <= bound * largest).all()


def test_two_models_can_be_used_in_one_program(plain, tmp_path):
    paths = [
        plain.to_c(tmp_path, n_timesteps=N_STEPS, prefix=prefix).source
        for prefix in ("left", "right")
    ]
    assert [path.name for path in paths] == ["left_model.c", "right_model.c"]
    main = tmp_path / "main.c"
    main.write_text(
        '#include "left_model.h"\n#include "right_model.h"\nstatic left_state a;\n'
        "static right_state b;\nint main(void) { left_reset(&a); right_reset(&b); return 0; }\n"
    )
    program = tmp_path / "main"
    command = [need("gcc"), *STRICT, str(main), *map(str, paths), "-lm", "-o", str(program)]
    subprocess.run(command, check=True)
    subprocess.run([program], check=True)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return two exports that cover the C source: one with steps, and one with features."""
    folder = tmp_path_factory.mktemp("exported")
    steps = [Detrend(window_s=0.3, phase="causal"), Moving(window_s=0.2)]
    with_steps = trained_on_recordings(steps, 100.0, 40.0)
    with_features = fitted_with_features(bidirectional=True, num_layers=3, n_models=2)
    signal = record(100).values
    windows = make_windows(seed=1)[0].reshape(-1, N_CHANNELS)[:200]
    how = {"n_timesteps": N_STEPS, "hop": 7, "weights": "int8"}
    return [
        (with_steps.to_c(folder / "steps", sample_rate_hz=100.0), signal),
        (with_features.to_c(folder / "features", **how), windows),
    ]


def run_example(export, signal, folder, c_compiler, options=(), runner=()):
    """Compile the C++ example with a model, and return the probabilities that it prints."""
    folder.mkdir(exist_ok=True)
    cpp = {"gcc": "g++", "clang": "clang++", "arm-linux-gnueabihf-gcc": "arm-linux-gnueabihf-g++"}
    c_path, cpp_path = need(c_compiler), need(cpp[c_compiler])
    model, program = folder / "model.o", folder / "classify"
    source = ROOT / "examples" / "cpp" / "classify.cpp"
    header = f"-I{export.header.parent}"
    for command in (
        [c_path, *STRICT, *options, "-c", str(export.source), "-o", str(model)],
        [cpp_path, *STRICT[1:], *options, header, str(source), str(model), "-lm", "-o", program],
    ):
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        assert built.returncode == 0, built.stderr
    lines = ["a,b,c", *(",".join(f"{value:.9g}" for value in row) for row in signal)]
    finished = subprocess.run(
        [*runner, program], input="\n".join(lines), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    rows = [line.split(",") for line in finished.stdout.splitlines()]
    return np.array([[float(value) for value in row[1:]] for row in rows])


def expected_rows(export, signal):
    n_classes = 2 if "steps" in str(export.source) else N_CLASSES
    return CModel(export, N_CHANNELS, n_classes).stream(signal)


SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


@pytest.mark.native
@pytest.mark.parametrize("compiler", ["gcc", pytest.param("clang", marks=pytest.mark.slow)])
def test_the_c_code_has_no_undefined_behavior(exported, tmp_path, compiler):
    for export, signal in exported:
        expected = expected_rows(export, signal)
        found = run_example(export, signal, tmp_path, compiler, SANITIZERS)
        assert len(found) > 3
        np.testing.assert_allclose(found, expected, atol=2e-7, rtol=0)


@pytest.mark.native
@pytest.mark.slow
def test_on_arm_the_probabilities_are_the_same(exported, tmp_path):
    runner = need("qemu-arm")
    for export, signal in exported:
        expected = expected_rows(export, signal)
        options = ("-O2", "-static")
        found = run_example(export, signal, tmp_path, "arm-linux-gnueabihf-gcc", options, [runner])
        np.testing.assert_allclose(found, expected, atol=TOLERANCE, rtol=0)


@pytest.mark.native
@pytest.mark.slow
def test_the_code_for_a_microcontroller_is_as_large_as_stated(exported, tmp_path):
    compiler, size = need("arm-none-eabi-gcc"), need("arm-none-eabi-size")
    for export, _ in exported:
        target = tmp_path / "model.o"
        flags = ["-Os", "-mthumb", "-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"]
        command = [compiler, *STRICT, *flags, "-c", str(export.source), "-o", str(target)]
        subprocess.run(command, check=True)
        table = subprocess.run([size, str(target)], capture_output=True, text=True, check=True)
        text_bytes, data_bytes, bss_bytes = map(int, table.stdout.splitlines()[1].split()[:3])
        assert bss_bytes == 0
        assert text_bytes + data_bytes == pytest.approx(export.flash_bytes, abs=800)


@pytest.mark.native
def test_the_arduino_sketch_prints_a_label_for_each_window(exported, tmp_path):
    for export, _ in exported:
        folder = export.header.parent
        model, program = tmp_path / "model.o", tmp_path / "sketch"
        compiled = [need("gcc"), *STRICT, "-c", str(export.source), "-o", str(model)]
        subprocess.run(compiled, check=True)
        here = Path(__file__).parent / "arduino"
        sketch = ROOT / "examples" / "arduino" / "classify"
        command = [need("g++"), "-Wall", "-Wextra", "-Werror", f"-I{folder}", f"-I{sketch}"]
        command += [f"-I{here}", str(here / "run.cpp"), str(model), "-lm", "-o", str(program)]
        subprocess.run(command, check=True)
        printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        assert len(printed.splitlines()) > 3


def prepared_with(**options):
    how = {"sample_rate_hz": 100.0, "window_s": 0.9, "split": None, "scale": None}
    pipeline = PreparePipeline(**{**how, **options})
    windows = pipeline.prepare([record(number) for number in range(6)])
    return plain_classifier(max_epochs=1, hidden_size=2, scale="standard").fit(windows)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([BandPass(low_hz=1.0)], "step 'band_pass' has phase='zero'"),
        ([Detrend(window_s=0.5)], "step 'detrend' has phase='zero'"),
        ([Product("current", "gyro")], "multiplies 'current', whose unit the model lacks"),
    ],
)
def test_a_step_that_c_cannot_do_is_refused_by_name(tmp_path, steps, message):
    with pytest.raises(InputError, match=message):
        prepared_with(steps=steps).to_c(tmp_path)


def test_what_c_cannot_do_is_refused_by_name(tmp_path):
    member = LinearMember(lambda X, lengths: X[:, 0], np.ones((3, 3)), np.ones(3))
    network = fitted()
    use_members(network, 1.0, {"first_step": member})
    with pytest.raises(InputError, match="features='first_step' is your own function"):
        network.to_c(tmp_path, n_timesteps=N_STEPS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_timesteps": 5, "sample_rate_hz": 50.0}, "needs the rate of training"),
        ({"n_timesteps": 5, "hop": -1}, "hop=-1 must be an integer from 1 to 2147483647"),
        ({"n_timesteps": 0}, "n_timesteps=0 must be an integer from 1"),
        ({"n_timesteps": math.nan}, "n_timesteps=nan must be an integer from 1"),
        ({"n_timesteps": 2**31}, "n_timesteps=2147483648 must be an integer from 1"),
        ({"n_timesteps": 5, "hop": 0}, "hop=0 must be an integer from 1"),
        ({"n_timesteps": 5, "check": 3}, "`check` has no labels"),
        ({"n_timesteps": 5, "prefix": "my model"}, "not a C identifier"),
        ({"n_timesteps": 5, "weights": "int4"}, "int4"),
    ],
)
def test_arguments_that_do_not_fit_are_errors(plain, tmp_path, arguments, message):
    with pytest.raises(ArgumentError, match=message):
        plain.to_c(tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


def test_windows_are_as_long_as_the_arrays_of_the_fit_and_so_is_the_hop(plain, tmp_path):
    classifier = plain
    header = classifier.to_c(tmp_path).header.read_text()
    assert f"SENSORSEQ_WINDOW {N_STEPS} " in header
    assert f"SENSORSEQ_HOP {N_STEPS} " in header
    classifier.save(tmp_path / "model.safetensors")
    loaded = SensorLSTMClassifier.load(tmp_path / "model.safetensors")
    assert loaded.to_c(tmp_path).header.read_text() == header


def test_a_hop_that_is_whole_except_for_the_rounding_of_stamps_is_whole(tmp_path):
    classifier = prepared_with()
    classifier.preparation_["sample_rate_hz"] *= 1 + 1e-6
    header = classifier.to_c(tmp_path).header.read_text()
    assert re.search(r"#define SENSORSEQ_HOP \d+ ", header)


def test_a_classifier_that_crops_its_windows_is_refused(tmp_path):
    with pytest.raises(InputError, match="max_timesteps=10 crops windows of 23 steps"):
        fitted(max_timesteps=10).to_c(tmp_path, n_timesteps=N_STEPS)


def test_rates_without_a_small_ratio_are_refused(tmp_path):
    with pytest.raises(InputError, match="not a fraction of small integers"):
        prepared_with().to_c(tmp_path, sample_rate_hz=100.0 * np.pi)


def test_the_command_writes_what_smooths(files, tmp_path):
    smooth = ["--smooth", "lag", "--lag", "2", "--mean-dwell-s", "3"]
    succeed("export", files[1], "-o", tmp_path / "c", "--format", "c", *smooth)
    header = (tmp_path / "c" / "sensorseq_model.h").read_text()
    assert "#define SENSORSEQ_SMOOTH_LAG 2 " in header
    message = refused(2, "export", files[1], "-o", tmp_path / "model.onnx", *smooth)
    assert "--smooth does not apply to --format onnx" in message
