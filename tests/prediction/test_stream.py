import copy
import functools
from dataclasses import replace

import numpy as np
import pytest
from fits import plain_classifier
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq import PreparePipeline, Recording
from sensorseq.errors import InputError, SignalError
from sensorseq.prediction.decisions import Abstention
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.recording import Channel
from sensorseq.sequence.smoothing import Smoothing

CHANNELS = (Channel("cur", "A"), Channel("vel", "rad/s"))
STEPS = [
    {"kind": "band_pass", "high_hz": 8.0, "phase": "causal"},
    {"kind": "moving", "window_s": 0.5, "statistic": "rms"},
]


def recording(name, label, n=600, rate=50.0, seed=0, t=None):
    rng = np.random.default_rng(seed)
    t = np.arange(n) / rate if t is None else t
    wave = np.sin(2 * np.pi * (3 if label == "rough" else 1) * t)[:, None]
    x = wave + 0.5 * rng.normal(size=(len(t), 2))
    return Recording(x, t, CHANNELS, name, name, label)


def fitted(features=None, **options):
    kinds = ("calm", "rough")
    recordings = [recording(f"{kind}{i}", kind, seed=i) for kind in kinds for i in range(6)]
    pipeline = PreparePipeline(**{"window_s": 1.0, "hop_s": 0.25, "split": None, **options})
    model = plain_classifier(hidden_size=6, max_epochs=2, random_state=0, features=features)
    return model.fit(pipeline.prepare(recordings))


VARIANTS = {
    "plain": {},
    "resampled, steps": {"sample_rate_hz": 20.0, "steps": STEPS, "hop_s": 0.33},
    "zero phase": {"steps": [{"kind": "detrend", "window_s": 1.0}]},
    "features": {"features": ["rocket", "summary"]},
}


@functools.cache
def shared(variant="plain"):
    """A model that no test changes."""
    return fitted(**VARIANTS[variant])


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    return shared(request.param)


def offline(model, given):
    windows = RecordingPlan.recorded(model.preparation_).prepare([given])
    return model.predict_proba(windows), np.asarray(windows.start_s)


def stream_in(stream, given, sizes=(13,), stamped=True):
    decisions, at, i = [], 0, 0
    while at < given.n_samples:
        rows = slice(at, at + sizes[i % len(sizes)])
        stamps = given.timestamps_s[rows] if stamped else None
        decisions += stream.push(given.values[rows], stamps)
        at, i = rows.stop, i + 1
    return decisions + stream.flush()


def assert_same(model, decisions, given):
    probability, start_s = offline(model, given)
    np.testing.assert_array_equal([decision.probabilities for decision in decisions], probability)
    np.testing.assert_allclose([decision.start_s for decision in decisions], start_s, atol=1e-9)
    labels = model.classes_[probability.argmax(axis=1)].tolist()
    assert [decision.label for decision in decisions] == labels


@settings(max_examples=2)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4))
def test_decisions_are_those_of_the_whole_recording(model, sizes):
    log = recording("new", "rough", n=417, seed=9)
    assert_same(model, stream_in(model.stream(50.0), log, sizes), log)


def test_pieces_between_gaps_are_those_of_the_whole_recording(model):
    t = np.arange(900) / 50.0 + np.where(np.arange(900) >= 420, 3.0, 0.0)
    log = recording("new", "calm", seed=3, t=t)
    stream = model.stream(50.0)
    assert_same(model, stream_in(stream, log), log)
    assert stream.counts["n_gaps"] == 1


