"""Random convolutions equal a plain implementation of their definition in numpy."""

import copy
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isas import EACH_ISA, using_isa

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.features import RandomConvolutions
from sensorseq.features.random_convolutions import choose_dilations

TAPS = np.arange(-4, 5)
CHOSEN = combinations(range(9), 3)
WEIGHTS = [np.where(np.isin(np.arange(9), chosen), 2.0, -1.0) for chosen in CHOSEN]


def outputs_of(window, dilation, weights):
    """Convolve the sum of all channels of a window (t, c), with zeros around it, in float64."""
    x = window.astype(np.float64).sum(axis=1)
    reach = 4 * dilation
    padded = np.pad(x, reach)
    return sum(
        weight * padded[reach + tap * dilation :][: len(x)]
        for tap, weight in zip(TAPS, weights, strict=True)
    )


def shares_of(window, arrays, tolerance=0.0):
    """Return bounds of the fractions of outputs above the biases; all steps (t, c) are valid.

    The bounds differ if an output differs from a bias by less than the tolerance.
    """
    low, high = [], []
    channels, biases = arrays["channel_indices"], arrays["biases"].astype(np.float64)
    ends = np.cumsum(arrays["channel_counts"])
    done = 0
    for j, dilation in enumerate(arrays["dilations"].tolist()):
        for kernel, weights in enumerate(WEIGHTS):
            end = ends[j * 84 + kernel]
            used = channels[end - arrays["channel_counts"][j * 84 + kernel] : end]
            outputs = outputs_of(window[:, used], dilation, weights)
            inner = outputs[4 * dilation : len(outputs) - 4 * dilation]
            if (j + kernel) % 2 == 1 and len(window) > 8 * dilation:
                outputs = inner
            for bias in biases[done : done + arrays["features_per_dilation"][j]]:
                low.append((outputs > bias + tolerance).mean() if len(window) else 0.0)
                high.append((outputs > bias - tolerance).mean() if len(window) else 0.0)
            done += arrays["features_per_dilation"][j]
    assert done == len(biases)
    return np.array(low, np.float32), np.array(high, np.float32)


def eighths(rng, *shape):
    """Return values whose convolutions are exact in float32, so that ties with a bias stay ties."""
    return (rng.integers(-40, 41, shape) / 8).astype(np.float32)


# lengths near multiples of 4, 8 and 16 lanes, and near the lengths of kernels
STEPS = st.one_of(st.integers(1, 50), st.sampled_from([63, 64, 65, 73, 127, 128, 129]))


