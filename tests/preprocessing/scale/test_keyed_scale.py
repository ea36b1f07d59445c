import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.scale.keyed import (
    KeyedScaler,
    check_per,
    fit_scaler_per,
    scaler_from_dict,
    transform_by,
)
from sensorseq.preprocessing.scale.scaler import KINDS, Scaler, fit_scaler
from sensorseq.windows import WindowSet


def fit_keyed(X, lengths=None, kind="standard", *, keys, per="recording"):
    """A scaler for each recording, or group."""
    return fit_scaler_per(per, X, lengths, kind, recording_id=keys, groups=keys)


def windows(seed=0, n_windows=12, n_channels=2, dtype=np.float64):
    """Windows of three recordings, of which each has an offset and a gain of its own."""
    rng = np.random.default_rng(seed)
    keys = np.array(["a", "b", "c"])[rng.permutation(np.arange(n_windows) % 3)]
    X = rng.normal(size=(n_windows, 20, n_channels))
    for i, key in enumerate("abc"):
        X[keys == key] = X[keys == key] * (1 + 3 * i) + 10 * i
    return X.astype(dtype), keys


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_recording_is_scaled_as_if_it_were_alone(kind, dtype):
    X, keys = windows(dtype=dtype)
    lengths = np.random.default_rng(1).integers(5, 21, len(X))
    scaler = fit_keyed(X, lengths, kind, keys=keys)
    scaled = scaler.transform(X, lengths, keys)
    assert scaled.dtype == dtype
    for key in "abc":
        rows = keys == key
        alone = fit_scaler(X[rows], lengths[rows], kind).transform(X[rows], lengths[rows])
        np.testing.assert_array_equal(scaled[rows], alone)
    atol = 0.1 if kind == "quantile" else 1e-4
    beyond = np.arange(20) >= lengths[:, None]
    back = scaler.inverse_transform(scaled, lengths, keys)
    np.testing.assert_allclose(back[~beyond], X[~beyond], atol=atol)
    assert (back[beyond] == 0).all()


@given(seed=st.integers(0, 500), kind=st.sampled_from(KINDS))
def test_a_recording_that_was_not_fitted_is_scaled_by_its_own_windows(seed, kind):
    X, keys = windows(seed)
    fitted = keys != "c"
    scaler = fit_keyed(X[fitted], kind=kind, keys=keys[fitted])
    scaled = scaler.transform(X, keys=keys)
    everything = fit_keyed(X, kind=kind, keys=keys)
    np.testing.assert_array_equal(scaled, everything.transform(X, keys=keys))
    # and what the others hold changes nothing of it
    other = X.copy()
    other[fitted] += 1e3
    np.testing.assert_array_equal(scaler.transform(other, keys=keys)[~fitted], scaled[~fitted])


@given(seed=st.integers(0, 500))
def test_permuting_windows_permutes_the_scaled_ones(seed):
    X, keys = windows(seed)
    order = np.random.default_rng(seed).permutation(len(X))
    scaled = fit_keyed(X, keys=keys).transform(X, keys=keys)
    again = fit_keyed(X[order], keys=keys[order]).transform(X[order], keys=keys[order])
    np.testing.assert_allclose(again, scaled[order], rtol=1e-9, atol=1e-12)


