"""Windows of no known class: the false alarm rate is the one chosen, in every form of a model."""

import json

import numpy as np
import pytest
from c_models import CModel
from fits import plain_classifier, reloaded
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from sensorseq import PreparePipeline, Recording, SensorLSTMClassifier, SensorLSTMRegressor
from sensorseq.cli import run
from sensorseq.errors import ArgumentError, InputError, ModelFileError
from sensorseq.io.model_file import read_model, write_model
from sensorseq.prediction.out_of_distribution import OutOfDistribution
from sensorseq.recording import Channel

KNOWN = (0.2, 0.5, 0.9)
RATES = (0.02, 0.05, 0.1, 0.2)


def make_windows(n, seed, frequencies=KNOWN):
    """Noisy sines whose frequency is the class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(frequencies), n)
    t = np.arange(30)[None, :, None]
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 2))
    X = np.sin(t * np.array(frequencies)[y][:, None, None] + phase)
    return X + 0.4 * rng.normal(size=X.shape), y


X, Y = make_windows(600, seed=0)
X_VAL, Y_VAL = make_windows(400, seed=1)


@pytest.fixture(scope="module")
def model():
    settings = {"hidden_size": 8, "max_epochs": 8, "learning_rate": 0.02, "random_state": 0}
    return plain_classifier(**settings).fit(X, Y, X_val=X_VAL, y_val=Y_VAL)


def draw(n, n_groups, seed):
    rng = np.random.default_rng(seed)
    return rng.dirichlet([0.3, 0.5, 1.0], n), rng.integers(0, n_groups, n)


@given(n=st.integers(6, 60), n_groups=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_distance_is_that_to_the_fifth_nearest_of_other_groups(n, n_groups, seed):
    p, groups = draw(n, n_groups, seed)
    known = OutOfDistribution.learn(p, groups)
    logs = np.maximum(np.log(p), -6.0)
    apart = np.linalg.norm(logs[:, None] - known.points.astype(float)[None], axis=2)
    np.testing.assert_allclose(known.distance(p), np.sort(apart, axis=1)[:, 4], rtol=1e-12)
    apart[groups[:, None] == groups[None]] = np.inf
    own = np.sort(apart, axis=1)[:, 4]
    for rate in RATES:
        threshold = known.thresholds[round(rate * 200) - 1]
        assert (own > threshold).sum() <= rate * (n + 1)  # of n + 1 exchangeable ones, the new too
        if (own > threshold).sum() + 1 <= rate * (n + 1):
            assert (own >= threshold).sum() > (own > threshold).sum()  # no lower one would do
    one_by_one = np.concatenate([known.distance(p[[i]]) for i in range(n)])
    np.testing.assert_array_equal(one_by_one, known.distance(p))


def test_new_draws_raise_as_many_alarms_as_chosen():
    alarms = np.zeros((60, len(RATES)))
    for seed in range(60):
        known = OutOfDistribution.learn(draw(400, 1, seed)[0], None)
        distance = known.distance(draw(500, 1, 1000 + seed)[0])
        alarms[seed] = [(distance > known.threshold(rate)).mean() for rate in RATES]
    mean, error = alarms.mean(axis=0), alarms.std(axis=0) / 60**0.5
    assert (mean < np.array(RATES) + 3 * error).all()
    assert (mean > 0.7 * np.array(RATES)).all()  # and no less than asked for


def test_held_out_windows_are_answered_but_for_the_chosen_share(model):
    new, _ = make_windows(2000, seed=2)
    low, high = binom.interval(0.999, 400, RATES)  # the 400 windows that chose the thresholds
    for place, rate in enumerate(RATES):
        alarms = ~model.predict_or_abstain(new, false_alarm_rate=rate).answered
        low_new, high_new = binom.interval(0.999, 2000, [low[place] / 400, high[place] / 400])
        assert low_new[0] <= alarms.sum() <= high_new[1]
    several = [model.predict_or_abstain(new, false_alarm_rate=r).answered.mean() for r in RATES]
    assert several == sorted(several, reverse=True)


@pytest.mark.trains
def test_by_default_the_windows_of_the_folds_choose_and_other_frequencies_are_found():
    fit = SensorLSTMClassifier(hidden_size=8, max_epochs=8, random_state=0)
    fit.fit(X, Y, groups=np.arange(600) // 6)
    new, strange = make_windows(1000, seed=3)[0], make_windows(300, seed=4, frequencies=(0.35, 0.7))
    for rate in RATES[1:]:
        assert (~fit.predict_or_abstain(new, false_alarm_rate=rate).answered).mean() < 1.5 * rate
        assert (~fit.predict_or_abstain(strange[0], false_alarm_rate=rate).answered).mean() > 0.8


def test_a_file_and_a_pickle_keep_it_and_an_older_file_has_none(model, tmp_path):
    new, _ = make_windows(200, seed=5)
    expected = model.predict_or_abstain(new, false_alarm_rate=0.1).answered
    assert 0 < (~expected).sum() < 100
    for copy in reloaded(model, tmp_path):
        found = copy.predict_or_abstain(new, false_alarm_rate=0.1).answered
        np.testing.assert_array_equal(found, expected)
    arrays, description = read_model(tmp_path / "model")
    without = {name: a for name, a in arrays.items() if not name.startswith("known.")}
    write_model(tmp_path / "older", without, description)
    with pytest.raises(InputError, match="it was imported, or trained without"):
        SensorLSTMClassifier.load(tmp_path / "older").predict_or_abstain(new, false_alarm_rate=0.1)
    for name, wrong in {
        "known.points": arrays["known.points"][:, :2],
        "known.thresholds": arrays["known.thresholds"][::-1],
    }.items():
        write_model(tmp_path / "wrong", {**arrays, name: np.ascontiguousarray(wrong)}, description)
        with pytest.raises(ModelFileError, match=r"known windows|do not fall"):
            SensorLSTMClassifier.load(tmp_path / "wrong")


def test_with_both_a_window_must_be_sure_and_known(model):
    new, _ = make_windows(300, seed=6)
    sure = model.predict_or_abstain(new, threshold=0.9).answered
    known = model.predict_or_abstain(new, false_alarm_rate=0.1).answered
    both = model.predict_or_abstain(new, threshold=0.9, false_alarm_rate=0.1).answered
    np.testing.assert_array_equal(both, sure & known)
    assert (sure != known).any()


def test_a_stream_decides_as_the_whole_recording(tmp_path, capsys):
    channels = (Channel("cur", "A"), Channel("vel", "rad/s"))

    def record(label, seed):
        rng, t = np.random.default_rng(seed), np.arange(400) / 50
        x = np.sin(2 * np.pi * {"calm": 1, "rough": 3}[label] * t)[:, None]
        name = f"{label}{seed}"
        return Recording(x + 0.7 * rng.normal(size=(400, 2)), t, channels, name, name, label)

    pipeline = PreparePipeline(window_s=0.5, hop_s=0.25, split=None)
    recordings = [record(label, i) for label in ("calm", "rough") for i in range(8)]
    model = plain_classifier(hidden_size=6, max_epochs=4, random_state=0)
    model.fit(pipeline.prepare(recordings))
    new = record("rough", 99)
    windows = PreparePipeline.for_prediction(model.preparation_).prepare([new])
    stream = model.stream(false_alarm_rate=0.2)
    decisions = stream.push(new.values) + stream.flush()
    expected = model.predict_or_abstain(windows, false_alarm_rate=0.2).answered
    assert [one.answered for one in decisions] == expected.tolist()
    assert not expected.all()
    assert {one.answered for one in model.stream().push(new.values)} == {None}

    file, samples = str(tmp_path / "model"), tmp_path / "samples.bin"
    model.save(file)
    samples.write_bytes(new.values.astype("<f8").tobytes())
    given = ["--input", str(samples), "--format", "float64", "--false-alarm-rate", "0.2"]
    assert run(["stream", file, *given]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["answered"] for line in lines] == expected.tolist()
    onnx = pytest.importorskip("onnx")
    assert run(["export", file, "-o", f"{file}.onnx", "--false-alarm-rate", "0.2"]) == 0
    assert [output.name for output in onnx.load(f"{file}.onnx").graph.output][1:] == ["unknown"]


def assert_unknown(model, windows, found, within):
    """The same windows are unknown as for the model, but for those at the threshold."""
    expected = ~model.predict_or_abstain(windows, false_alarm_rate=0.1).answered
    known = model._known
    distance = known.distance(model.predict_proba(windows))
    near = np.abs(distance - known.threshold(0.1)) < within
    np.testing.assert_array_equal(found[~near], expected[~near])
    assert near.mean() < 0.02
    assert expected.any()


def test_the_output_of_the_graph_is_that_of_the_model(model, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    new = make_windows(300, seed=7)[0].astype(np.float32)
    model.to_onnx(tmp_path / "m.onnx", false_alarm_rate=0.1)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    probabilities, unknown = session.run(["probabilities", "unknown"], {"X": new})
    assert_unknown(model, new, unknown, within=1e-4)
    assert probabilities.shape == (300, 3)
    model.to_onnx(tmp_path / "plain.onnx")
    plain = onnxruntime.InferenceSession(tmp_path / "plain.onnx")
    assert [output.name for output in plain.get_outputs()] == ["probabilities"]


def test_the_function_in_c_agrees_with_the_model(model, tmp_path):
    new = make_windows(300, seed=7)[0].astype(np.float32)
    export = model.to_c(tmp_path, n_timesteps=30, false_alarm_rate=0.1)
    c = CModel(export, 2, 3)
    found = [c.is_unknown(c.predict(window)) for window in new]
    assert_unknown(model, new, np.array(found), within=1e-3)
    model.to_c(tmp_path, n_timesteps=30)
    assert "is_unknown" not in export.header.read_text()


def test_what_cannot_be_chosen_is_named(model):
    for rate in (0.001, 0.6, -1, float("nan")):
        with pytest.raises(ArgumentError, match="false_alarm_rate"):
            model.predict_or_abstain(X, false_alarm_rate=rate)
    few = plain_classifier(hidden_size=2, max_epochs=1)
    few.fit(X, Y, X_val=X_VAL[:40], y_val=Y_VAL[:40])
    with pytest.raises(InputError, match=r"false_alarm_rate=0\.02.* lowest rate .* is 0\.025"):
        few.predict_or_abstain(X, false_alarm_rate=0.02)
    one = plain_classifier(hidden_size=2, max_epochs=1)
    one.fit(X, Y, X_val=X_VAL, y_val=Y_VAL, groups=np.arange(600), groups_val=[-1] * 400)
    with pytest.raises(InputError, match="too few windows or groups"):
        one.predict_or_abstain(X, false_alarm_rate=0.05)
    values = SensorLSTMRegressor(hidden_size=2, max_epochs=1).fit(X, Y * 1.0)
    with pytest.raises(ArgumentError, match="for classifiers"):
        values.to_onnx("unused.onnx", false_alarm_rate=0.05)
