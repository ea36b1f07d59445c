import numpy as np
import pytest
import sklearn
from cut_windows import counting
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

from sensorseq.errors import ArgumentError, SignalError, WindowError
from sensorseq.preprocessing import ChannelScaler, ClassBalancer, Resampler, Windower
from sensorseq.preprocessing.pipeline import PreparePipeline
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import LabelSpan, Recording
from sensorseq.windows import WindowSet


@parametrize_with_checks([ChannelScaler(), ChannelScaler("robust"), ChannelScaler(None)])
def test_scikit_learn_accepts_the_scaler(estimator, check):
    check(estimator)


def windows(n_windows=20, n_timesteps=30, n_channels=2, **more):
    X = np.random.default_rng(0).normal(3, 2, (n_windows, n_timesteps, n_channels))
    return WindowSet(X.astype(np.float32), **more)


def recordings():
    times = np.r_[np.arange(300), 400 + np.arange(200)] / 100.0
    waves = [np.sin(times + i)[:, None] for i in range(4)]
    return [
        Recording(wave, times, ("current",), f"run {i}", label="ab"[i % 2])
        for i, wave in enumerate(waves)
    ]


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
    np.testing.assert_array_equal(scaler.channel_mean_, scaler.channel_center_)
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


def test_padding_may_be_nan_when_lengths_are_given():
    X = windows().X.copy()
    X[:, 20:] = np.nan
    lengths = np.full(20, 20)
    assert np.isfinite(ChannelScaler().fit_transform(X, lengths=lengths)).all()
    with pytest.raises(ValueError, match="NaN"):
        ChannelScaler().fit(X)


def test_lengths_are_routed_through_a_pipeline():
    X = windows().X.copy()
    X[:, 20:] = np.nan
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(ChannelScaler(), ChannelScaler())
        lengths = np.full(20, 20)
        scaled = pipeline.fit(X, lengths=lengths).transform(X, lengths=lengths)
    assert np.isfinite(scaled).all()


def test_resampler_and_windower_make_a_pipeline_of_recordings():
    steps = make_pipeline(Resampler(50.0), Windower(0.5, hop_s=0.25))
    cut = clone(steps).fit(recordings()).transform(recordings())
    assert cut.X.shape[1:] == (25, 1)
    assert cut.sample_rate_hz == 50.0
    alike = PreparePipeline(sample_rate_hz=50.0, window_s=0.5, hop_s=0.25, split=None)
    np.testing.assert_array_equal(cut.X, alike.prepare(recordings()).X)
    assert set(cut.y) == {"a", "b"}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        (Resampler(0.0), "sample_rate_hz=0"),
        (Resampler(50.0, -1), "max_gap_s=-1"),
        (Windower(0), "window_s=0"),
        (Windower(1, 0), "hop_s=0"),
        (Windower(1, label_rule="most"), "label_rule"),
    ],
)
def test_arguments_are_checked_in_fit(step, said):
    with pytest.raises(ValueError, match=said):
        clone(step).fit(recordings())


@pytest.mark.parametrize("strategy", ["undersample", "oversample"])
def test_balanced_rows_can_be_traced(strategy):
    given = windows(y=np.repeat(["a", "b"], [14, 6]), recording_id=np.arange(20) // 2)
    lengths = np.arange(20)
    balancer = ClassBalancer(strategy=strategy, random_state=0)
    X, y = balancer.fit_resample(given.X, given.y, groups=given.groups, lengths=lengths)
    rows = balancer.sample_indices_
    np.testing.assert_array_equal(X, given.X[rows])
    np.testing.assert_array_equal(y, given.y[rows])
    np.testing.assert_array_equal(balancer.groups_, given.groups[rows])
    np.testing.assert_array_equal(balancer.lengths_, lengths[rows])
    assert len(set(np.unique(y, return_counts=True)[1])) == 1
    as_set, y_of_set = ClassBalancer(strategy=strategy, random_state=0).fit_resample(given)
    np.testing.assert_array_equal(as_set.X, X)
    np.testing.assert_array_equal(as_set.recording_id, balancer.groups_)
    np.testing.assert_array_equal(y_of_set, y)


def test_a_balancer_without_labels_or_with_too_few_labels_raises_an_error():
    with pytest.raises(WindowError, match="needs labels"):
        ClassBalancer().fit_resample(windows())
    with pytest.raises(WindowError, match="20 windows, but y has 3"):
        ClassBalancer().fit_resample(windows().X, [0, 1, 0])


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


def test_the_windower_passes_its_arguments_on():
    spans = [LabelSpan(0, 4.2, "ice"), LabelSpan(4.2, 9.8, "mud")]
    given = [counting(100, f"run {i}", label_spans=spans) for i in range(2)]
    choices = {"label_rule": "majority", "min_purity": 0.9, "short": "pad"}
    cut = clone(Windower(1.0, 0.5, **choices)).fit(given).transform(given)
    direct = window_recordings(given, 1.0, 0.5, **choices)
    for name in ("X", "y", "start_s"):
        np.testing.assert_array_equal(getattr(cut, name), getattr(direct, name))