@pytest.mark.parametrize("rate", [20.0, 50.0])
def test_stamps_since_1970_give_the_decisions_of_stamps_from_0(rate):
    model = fitted(sample_rate_hz=rate, hop_s=0.5)
    log = recording("new", "rough", n=417, seed=9)
    since_1970 = replace(log, timestamps_s=1_709_283_600.123 + log.timestamps_s)
    assert_same(model, stream_in(model.stream(50.0), since_1970), since_1970)
    assert_same(model, stream_in(model.stream(50.0), log), log)
    for one, other in zip(offline(model, since_1970), offline(model, log), strict=True):
        np.testing.assert_allclose(one - one[0], other - other[0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(offline(model, since_1970)[0], offline(model, log)[0])


@pytest.mark.parametrize(("rate", "named"), [(100.0, "100 Hz"), (54.0, "54 Hz"), (25.0, "25 Hz")])
@pytest.mark.parametrize("start_s", [0.0, 1_709_283_600.0])
def test_stamps_of_a_different_rate_are_refused_before_many_decisions(rate, named, start_s):
    """If samples at 100 Hz were read as samples at 50 Hz, movements would seem half as fast."""
    model = shared()
    log = recording("new", "rough", n=900, seed=9, t=start_s + np.arange(900) / rate)
    message = f"timestamps give {named}, which does not match 50 Hz.*sample_rate_hz"
    with pytest.raises(SignalError, match=message):
        stream_in(model.stream(), log)
    assert stream_in(model.stream(rate), log)


def test_lost_samples_and_a_drifting_clock_are_not_taken_for_a_different_rate():
    model, t = shared(), np.arange(900) / 50.0
    kept = np.random.default_rng(0).random(900) > 0.2
    for stamps in (t[kept], t * 1.02, t * 0.98):
        assert stream_in(model.stream(), recording("new", "rough", seed=9, t=stamps))


@pytest.mark.parametrize(
    ("smooth", "lag", "variant"),
    [("filter", None, "resampled, steps"), ("lag", 2, "plain"), ("lag", 0, "zero phase")],
)
@pytest.mark.parametrize("mean_dwell_s", [None, 6.0])
def test_smoothed_decisions_are_those_of_the_timeline(smooth, lag, variant, mean_dwell_s):
    model = copy.copy(shared(variant))
    dwell = {"mean_s": [4.0, 9.0], "follows": [[0.0, 1.0], [1.0, 0.0]]}
    model.model_ = model.model_.with_input(preparation={**model.preparation_, "dwell": dwell})
    t = np.arange(600) / 50.0 + np.where(np.arange(600) >= 320, 4.0, 0.0)
    log = recording("new", "rough", seed=6, t=t)
    how = {"smooth": Smoothing(smooth, lag, mean_dwell_s)}
    stream, bare = model.stream(50.0, **how), model.stream(50.0)
    decisions, expected = stream_in(stream, log), model.timeline(log, **how)
    np.testing.assert_array_equal(
        [decision.probabilities for decision in decisions], expected.probabilities
    )
    assert [decision.label for decision in decisions] == expected.labels.tolist()
    np.testing.assert_allclose(
        [decision.start_s for decision in decisions], expected.start_s, atol=1e-9
    )
    assert stream.counts["n_decisions"] == len(decisions) == len(stream_in(bare, log))
    hop_s = model.preparation_["configuration"]["window"]["hop_s"]
    assert stream.latency_s == pytest.approx(bare.latency_s + (lag or 0) * hop_s)


def test_a_decision_is_due_no_later_than_its_latency(model):
    log = recording("new", "rough", seed=4)
    stream = model.stream(50.0)
    due = [decision for row in range(300) for decision in stream.push(log.values[row : row + 1])]
    period = 1 / stream.sensors[""]._rate
    assert due
    assert max(decision.delay_s for decision in due) <= stream.latency_s + period + 1e-9


def test_a_stream_begins_again_after_flush():
    model = shared()
    stream, log = model.stream(), recording("new", "calm", seed=5)
    first = stream_in(stream, log, stamped=False)
    assert stream_in(stream, log, stamped=False) == first
    assert stream.counts["n_decisions"] == 2 * len(first)
    assert stream.flush() == []


def test_short_pieces_are_padded_where_training_padded_them():
    model = fitted(short="pad")
    log = recording("new", "calm", n=30)
    assert_same(model, stream_in(model.stream(), log), log)
    assert stream_in(shared().stream(), log) == []


def test_a_decision_states_whether_it_reaches_the_threshold():
    model = fitted()
    log = recording("new", "calm", seed=6)
    stream = model.stream()
    assert {decision.answered for decision in stream_in(stream, log)} == {None}
    probability, _ = offline(model, log)
    threshold = float(np.median(probability.max(axis=1)))
    model.abstention_ = Abstention(threshold, *[0.0] * (len(Abstention._fields) - 1))
    stream = model.stream()
    answered = [decision.answered for decision in stream_in(stream, log)]
    assert answered == (probability.max(axis=1) >= threshold).tolist()
    plain = stream_in(stream, log)[0].to_dict(stream.classes)
    assert list(plain["probabilities"]) == ["calm", "rough"]
    smooth = stream_in(model.stream(smooth=Smoothing("lag", mean_dwell_s=6.0)), log)
    highest = [max(decision.probabilities) for decision in smooth]
    assert [decision.probability for decision in smooth] == highest
    assert [decision.answered for decision in smooth] == [p >= threshold for p in highest]
    assert len({decision.answered for decision in smooth}) == 2


@pytest.mark.parametrize("begin_s", [-50.0, -0.1, 0.007, 50.0])
def test_decisions_begin_at_the_first_stamp_whatever_its_sign(begin_s):
    log = recording("new", "rough", seed=7, t=begin_s + np.arange(600) / 50.0)
    decisions = stream_in(shared().stream(), log)
    assert decisions[0].start_s == begin_s
    assert_same(shared(), decisions, log)


def test_a_window_begins_at_the_time_of_its_first_sample_however_samples_are_pushed():
    t = np.arange(3000) / 50.3  # the sensor's clock is 0.6 % fast
    log = recording("new", "rough", seed=8, t=t)
    whole, *others = (
        stream_in(shared().stream(smooth="lag"), log, sizes) for sizes in ((3000,), (50,), (1,))
    )
    starts_s = [decision.start_s for decision in whole]
    first = np.ceil(np.arange(len(whole)) * 12.5).astype(int)  # 0.25 s after one another
    np.testing.assert_allclose(starts_s, t[first], atol=0.01)
    for other in others:
        assert [replace(one, delay_s=0.0) for one in other] == [
            replace(one, delay_s=0.0) for one in whole
        ]


@pytest.mark.parametrize("rate_hz", [50.04, 49.97])
def test_times_follow_a_rate_that_hardly_differs_from_the_models(rate_hz):
    log = recording("new", "rough", n=5000, seed=8, t=np.arange(5000) / rate_hz)
    for stamped in (True, False):
        last = stream_in(shared().stream(rate_hz), log, (100,), stamped)[-1]
        assert last.end_s == pytest.approx(log.timestamps_s[-1], abs=0.3)


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300])
def test_a_value_that_is_no_float32_is_missing_and_counted(model, value):
    bad, missing = (recording("new", "calm", seed=9) for _ in range(2))
    bad.values[300, 1], missing.values[300, 1] = value, np.nan
    stream, other = model.stream(50.0), model.stream(50.0)
    assert stream_in(stream, bad) == stream_in(other, missing)
    assert stream.counts == {**other.counts, "n_infinite": 1}