@given(
    steps=STEPS,
    n_channels=st.integers(1, 11),
    n_features=st.sampled_from([1, 84, 84 * 3, 84 * 9, 84 * 17]),
    max_dilations=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
@pytest.mark.parametrize("isa", EACH_ISA)
def test_features_are_the_shares_of_outputs_above_the_biases(
    isa, steps, n_channels, n_features, max_dilations, seed
):
    rng = np.random.default_rng(seed)
    X = eighths(rng, 3, steps, n_channels)
    lengths = np.array([steps, *rng.integers(0, steps + 1, 2)])
    with using_isa(isa):
        convolutions = RandomConvolutions(n_features, max_dilations, seed).fit(X, lengths)
        found = convolutions.transform(X, lengths)
    assert found.dtype == np.float32
    assert found.shape == (3, max(84, n_features)) == (3, convolutions.n_features_)
    arrays = convolutions.state()["arrays"]
    for row, length in enumerate(lengths):
        expected, _ = shares_of(X[row, :length], arrays)
        np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize("shape", [(3, 100, 1), (2, 130, 6)])
def test_only_outputs_within_rounding_of_a_bias_may_be_counted_differently(shape):
    X = np.cumsum(np.random.default_rng(1).normal(size=shape), axis=1).astype(np.float32)
    convolutions = RandomConvolutions(84 * 5, random_state=0).fit(X)
    found = convolutions.transform(X)
    # 27 additions of values below 2 * 9 * 3 times the largest sum over channels
    tolerance = 27 * 2.0**-24 * 54 * shape[2] * np.abs(X).max()
    differ = 0.0
    for row, window in enumerate(X):
        arrays = convolutions.state()["arrays"]
        low, high = shares_of(window, arrays, tolerance)
        assert (low <= found[row]).all()
        assert (found[row] <= high).all()
        differ += (found[row] != shares_of(window, arrays)[0]).mean()
    assert differ / len(X) < 0.02


@pytest.mark.parametrize("isa", EACH_ISA)
def test_every_instruction_set_gives_the_same_bits(isa):
    X = np.random.default_rng(0).normal(size=(6, 101, 5)).astype(np.float32)
    with using_isa("baseline"):
        plain = RandomConvolutions(random_state=0).fit(X)
        expected = plain.transform(X)
    with using_isa(isa):
        np.testing.assert_array_equal(plain.transform(X), expected)
        again = RandomConvolutions(random_state=0).fit(X)
    biases, others = (each.state()["arrays"]["biases"] for each in (again, plain))
    np.testing.assert_array_equal(biases, others)


@pytest.mark.parametrize("t", [1, 2, 8, 9])
@pytest.mark.parametrize("c", [1, 2, 12])
def test_windows_shorter_than_a_kernel_and_constant_channels_have_features(t, c):
    for X in (np.zeros((1, t, c)), np.full((2, t, c), 0.1), np.ones((1, t, c)) * np.arange(c)):
        convolutions = RandomConvolutions(168, random_state=0).fit(X)
        found = convolutions.transform(X)
        assert np.isfinite(found).all()
        assert convolutions.state()["arrays"]["dilations"].tolist() == [1]


def test_windows_may_be_longer_or_shorter_than_those_of_fit():
    rng = np.random.default_rng(0)
    convolutions = RandomConvolutions(840, random_state=0).fit(eighths(rng, 5, 60, 2))
    for t in (3, 59, 61, 200):
        X = eighths(rng, 2, t, 2)
        expected, _ = shares_of(X[0], convolutions.state()["arrays"])
        np.testing.assert_array_equal(convolutions.transform(X)[0], expected)


@given(st.integers(1, 5000), st.integers(1, 300), st.integers(1, 40))
def test_dilations_rise_from_one_and_share_all_features(n_timesteps, n_features, max_dilations):
    dilations, features = choose_dilations(n_timesteps, n_features, max_dilations)
    assert dilations.dtype == features.dtype == np.int32
    assert dilations[0] == 1
    assert (np.diff(dilations) > 0).all()
    assert len(dilations) <= max_dilations
    assert 8 * dilations[-1] <= max(8, n_timesteps - 1)
    assert (features >= 1).all()
    assert features.sum() == n_features


def test_channels_of_a_combination_are_distinct_and_biases_are_outputs_of_the_training_windows():
    X = np.random.default_rng(0).normal(size=(30, 50, 12)).astype(np.float32)
    arrays = RandomConvolutions(random_state=0).fit(X).state()["arrays"]
    ends = np.cumsum(arrays["channel_counts"])
    assert set(arrays["channel_counts"].tolist()) <= set(range(1, 10))
    parts = np.split(arrays["channel_indices"], ends[:-1])
    assert all(len(set(part.tolist())) == len(part) for part in parts)
    assert set(arrays["channel_indices"].tolist()) == set(range(12))
    # fractions of the training windows are spread over [0, 1], not concentrated near 0 and 1
    shares = RandomConvolutions(random_state=0).fit(X).transform(X)
    assert 0.45 < shares.mean() < 0.55
    assert shares.std(axis=0).min() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, a: s.update(kind="summary"), "of kind 'summary'"),
        (lambda s, a: s.pop("kind"), "of kind None"),
        (lambda s, a: s.update(n_channels=0), "n_channels=0"),
        (lambda s, a: s.update(n_channels=2), "a channel index does not exist"),
        (lambda s, a: s.pop("n_features"), "lacks the setting 'n_features'"),
        (lambda s, a: a.pop("biases"), "lacks the array 'biases'"),
        (lambda s, a: a.update(biases=a["biases"][1:]), "biases and features per dilation"),
        (lambda s, a: a.update(biases=a["biases"].astype(float)), "'biases' .* is float64"),
        (lambda s, a: a.update(biases=a["biases"] * np.float32(np.inf)), "not finite"),
        (lambda s, a: a.update(biases=a["biases"][:, None]), "more than one dimension"),
        (lambda s, a: a.update(dilations=a["dilations"] * 0), "a dilation is below 1"),
        (lambda s, a: a.update(dilations=a["dilations"][1:]), "one entry per dilation"),
        (lambda s, a: a.update(channel_counts=a["channel_counts"] * 0), "no channel"),
        (lambda s, a: a.update(channel_counts=a["channel_counts"][1:]), "84 entries per dilation"),
        (lambda s, a: a.update(channel_indices=a["channel_indices"][1:]), "and their counts"),
        (lambda s, a: a.update(channel_indices=a["channel_indices"] - 1), "does not exist"),
        (lambda s, a: a.update(features_per_dilation=-a["features_per_dilation"]), "negative"),
    ],
)
def test_an_inconsistent_state_is_refused(change, message):
    X = np.random.default_rng(0).normal(size=(20, 40, 3))
    state = copy.deepcopy(RandomConvolutions(840, random_state=0).fit(X).state())
    change(state["settings"], state["arrays"])
    with pytest.raises((SignalError, ArgumentError), match=message):
        RandomConvolutions.from_state(state)