def test_a_recording_of_which_windows_are_missing_keeps_the_scale_it_was_fitted_with():
    X, keys = windows()
    scaler = fit_keyed(X, keys=keys)
    alone, among = scaler.transform(X[:1], keys=keys[:1]), scaler.transform(X, keys=keys)
    np.testing.assert_array_equal(alone, among[:1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("keys", [["a", "b", "c"], ["ä/1", "ß\n2", ""], [3, 1, 2]])
def test_to_dict_and_back_is_identity_and_holds_arrays_alone(kind, keys):
    X, letters = windows(n_windows=7)  # recordings of three and of two windows
    X[letters == "a", :, 1] = 5.0
    named = np.array(keys)[np.searchsorted(["a", "b", "c"], letters)]
    scaler = fit_keyed(X, kind=kind, keys=named, per="group")
    fields = scaler.to_dict()
    assert all(isinstance(a, np.ndarray) and a.dtype.kind in "uf" for a in fields.values())
    again = scaler_from_dict(fields)
    assert isinstance(again, KeyedScaler)
    assert (again.kind, again.per, again.n_channels) == (kind, "group", 2)
    assert list(again.scalers) == list(scaler.scalers)
    for key, one in scaler.scalers.items():
        assert again.scalers[key].constant_channels == one.constant_channels
    np.testing.assert_array_equal(again.transform(X, keys=named), scaler.transform(X, keys=named))
    assert isinstance(scaler_from_dict(fit_scaler(X, kind=kind).to_dict()), Scaler)


def test_stored_statistics_that_contradict_each_other_are_refused():
    X, keys = windows()
    for kind in ("standard", "quantile"):
        fields = fit_keyed(X, kind=kind, keys=keys).to_dict()
        broken = [
            {**fields, "channel_scale": np.ones((2, 2))},
            {**fields, "channel_center": np.ones((2, 2)), "channel_scale": np.ones((2, 2))},
            {**fields, "is_constant": np.zeros((1, 2), np.uint8)},
            {**fields, "keys": np.frombuffer(b'["a", "b"', np.uint8)},
            {**fields, "keys": np.frombuffer(b'["a", "b"]', np.uint8)},
        ]
        if kind == "quantile":
            broken.append({**fields, "n_quantiles": np.array([1, 2, 3], np.uint32)})
            broken.append({k: v for k, v in fields.items() if k != "n_quantiles"})
        for case in broken:
            with pytest.raises(SignalError, match="are inconsistent"):
                KeyedScaler.from_dict(case)
        with pytest.raises(ArgumentError, match="recording"):
            KeyedScaler.from_dict({**fields, "per": np.frombuffer(b"recordin", np.uint8)})


def test_a_constant_channel_is_said_when_it_is_so_in_every_recording():
    X, keys = windows()
    X[keys == "a", :, 1] = 5.0
    assert fit_keyed(X, keys=keys).constant_channels == ()
    for i, key in enumerate("abc"):
        X[keys == key, :, 1] = i
    scaler = fit_keyed(X, keys=keys)
    assert scaler.constant_channels == (1,)
    np.testing.assert_array_equal(scaler.transform(X, keys=keys)[:, :, 1], 0)


def test_one_function_fits_per_all_recording_or_group():
    X, keys = windows()
    by_group = np.where(keys == "a", "x", "y")
    origin = WindowSet(X, recording_id=keys, groups=by_group)
    whole = fit_scaler_per("all", X, None, "standard", recording_id=keys, groups=by_group)
    assert isinstance(whole, Scaler)
    per_recording = fit_scaler_per("recording", X, None, "standard", recording_id=keys)
    per_group = fit_scaler_per("group", X, None, "robust", recording_id=keys, groups=by_group)
    assert list(per_recording.scalers) == ["a", "b", "c"]
    assert list(per_group.scalers) == ["x", "y"]
    for scaler, given_keys in ((per_recording, keys), (per_group, by_group)):
        expected = scaler.transform(X, None, given_keys)
        np.testing.assert_array_equal(transform_by(scaler, X, None, origin), expected)
    np.testing.assert_array_equal(transform_by(whole, X, None), whole.transform(X))


def test_errors_say_where_and_what():
    X, keys = windows()
    scaler = fit_keyed(X, keys=keys)
    for use in (
        lambda: scaler.transform(X),
        lambda: fit_keyed(X, keys=None),
        lambda: fit_scaler_per("recording", X, None, "standard", groups=keys),
    ):
        with pytest.raises(SignalError, match=r"needs the recording of every window.*WindowSet"):
            use()
    with pytest.raises(SignalError, match="12 windows need"):
        scaler.transform(X, keys=keys[:3])
    with pytest.raises(SignalError, match=r"1 channels.* 2"):
        scaler.transform(X[:, :, :1], keys=keys)
    with pytest.raises(SignalError, match="recording 'd': was not fitted"):
        scaler.inverse_transform(X[:1], keys=["d"])
    with pytest.raises(SignalError, match="recording 'a': no window has a valid step"):
        fit_keyed(X, np.where(keys == "a", 0, 20), keys=keys)
    with pytest.raises(ArgumentError, match="per='recordings' is not known"):
        check_per("recordings", "standard")
    for kind in (None, "physical"):
        with pytest.raises(ArgumentError, match="Use per='all'"):
            check_per("group", kind)
    check_per("all", None)
    last = int(np.flatnonzero(keys == "b")[-1])
    X[last, 7, 1] = np.inf
    for use in (lambda: scaler.transform(X, keys=keys), lambda: fit_keyed(X, keys=keys)):
        with pytest.raises(SignalError, match=f"inf in window {last}, step 7, channel 1"):
            use()