@pytest.mark.parametrize("stamp_s", [1e308, -1e308, 1e18, np.inf, np.nan])
def test_a_sample_with_an_impossible_stamp_is_missing_and_counted(model, stamp_s):
    log = recording("new", "calm", seed=9)
    bad = replace(log, attributes={})
    stamps = log.timestamps_s.copy()
    stamps[300] = stamp_s
    kept = np.arange(600) != 300
    stream, other = model.stream(50.0), model.stream(50.0)
    found = stream.push(bad.values, stamps) + stream.flush()
    assert found == other.push(log.values[kept], log.timestamps_s[kept]) + other.flush()
    assert stream.counts == {**other.counts, "n_bad_stamps": 1}
    assert stream.counts["n_filled"] == 1


def test_a_window_that_a_step_makes_infinite_has_no_class():
    model = fitted(steps=[{"kind": "product", "left": "cur", "right": "vel"}])
    log = recording("new", "calm", seed=9)
    log.values[300] = 1e30
    decisions = stream_in(model.stream(), log)
    lost = [decision for decision in decisions if decision.start_s <= 6.0 < decision.end_s]
    assert [decision.lacks for decision in lost] == [2] * len(lost)
    assert {decision.answered for decision in lost} == {False}
    assert len(decisions) == len(stream_in(model.stream(), recording("new", "calm", seed=9)))


def test_a_model_that_cannot_be_streamed_is_refused():
    X = np.random.default_rng(0).normal(size=(20, 30, 2))
    arrays = plain_classifier(hidden_size=2, max_epochs=1).fit(X, np.arange(20) % 2)
    with pytest.raises(InputError, match="trained on arrays"):
        arrays.stream()
