import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq.errors import ArgumentError, SignalError, WindowError
from sensorseq.preprocessing import (
    ChannelScaler,
    ClassBalancer,
    Resampler,
    SignalSteps,
    Windower,
)
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.recording import LabelSpan, Recording
from sensorseq.windows import WindowSet


@parametrize_with_checks([ChannelScaler(), ChannelScaler("robust"), ChannelScaler(None)])
def test_scikit_learn_accepts_the_scaler(estimator, check):
    check(estimator)


def windows(n_windows=20, n_timesteps=30, n_channels=2, **more):
    X = np.random.default_rng(0).normal(3, 2, (n_windows, n_timesteps, n_channels))
    return WindowSet(X.astype(np.float32), **more)


def recordings():
    """Return uneven recordings with a gap, a slow channel, and labels that change."""
    rng, made = np.random.default_rng(0), []
    for at in range(8):
        times = np.r_[np.arange(300), 400 + np.arange(60 * at, 500)] / 100.0
        times += rng.uniform(0, 0.003, len(times))
        values = np.column_stack([np.sin(times + at), rng.normal(size=len(times))])
        values[np.arange(len(times)) % 7 > 0, 1] = np.nan
        middle_s = float(times[150])
        spans = [LabelSpan(0.0, middle_s, "ab"[at % 2]), LabelSpan(middle_s, 10.0, "ba"[at % 2])]
        if at % 4 == 3:
            spans = [LabelSpan(0.0, 10.0, "b")]
        made.append(Recording(values, times, ("current", "slow"), f"run {at}", label_spans=spans))
    return made