def test_padding_gives_the_features_of_windows_with_zeros_at_the_end():
    rng = np.random.default_rng(3)
    windows, lengths = rng.normal(size=(30, 20, 2)).astype(np.float32), rng.integers(0, 16, 30)
    lengths[4] = 15
    with_zeros = np.where(np.arange(15)[None, :, None] < lengths[:, None, None], windows[:, :15], 0)
    ours = RandomConvolutions(840, random_state=1, pad=True).fit(windows, lengths)
    wanted = RandomConvolutions(840, random_state=1).fit(with_zeros)
    for name, array in wanted.state()["arrays"].items():
        np.testing.assert_array_equal(ours.state()["arrays"][name], array)
    features = ours.transform(windows, lengths)
    np.testing.assert_array_equal(features, wanted.transform(with_zeros))
    # a restored copy gives the same features for a single window, cut to its valid steps
    again = RandomConvolutions.from_state(ours.state())
    for row in range(5):
        alone = again.transform(
            windows[row : row + 1, : max(lengths[row], 1)], lengths[row : row + 1]
        )
        np.testing.assert_array_equal(alone[0], features[row])
    # a window longer than those of the fit is not truncated
    longer = rng.normal(size=(2, 40, 2)).astype(np.float32)
    np.testing.assert_array_equal(ours.transform(longer), wanted.transform(longer))
    with pytest.raises(SignalError, match="NaN"):
        ours.transform(np.full((1, 9, 2), np.nan))


def test_padding_changes_nothing_where_all_windows_are_equally_long():
    windows = np.random.default_rng(0).normal(size=(9, 20, 1))
    padded, plain = (
        RandomConvolutions(84, random_state=0, pad=pad).fit(windows) for pad in (True, False)
    )
    np.testing.assert_array_equal(
        padded.transform(windows[:, :12]), plain.transform(windows[:, :12])
    )


def test_arguments_and_values_that_cannot_be_used_are_reported():
    with pytest.raises(SignalError, match="too large for sums in float32"):
        RandomConvolutions(84).fit(np.full((2, 20, 1), 3e38))
    for argument in ("n_features", "max_dilations", "n_threads"):
        for value in (0, -1, 2.5, True, "10"):
            with pytest.raises(ArgumentError, match=f"{argument}="):
                RandomConvolutions(**{argument: value})
