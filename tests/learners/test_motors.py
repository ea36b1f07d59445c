"""The member on motors is fitted on physical values, and refuses channels without their zero."""

import shlex
import warnings
from dataclasses import replace
from html import escape

import numpy as np
import pytest
from fits import fused_classifier, plain_classifier, reloaded

from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.cli.models import read_motors, read_settings
from sensorseq.diagnosis.report_text import settings_as_options
from sensorseq.errors import ArgumentError
from sensorseq.evaluation.fit_page import make_page
from sensorseq.features.motors import Motor, motor_features
from sensorseq.prediction.members.motors import MotorsMember
from sensorseq.preprocessing.steps import make_step
from sensorseq.preprocessing.steps.chain import STEPS, StepChain
from sensorseq.recording import Channel, Recording
from sensorseq.windows import WindowSet

RNG = np.random.default_rng(0)
NAMES = ("curL", "curR", "velL", "velR")
MOTORS = [("curL", "velL"), ("curR", "velR")]
ROLES = [Motor((0, 2), ("curL", "velL")), Motor((1, 3), ("curR", "velR"))]


def drives(n, friction, t=32):
    """Return windows of two motors with an offset of the speed."""
    v = np.cumsum(RNG.normal(scale=0.1, size=(n, t, 2)), axis=1) + RNG.normal(size=(n, 1, 2)) + 2
    i = friction * np.sign(v) + 0.5 * v + RNG.normal(scale=0.3, size=v.shape)
    return np.concatenate([i, v], axis=2).astype(np.float32)


Y = np.repeat(["ice", "mud", "sand"], 20)
X = np.concatenate([drives(20, friction) for friction in (1.0, 2.0, 3.0)])
WINDOWS = WindowSet(X, y=Y, channels=NAMES, sample_rate_hz=10.0)


def fit_motors(windows=WINDOWS, **arguments):
    """Return a classifier fitted with the member on motors."""
    given = {"motors": MOTORS, "max_epochs": 1, "hidden_size": 4, "random_state": 0, **arguments}
    return plain_classifier(**given).fit(windows)


@pytest.fixture(scope="module")
def fitted():
    return fit_motors()


def test_the_member_separates_classes_that_differ_in_friction(fitted):
    assert fitted.features_.names == ("motors",)
    assert fitted.score(WINDOWS) > 0.9
    names = [name for name, _ in fitted.model_.sum.members["motors"].most_used(69)]
    means = dict(fitted.model_.sum.members["motors"].most_used(69))
    name = next(each for each in names if each.startswith("curL: friction"))
    np.testing.assert_allclose(means[name], [1, 2, 3], rtol=0.2)


@pytest.mark.parametrize("scale", ["standard", "robust", None])
def test_features_are_those_of_physical_values_with_any_scale(scale):
    member = fit_motors(scale=scale).model_.sum.members["motors"]
    assert isinstance(member, MotorsMember)
    scaled = X if scale is None else fit_motors(scale=scale).scaler_.transform_to_float32(X)
    expected = motor_features(ROLES, X.astype(np.float64), None, 10.0)
    np.testing.assert_allclose(
        member.windows.features(scaled, None), expected, atol=1e-3, rtol=1e-3
    )


def test_augmented_copies_are_not_fitted():
    first, second = (fit_motors(augment=augment) for augment in (None, {"scaling": 0.5}))
    states = [each.model_.sum.members["motors"].state()[1] for each in (first, second)]
    for name, array in states[0].items():
        np.testing.assert_array_equal(states[1][name], array)


def test_a_speed_of_0_is_exactly_0_after_scaling():
    still = X.copy()
    still[:, 10:] = 0.0
    windows = replace(WINDOWS, X=still)
    member = fit_motors(windows).model_.sum.members["motors"]
    scaled = fit_motors(windows).scaler_.transform_to_float32(still)
    assert not member.windows.physical(scaled)[:, 10:].any()


def test_a_model_is_the_same_after_saving(fitted, tmp_path):
    for again in reloaded(fitted, tmp_path):
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    assert SensorLSTMClassifier.load(tmp_path / "model").motors == MOTORS


DAMAGES = {
    "no motors": ({"motors": []}, {}),
    "no such channel": ({"motors": [[[0, 9], ["a", "b"], ["", ""]]]}, {}),
    "a name that is no text": ({"motors": [[[0, 1], ["a", 1], ["", ""]]]}, {}),
    "a rate below 0": ({"rate_hz": -1.0}, {}),
    "no steps": ({"every": 0}, {}),
    "a factor that is no number": ({}, {"factor": np.full(4, np.nan)}),
    "another number of channels": ({}, {"center": np.zeros(3)}),
    "other means": ({}, {"means": np.zeros((3, 5))}),
}


