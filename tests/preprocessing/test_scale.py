import tracemalloc

import numpy as np
import pytest
from cut_windows import make_windows
from hypothesis import given
from hypothesis import strategies as st
from sklearn import preprocessing

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.scale import KINDS, Scaler, fit_scaler, fit_scaler_to_blocks

PEERS = {
    "standard": preprocessing.StandardScaler(),
    "robust": preprocessing.RobustScaler(),
}


def windows(seed=0, n_windows=12, n_timesteps=40, n_channels=3, dtype=np.float64):
    rng = np.random.default_rng(seed)
    offset, spread = rng.normal(0, 10, n_channels), rng.uniform(0.1, 5, n_channels)
    return (offset + spread * rng.normal(size=(n_windows, n_timesteps, n_channels))).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_equals_scikit_learns_on_the_flattened_steps(kind):
    X = windows(n_windows=30)
    ours = fit_scaler(X, kind=kind).transform(X)
    theirs = PEERS[kind].fit_transform(X.reshape(-1, 3)).reshape(X.shape)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, -5.0, 1e6])
@given(kind=st.sampled_from([*KINDS, None]), seed=st.integers(0, 1000))
def test_transform_and_back_is_identity(kind, seed, offset):
    X = windows(seed) + offset
    scaler = fit_scaler(X, kind=kind)
    atol = 1e-12 * (1 + abs(offset)) * 100
    back = scaler.inverse_transform(scaler.transform(X))
    np.testing.assert_allclose(back, X, rtol=1e-10, atol=atol)


@given(kind=st.sampled_from([*KINDS, None]), seed=st.integers(0, 1000))
def test_steps_beyond_lengths_change_nothing_even_if_they_are_nan(kind, seed):
    rng = np.random.default_rng(seed)
    X = windows(seed)
    lengths = rng.integers(0, 41, len(X))
    lengths[0] = 40
    beyond = np.arange(40) >= lengths[:, None]
    dirty = X.copy()
    dirty[beyond] = rng.choice([np.nan, np.inf, 1e30])
    clean, same = fit_scaler(X, lengths, kind), fit_scaler(dirty, lengths, kind)
    np.testing.assert_array_equal(clean.channel_center, same.channel_center)
    np.testing.assert_array_equal(clean.channel_scale, same.channel_scale)
    scaled = same.transform(dirty, lengths)
    np.testing.assert_array_equal(scaled, clean.transform(X, lengths))
    assert (scaled[beyond] == 0).all()
    np.testing.assert_array_equal(scaled[~beyond], clean.transform(X)[~beyond])
    assert (same.inverse_transform(scaled, lengths)[beyond] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 1e8, 1e-300])
def test_a_constant_channel_is_not_amplified(kind, value):
    X = windows()
    X[:, :, 1] = value
    scaler = fit_scaler(X, kind=kind)
    scaled = scaler.transform(X)[:, :, 1]
    assert np.isfinite(scaled).all()
    assert scaler.channel_scale[1] == 1
    np.testing.assert_array_equal(scaled, 0)
    X[0, 0, 1] = value + 0.5  # a deviation in later data stays visible, in its original unit
    assert scaler.transform(X)[0, 0, 1] == pytest.approx(0.5)


def test_a_channel_that_mostly_rests_is_scaled_by_its_deviation():
    X = np.zeros((10, 10, 1))
    X[0, :, 0] = np.arange(10)
    scaler = fit_scaler(X, kind="robust")
    assert scaler.channel_scale[0] == pytest.approx(X.std())


def test_none_changes_nothing():
    X = windows()
    np.testing.assert_array_equal(fit_scaler(X, kind=None).transform(X), X)


@pytest.mark.parametrize("kind", [*KINDS, None])
def test_to_dict_and_back_is_identity_and_uses_only_arrays(kind):
    X = windows()
    scaler = fit_scaler(X, kind=kind)
    fields = scaler.to_dict()
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "uf" for a in fields.values())
    again = Scaler.from_dict(fields)
    assert again.kind == kind
    np.testing.assert_array_equal(again.transform(X), scaler.transform(X))


def test_stored_statistics_that_contradict_each_other_are_refused():
    fields = fit_scaler(windows()).to_dict()
    with pytest.raises(SignalError, match="are inconsistent"):
        Scaler.from_dict({**fields, "channel_scale": np.ones(2)})
    with pytest.raises(ArgumentError, match="standard"):
        Scaler.from_dict({**fields, "kind": np.frombuffer(b"standart", np.uint8)})


def test_two_dimensions_are_one_channel():
    X = windows(n_channels=1)
    flat, full = fit_scaler(X[:, :, 0]), fit_scaler(X)
    np.testing.assert_array_equal(flat.transform(X[:, :, 0]), full.transform(X)[:, :, 0])


def test_errors_say_where_and_what():
    X = windows()
    with pytest.raises(ArgumentError, match="Did you mean 'standard'"):
        fit_scaler(X, kind="standart")
    scaler = fit_scaler(X)
    with pytest.raises(SignalError, match=r"2 channels.* 3"):
        scaler.transform(X[:, :, :2])
    for wrong, lengths, said in (
        (X, np.zeros(len(X), int), "no window has a valid step"),
        (X, [40, 41] + [40] * 10, r"lengths\[1\] is 41"),
        (X, [40], "lengths has 1 value, but X has 12 windows"),
        (np.zeros(5), None, "expected"),
    ):
        with pytest.raises(SignalError, match=said):
            fit_scaler(wrong, lengths)
    X[3, 7, 2] = np.nan
    for use in (fit_scaler, scaler.transform):
        with pytest.raises(SignalError, match="NaN in window 3, step 7, channel 2"):
            use(X)