def test_a_window_set_and_its_arrays_are_scaled_alike():
    lengths = np.r_[np.full(15, 30), np.arange(5)]
    given = windows(lengths=lengths, channels=("a", "b"), sample_rate_hz=50.0)
    scaler = ChannelScaler()
    scaled = scaler.fit_transform(given)
    by_array = ChannelScaler().fit_transform(given.X, lengths=lengths)
    np.testing.assert_array_equal(scaled.X, by_array)
    assert (scaled.channels, scaled.sample_rate_hz) == (("a", "b"), 50.0)
    valid = scaled.X[np.arange(30) < lengths[:, None]]
    np.testing.assert_allclose(valid.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(valid.std(axis=0), 1, atol=1e-5)
    back = scaler.inverse_transform(scaled)
    np.testing.assert_allclose(back.X[:15], given.X[:15], atol=1e-5)
    assert scaler.n_features_in_ == 2


def test_only_the_training_part_of_a_split_window_set_is_used_for_fitting():
    split = np.repeat(["train", "validation", "test"], [12, 4, 4])
    given = windows(split=split)
    scaler = ChannelScaler().fit(given)
    expected = ChannelScaler().fit(given.X[:12])
    np.testing.assert_array_equal(scaler.channel_center_, expected.channel_center_)


def test_windows_are_scaled_once():
    scaled = ChannelScaler().fit_transform(windows())
    for use in (ChannelScaler().fit, ChannelScaler().fit(windows()).transform):
        with pytest.raises(WindowError, match="already scaled"):
            use(scaled)


def test_dimensions_are_those_of_fit():
    X = windows().X
    with pytest.raises(SignalError, match="newaxis"):
        ChannelScaler().fit(X).transform(X[:, :, 0])
    with pytest.raises(SignalError, match="newaxis"):
        ChannelScaler().fit(X[:, :, 0]).transform(X)
    with pytest.raises(SignalError, match="1 channels"):
        ChannelScaler().fit(X).transform(X[:, :, :1])


def test_lengths_are_routed_through_a_pipeline():
    X = windows().X.copy()
    X[:, 20:] = np.nan
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(ChannelScaler(), ChannelScaler())
        lengths = np.full(20, 20)
        scaled = pipeline.fit(X, lengths=lengths).transform(X, lengths=lengths)
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize(
    "options",
    [
        {"window_s": 0.5, "hop_s": 0.25},
        {"window_s": 1.0, "max_gap_s": 0.2, "attenuation_db": 60.0, "short": "pad"},
        {"window_s": 0.5, "label_rule": "majority", "min_purity": 0.8},
        {"window_s": 0.5, "steps": [{"kind": "difference"}]},
        {"window_s": 0.5, "scale": "robust", "balance": "oversample", "random_state": 3},
        {"window_s": 0.5, "balance": "undersample", "max_per_recording": 12},
    ],
)
def test_the_transformers_return_what_the_pipeline_returns(options):
    def chosen(*names):
        return {name: options[name] for name in names if name in options}

    given = recordings()
    pipeline = PreparePipeline(sample_rate_hz=50.0, **options)
    windows = pipeline.prepare(given)
    made = make_pipeline(
        Resampler(50.0, **chosen("max_gap_s", "attenuation_db")),
        SignalSteps(options.get("steps")),
        Windower(**chosen("window_s", "hop_s", "label_rule", "min_purity", "short")),
    ).fit_transform(given)
    for name in ("X", "y", "lengths", "groups", "recording_id", "start_s"):
        np.testing.assert_array_equal(getattr(made, name), getattr(windows, name))
    assert (made.channels, made.sample_rate_hz) == (windows.channels, windows.sample_rate_hz)

    scaled = ChannelScaler(options.get("scale", "standard")).fit_transform(windows)
    expected = pipeline.scaler_.transform(windows.X, windows.lengths)
    np.testing.assert_array_equal(scaled.X, expected)

    if "balance" in options:
        seed = options.get("random_state", 0)
        balancer = ClassBalancer(options["balance"], seed, **chosen("max_per_recording"))
        balanced, y = balancer.fit_resample(windows)
        train = windows.take(pipeline.sample_indices_)
        np.testing.assert_array_equal(balanced.part("train").X, train.X)
        np.testing.assert_array_equal(y, windows.y[balancer.sample_indices_])


def test_new_recordings_hold_the_channels_of_the_training_recordings():
    """A gear that one training recording shows to be a measurement is interpolated in all."""
    times = np.arange(310) / 100.0
    slow = np.full(310, np.nan)
    slow[::10] = np.arange(31) % 3  # looks like codes
    codes = Recording(np.column_stack([slow, times]), times, ("slow", "fast"), "codes", label="a")
    measured = Recording(
        np.column_stack([slow + 0.1 * np.sin(7 * times), times]),
        times,
        ("slow", "fast"),
        "measured",
        label="b",
    )
    for train, held in (([codes], ["slow"]), ([codes, measured], [])):
        resampler = Resampler(100.0).fit(train)
        assert resampler.held_ == held
        alike = PreparePipeline(window_s=3.0, split=None, sample_rate_hz=100.0).prepare(train)
        pieces = resampler.transform([codes])
        np.testing.assert_array_equal(pieces[0].values.astype(np.float32)[:300], alike.X[0])


def unbalanced(**more):
    more = {"y": np.repeat(["ice", "mud"], [20, 10]), "recording_id": np.arange(30) // 5} | more
    return windows(30, start_s=np.arange(30.0), **more)


@pytest.mark.parametrize("strategy", ["undersample", "oversample"])
def test_a_window_set_and_its_arrays_are_balanced_alike(strategy):
    given = unbalanced()
    balancer = ClassBalancer(strategy=strategy, random_state=0)
    X, y = balancer.fit_resample(given.X, given.y, groups=given.groups)
    rows = balancer.sample_indices_
    np.testing.assert_array_equal(X, given.X[rows])
    np.testing.assert_array_equal(y, given.y[rows])
    is_copy = np.diff(rows, prepend=-1) == 0  # the recipe of docs/preprocessing/augmentation.md
    np.testing.assert_array_equal(rows[~is_copy], np.unique(rows))
    as_set, y_of_set = clone(balancer).fit_resample(given)
    np.testing.assert_array_equal(as_set.X, X)
    np.testing.assert_array_equal(as_set.recording_id, given.groups[rows])
    np.testing.assert_array_equal(y_of_set, y)


@pytest.mark.parametrize("strategy", ["oversample", "undersample"])
def test_validation_and_test_windows_stay_bit_for_bit(strategy):
    split = np.tile(["train", "train", "validation", "test", "train"], 6)
    given, step = unbalanced(split=split), ClassBalancer(strategy, 0)
    found, _ = step.fit_resample(given)
    for part in ("validation", "test"):
        kept, was = found.part(part), given.part(part)
        assert kept.X.tobytes() == was.X.tobytes()
        np.testing.assert_array_equal(kept.start_s, was.start_s)
    assert len(found.part("train")) != len(given.part("train"))


def test_input_that_the_balancer_cannot_use_is_refused():
    given = unbalanced(split=np.repeat(["train", "test"], 15))
    with pytest.raises(WindowError, match="at least one window") as caught:
        ClassBalancer().fit_resample(given.part("test"))
    assert "in the training part, which alone is balanced" in caught.value.__notes__
    with pytest.raises(ArgumentError, match="the WindowSet X already has groups"):
        ClassBalancer().fit_resample(given, groups=given.groups)
    for X in (windows(), windows().X):
        with pytest.raises(WindowError, match=r"y has shape \(\); expected \(n_windows,\)"):
            ClassBalancer().fit_resample(X)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[20, 3\]"):
        ClassBalancer().fit_resample(windows().X, [0, 1, 0])


@pytest.mark.parametrize("flat", [False, True])
def test_the_balancer_works_in_the_pipeline_of_imbalanced_learn(flat):
    pipeline = pytest.importorskip("imblearn.pipeline")
    given = unbalanced(groups=np.repeat([0, 1, 2, 3], [17, 2, 1, 10]))
    X = given.X[:, :, 0] if flat else given.X
    alone = ClassBalancer(random_state=0)
    alone.fit_resample(X, given.y, groups=given.groups)
    steps = pipeline.make_pipeline(ChannelScaler(), clone(alone), DummyClassifier(strategy="prior"))
    with sklearn.config_context(enable_metadata_routing=True):
        steps.fit(X, given.y, groups=given.groups)
    np.testing.assert_array_equal(steps[1].sample_indices_, alone.sample_indices_)
    np.testing.assert_allclose(steps[-1].class_prior_, [0.5, 0.5])
    assert len(steps.predict(X)) == 30
    counts = np.bincount(given.groups[alone.sample_indices_])
    assert counts.tolist() == [7, 2, 1, 10]  # groups contribute in turn, not in proportion


def test_parameters_survive_cloning():
    for step in (
        ClassBalancer("oversample", 3, max_per_recording=0.2),
        Resampler(50.0, 0.2),
        Windower(1.0, 0.5),
    ):
        assert clone(step).get_params() == step.get_params()


def test_the_scaler_divides_by_rated_values():
    given = windows(channels=("current", "gyro"))
    by_name = ChannelScaler("physical", rated={"gyro": 2, "current": 20})
    np.testing.assert_array_equal(by_name.fit_transform(given).X, given.X / np.float32([20, 2]))
    by_place = ChannelScaler("physical", rated=[20, 2])
    np.testing.assert_array_equal(by_place.fit_transform(given.X), by_name.transform(given).X)
    with pytest.raises(ArgumentError, match="the channels have no names here"):
        by_name.fit(given.X)


def test_the_scaler_reports_constant_channels():
    given = windows()
    given.X[:, :, 1] = 4.0
    assert ChannelScaler().fit(given).constant_channels_ == (1,)
    assert ChannelScaler().fit(given.X).constant_channels_ == (1,)