@pytest.mark.parametrize(("settings", "arrays"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_member_is_refused(settings, arrays, fitted):
    own_settings, own_arrays = fitted.model_.sum.members["motors"].state()
    with pytest.raises((ValueError, TypeError, LookupError)):
        MotorsMember.restore({**own_settings, **settings}, {**own_arrays, **arrays})


WRONG = {
    "an empty list": ([], r"must be a list of pairs \(current, speed\)"),
    "a text": ("curL:velL", "must be a list of pairs"),
    "three channels": ([("curL", "velL", "velR")], "must be a list of pairs"),
    "an unknown name": (
        [("curL", "velLL")],
        "'velLL', which is not a channel. Did you mean 'velL'?",
    ),
    "a number out of range": ([(0, 4)], r"4, which is not a channel. Channels: .*\(0 to 3\)"),
    "a channel twice": ([("curL", "velL"), ("curR", "velL")], "names channel 'velL' twice"),
    "a channel as both": ([("curL", "curL")], "names channel 'curL' twice"),
}


@pytest.mark.parametrize(("motors", "text"), WRONG.values(), ids=WRONG)
def test_wrong_roles_are_refused_before_training(motors, text, monkeypatch):
    monkeypatch.setattr("sensorseq.estimator.fit.train_networks", None)
    with pytest.raises(ArgumentError, match=text):
        fit_motors(motors=motors)


def recordings():
    for number, (label, window) in enumerate(zip(Y[::2], X[::2], strict=True)):
        channels = tuple(map(Channel, NAMES))
        times = np.arange(32) / 10.0
        yield Recording(window.astype(np.float64), times, channels, f"r{number}", label=str(label))


def prepared(**options):
    return PreparePipeline(window_s=3.2, sample_rate_hz=10, **options).prepare(list(recordings()))


MOVED = {
    "detrend": {"kind": "detrend", "window_s": 1.0, "phase": "causal"},
    "band_pass": {"kind": "band_pass", "low_hz": 1.0, "phase": "causal"},
    "difference": {"kind": "difference", "lag_samples": 1, "keep": False},
    "derivative": {"kind": "derivative", "window_s": 0.5, "keep": False},
    "moving": {"kind": "moving", "window_s": 0.5, "keep": False},
}


@pytest.mark.parametrize("kind", MOVED)
def test_a_step_that_moves_zero_is_refused_before_training(kind, monkeypatch):
    monkeypatch.setattr("sensorseq.estimator.fit.train_networks", None)
    windows = prepared(steps=[{**MOVED[kind], "channels": ["velL"]}])
    (name,) = [each for each in windows.channels if each.startswith("velL")]
    with pytest.raises(ArgumentError, match=f"the step '{kind}' removed from '{name}'"):
        fit_motors(windows, motors=[("curL", name), ("curR", "velR")])


def test_windows_without_a_physical_zero_are_refused(monkeypatch):
    monkeypatch.setattr("sensorseq.estimator.fit.train_networks", None)
    with pytest.raises(ArgumentError, match="normalize='recording' moves"):
        fit_motors(prepared(normalize="recording"))
    joined = WindowSet.concatenate([prepared(), prepared(normalize="recording")])
    with pytest.raises(ArgumentError, match="normalize='recording' moves"):
        fit_motors(replace(joined, split=None))
    scaled = replace(WINDOWS, provenance={"scaled": "standard"})
    with pytest.raises(ArgumentError, match=r"already scaled \('standard'\)"):
        fit_motors(scaled, scale=None)


def test_a_step_that_keeps_zero_is_allowed():
    low = {
        "kind": "band_pass",
        "high_hz": 3.0,
        "channels": ["velL"],
        "phase": "causal",
        "keep": True,
    }
    signed = {"kind": "signed_by", "value": "curL", "by": "velL_filtered", "keep": True}
    windows = prepared(steps=[low, signed])
    found = fit_motors(windows, motors=[("curL_signed_by_velL_filtered", "velL_filtered")])
    assert "motors" in [each.name for each in found.features_.candidates]


def test_every_kind_of_step_is_either_refused_or_keeps_zero():
    """A step that turns a constant into another constant moves zero, whatever its name is."""
    channels = (Channel("a", "A"), Channel("b", "V"), Channel("c", "A"))
    steps = {
        **{kind: {**step, "channels": ["a"]} for kind, step in MOVED.items()},
        "notch": {"kind": "notch", "frequency_hz": 50, "channels": ["a"]},
        "product": {"kind": "product", "left": "a", "right": "b"},
        "power": {"kind": "power", "current": "a", "voltage": "b"},
        "subtract": {"kind": "subtract", "left": "a", "right": "c"},
        "signed_by": {"kind": "signed_by", "value": "a", "by": "b"},
        "magnitude": {"kind": "magnitude", "channels": ["a", "c"]},
    }
    assert {*steps, "chain"} == STEPS.keys()
    keeps = {"notch", "product", "power", "signed_by"}
    for kind, step in steps.items():
        lost = StepChain((make_step(step),)).without_zero(channels)
        assert set(lost.values()) == (set() if kind in keeps else {kind})
    after = [steps["detrend"], steps["notch"], {**steps["product"], "name": "own"}]
    chain = StepChain((StepChain(tuple(map(make_step, after))),))
    lost = chain.without_zero(channels)
    assert lost == {"a": "detrend", "own": "detrend"}


def test_a_motor_that_never_moves_is_left_out_with_a_warning():
    still = X.copy()
    still[:, :, 2] = 1.5
    with pytest.warns(UserWarning, match="the speed 'velL' never changes"):
        found = fit_motors(replace(WINDOWS, X=still))
    assert found.model_.sum.members.keys() == {"lstm"}
    assert "a motor never moves" in found.features_.reason


def test_missing_samples_give_finite_predictions():
    gaps = X.copy()
    gaps[RNG.random(gaps.shape) < 0.1] = np.nan
    found = fit_motors(replace(WINDOWS, X=gaps), missing="expected")
    assert found.score(WINDOWS) > 0.8
    few = X[:6].copy()
    few[0, 1:] = np.nan
    few[1, :, 2] = np.nan
    few[2, :, :2] = np.nan
    few[3, 2:, 3] = np.nan
    assert np.isfinite(found.predict_proba(few)).all()


def test_values_that_were_held_are_read_once():
    held = np.repeat(X[:, ::4], 4, axis=1)
    provenance = {"held": ["curL", "curR"], "configuration": {}}
    windows = replace(WINDOWS, X=held, provenance=provenance)
    member = fit_motors(windows).model_.sum.members["motors"]
    assert (member.windows.every, member.windows.rate_hz) == (4, 2.5)
    expected = motor_features(ROLES, X[:, ::4].astype(np.float64), None, 2.5)
    scaled = fit_motors(windows).scaler_.transform_to_float32(held)
    found = member.windows.features(scaled, np.full(len(X), 30))
    np.testing.assert_allclose(found, expected, atol=1e-3, rtol=1e-3)


def test_an_adapted_model_reads_the_same_physical_values(monkeypatch):
    monkeypatch.setattr("sensorseq.estimator.adapt._doubt", lambda *_: "")
    fitted = fit_motors()
    other = replace(WINDOWS, X=X * np.float32(1.3))
    adapted = fitted.adapt(other)
    assert adapted.adaptation_.scaling_share > 0
    found = [each.model_.sum.members["motors"].windows for each in (fitted, adapted)]
    values = [
        own.physical(each.scaler_.transform_to_float32(X))
        for own, each in zip(found, (fitted, adapted), strict=True)
    ]
    np.testing.assert_allclose(*values, atol=1e-4)


def test_motors_belong_to_the_sensor_that_has_their_channels():
    imu = WindowSet(X[:, :, :2] - 1, y=Y, channels=("ax", "ay"))
    given = {"features": None, "max_epochs": 1, "hidden_size": 4, "random_state": 0}
    clf = fused_classifier(motors=MOTORS, **given).fit({"imu": imu, "motor": WINDOWS})
    assert clf.sensors_["motor"].features_.names == ("motors",)
    assert clf.sensors_["imu"].motors is None
    with pytest.raises(ArgumentError, match=r"\('curL', 'ax'\).* one sensor; 0 sensors"):
        fused_classifier(motors=[("curL", "ax")], **given).fit({"imu": imu, "motor": WINDOWS})


def test_a_stream_gives_the_predictions_of_whole_windows():
    windows = prepared()
    found = fit_motors(windows)
    (recording, *_) = recordings()
    stream = found.stream()
    times = recording.timestamps_s
    decisions = [*stream.push(recording.values, times), *stream.flush()]
    expected = found.predict_proba(windows)[list(windows.recording_id).index("r0")]
    np.testing.assert_array_equal(decisions[0].probabilities, expected)


def test_few_windows_are_refused_only_if_motors_were_asked_for():
    few = WINDOWS.take([0, 1, 20, 21])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain_classifier(features="auto", max_epochs=1, validation_fraction=0.5).fit(few)
        with pytest.raises(ArgumentError, match="cannot be weighted"):
            fit_motors(few.take([0, 2]), validation_fraction=0.0, early_stopping=False)


def test_the_page_lists_what_separates_the_classes(fitted):
    page = make_page(fitted, None, title="t")
    name, means = fitted.model_.sum.members["motors"].most_used(1)[0]
    assert "What separates the classes: motors" in page
    assert escape(name) in page
    assert f"{means[0]:.3g}" in page
    assert "motors</h2>" not in make_page(plain_classifier(max_epochs=1).fit(X, Y), None, title="t")


def test_the_command_line_names_motors_and_repeats_them():
    assert read_motors("curL:velL, curR:velR") == MOTORS
    options = settings_as_options({"motors": MOTORS})
    (text,) = [each for each in shlex.split(options) if each != "--set"]
    assert read_settings([text]) == {"motors": [list(pair) for pair in MOTORS]}