def test_physical_divides_by_the_rated_value_and_learns_nothing():
    X = windows()
    scaler = fit_scaler(X, kind="physical", rated=[20.0, 1.0, 0.5])
    np.testing.assert_array_equal(scaler.transform(X), X / [20.0, 1.0, 0.5])
    np.testing.assert_allclose(scaler.inverse_transform(scaler.transform(X)), X, rtol=1e-15)
    other = fit_scaler(X * 7, kind="physical", rated={"b": 1, "a": 20, "c": 0.5}, channels="abc")
    np.testing.assert_array_equal(other.transform(X), scaler.transform(X))
    again = Scaler.from_dict(scaler.to_dict())
    assert (again.kind, again.constant_channels) == ("physical", ())
    np.testing.assert_array_equal(again.transform(X), scaler.transform(X))
    blocks = fit_scaler_to_blocks(lambda: [(X, None)] * 2, "physical", rated=[20.0, 1.0, 0.5])
    np.testing.assert_array_equal(blocks.channel_scale, scaler.channel_scale)


def fit_to_blocks(X, **more):
    return fit_scaler_to_blocks(lambda: [(X, None)], **more)


def test_rated_values_that_do_not_fit_the_channels_are_errors():
    X = windows()
    cases = {
        "needs rated": {},
        "no value for b, c; give a value for every channel": {"rated": {"a": 1}, "channels": "abc"},
        r"'d', which is not a channel.*Channels: a, b, c": {"rated": {"d": 1}, "channels": "abc"},
        "the channels have no names here": {"rated": {"a": 1}},
        "2 values for 3 channels": {"rated": [1, 2]},
        r"rated is 0 for channel 1; it must be a number above zero": {"rated": [1, 0, 2]},
        r"rated is nan for channel 0": {"rated": [np.nan, 1, 2]},
        r"rated is 'x' for c": {"rated": {"a": 1, "b": 1, "c": "x"}, "channels": "abc"},
    }
    for message, arguments in cases.items():
        for fit in (fit_scaler, fit_to_blocks):
            with pytest.raises(ArgumentError, match=message):
                fit(X, kind="physical", **arguments)
    for fit in (fit_scaler, fit_to_blocks):
        with pytest.raises(ArgumentError, match="rated is only for kind='physical'"):
            fit(X, kind="standard", rated=[1, 2, 3])


@pytest.mark.parametrize("kind", KINDS)
def test_constant_channels_are_reported_and_stored(kind):
    X = windows()
    assert fit_scaler(X, kind=kind).constant_channels == ()
    X[:, :, 0], X[:, :, 2] = 0.1, -3.0
    scaler = fit_scaler(X, kind=kind)
    assert scaler.constant_channels == (0, 2)
    assert Scaler.from_dict(scaler.to_dict()).constant_channels == (0, 2)
    with pytest.raises(SignalError, match="are inconsistent"):
        Scaler.from_dict({**scaler.to_dict(), "constant_channels": np.array([3], np.uint32)})
    back = scaler.inverse_transform(scaler.transform(X))
    np.testing.assert_allclose(back[:, :, [0, 2]], X[:, :, [0, 2]], rtol=1e-15)


def test_a_spread_too_small_to_square_is_scaled_by_one():
    X = windows()
    X[:, :, 1] *= 1e-200
    scaler = fit_scaler(X)
    assert scaler.channel_scale[1] == 1
    assert scaler.constant_channels == (1,)
    assert np.isfinite(scaler.transform(X)).all()


def test_a_spread_too_large_to_square_is_an_error():
    X = windows()
    X[0, 0, 1], X[0, 1, 1] = 1e300, -1e300
    with pytest.raises(SignalError, match=r"channel 1 of X ranges from -1e\+300 to 1e\+300"):
        fit_scaler(X)


@pytest.mark.parametrize("kind", [*KINDS, None])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_windows_that_overlap_in_memory_are_scaled_as_their_copies(kind, dtype):
    signal = np.random.default_rng(0).normal(size=(300, 3)).astype(dtype)
    X = make_windows(signal, 20, 7)
    scaler = fit_scaler(X, kind=kind)
    np.testing.assert_array_equal(scaler.transform(X), scaler.transform(X.copy()))
    for view in (X[::2], X[:, ::-1], X[:, :, ::-1], X[::-1], X[:0], np.asfortranarray(X)):
        np.testing.assert_array_equal(scaler.transform(view), scaler.transform(view.copy()))


def test_scaling_needs_no_memory_except_for_the_result():
    X = np.random.default_rng(0).normal(size=(4000, 100, 3)).astype(np.float32)
    scaler = fit_scaler(X[:10])
    scaler.transform(X[:10])
    for run, result in ((lambda: scaler.transform(X), X.nbytes), (lambda: fit_scaler(X), 0)):
        tracemalloc.start()
        run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < result + 0.02 * X.nbytes
