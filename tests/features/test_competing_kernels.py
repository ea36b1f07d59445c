"""Competing kernels are bit-identical to a plain implementation of their definition in numpy."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isas import EACH_ISA, using_isa

from sensorseq.errors import SignalError
from sensorseq.features import CompetingKernels

HEAVY = list(combinations(range(9), 3))
ZERO = np.float32(0)


def outputs_of(series, dilation, kernel, channels):
    """Convolve channels of a series (t, c) in float32, in the order of the C++ loop."""
    total = ZERO
    for place, channel in enumerate(channels):
        reach = 4 * dilation
        padded = np.pad(series[:, channel], reach)
        taps = [padded[i * dilation :][: len(series)] for i in range(9)]
        output = -taps[4]
        for i in (0, 1, 2, 3, 5, 6, 7, 8):
            output = output - taps[i]
        for i in HEAVY[kernel]:
            output = output + np.float32(3) * taps[i]
        total = output if place == 0 else total + output
    return total


def sum_of(values):
    """Sum in float32: step t is added to the sum t % 16, and these sums are added pairwise."""
    sums = np.zeros(16, np.float32)
    for rows in np.pad(values, (0, -len(values) % 16)).reshape(-1, 16):
        sums = sums + rows
    for half in (8, 4, 2, 1):
        sums = sums[:half] + sums[half:]
    return sums[0]


def wins_of(window, arrays):
    """Return the features of a window (t, c) that has only valid steps."""
    found, place = [], 0
    for number, dilation in enumerate(arrays["dilations"].tolist()):
        series = np.diff(window, axis=0) if arrays["is_difference"][number] else window
        n_steps = np.float32(len(series))
        for group in range(12):
            count = arrays["channel_counts"][12 * number + group]
            channels = arrays["channel_indices"][place : place + count]
            place += count
            if not len(series):
                found += [0.0] * 14
                continue
            rivals = [
                outputs_of(series, dilation, k, channels)
                if k >= 0
                else -outputs_of(series, dilation, -1 - k, channels)
                for k in arrays["kernels"][84 * number + 7 * group :][:7].tolist()
            ]
            first, last = np.argmax(rivals, axis=0), np.argmin(rivals, axis=0)
            for k, output in enumerate(rivals):
                total = sum_of(np.where(first == k, output, ZERO))
                found.append(np.sqrt(max(ZERO, total / n_steps)))
            for k in range(7):
                found.append(np.sqrt(np.float32((last == k).sum()) / n_steps))
    assert place == len(arrays["channel_indices"])
    return np.array(found, np.float32)


@given(st.integers(1, 80), st.integers(1, 12), st.booleans(), st.integers(0, 99))
def test_features_are_the_wins_and_losses_of_kernels(t, c, has_ties, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(4, t, c)).astype(np.float32)
    if has_ties:
        X = np.round(X)
    X[1] = 0  # all outputs are equal
    lengths = rng.integers(0, t + 1, 4)
    lengths[0] = t
    kernels = CompetingKernels(random_state=seed).fit(X, lengths)
    found = kernels.transform(X, lengths)
    assert found.shape == (4, kernels.n_features_)
    for row, length in enumerate(lengths):
        expected = wins_of(X[row, :length], kernels.state()["arrays"])
        np.testing.assert_array_equal(found[row], expected)


@pytest.mark.parametrize("isa", EACH_ISA)
def test_every_instruction_set_gives_the_same_bits(isa):
    X = np.random.default_rng(0).normal(size=(5, 77, 4)).astype(np.float32)
    kernels = CompetingKernels(random_state=0).fit(X)
    expected = np.stack([wins_of(window, kernels.state()["arrays"]) for window in X])
    with using_isa(isa):
        np.testing.assert_array_equal(kernels.transform(X), expected)


def test_groups_contain_every_kernel_once():
    X = np.zeros((2, 100, 5), np.float32)
    first = CompetingKernels(random_state=3).fit(X).state()["arrays"]
    assert first["dilations"].tolist() == 2 * [1, 2, 4, 8]
    assert first["is_difference"].tolist() == 4 * [0] + 4 * [1]
    drawn = np.where(first["kernels"] < 0, -1 - first["kernels"], first["kernels"])
    np.testing.assert_array_equal(
        np.sort(drawn.reshape(8, 84), axis=1), np.tile(np.arange(84), (8, 1))
    )
    assert 0.4 < (first["kernels"] < 0).mean() < 0.6


def test_padding_gives_the_features_of_windows_with_zeros_at_the_end():
    rng = np.random.default_rng(0)
    X, lengths = rng.normal(size=(4, 50, 2)).astype(np.float32), np.array([50, 20, 1, 0])
    kernels = CompetingKernels(random_state=0, pad=True).fit(X, lengths)
    zeros = np.where(np.arange(50)[None, :, None] < lengths[:, None, None], X, 0)
    plain = CompetingKernels(random_state=0).fit(X)
    np.testing.assert_array_equal(kernels.transform(X, lengths), plain.transform(zeros))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kernels", 84, "a kernel does not exist"),
        ("kernels", -85, "a kernel does not exist"),
        ("dilations", 0, "a dilation is below 1"),
        ("is_difference", 2, "do not come after"),
        ("is_difference", 1, "do not come after"),
        ("channel_counts", 0, "no channel"),
        ("channel_indices", 2, "a channel index does not exist"),
        ("channel_indices", -1, "a channel index does not exist"),
        ("kernels", None, "kernels must have 84"),
        ("channel_counts", None, "must have 12 entries"),
        ("channel_indices", None, "disagree"),
        ("is_difference", None, "one entry per dilation"),
    ],
)
def test_an_inconsistent_state_is_refused(name, value, message):
    X = np.zeros((2, 40, 2), np.float32)
    state = CompetingKernels(random_state=0).fit(X).state()
    array = state["arrays"][name].copy()
    state["arrays"][name] = array[:-1] if value is None else array
    if value is not None:
        array[0] = value
    with pytest.raises(SignalError, match=message):
        CompetingKernels.from_state(state)


def test_values_at_the_end_of_float32_have_finite_features():
    X = np.full((1, 40, 2), 3e38, np.float32)
    X[0, ::3] *= -1
    found = CompetingKernels(random_state=0).fit(X).transform(X)
    assert np.isfinite(found).all()
