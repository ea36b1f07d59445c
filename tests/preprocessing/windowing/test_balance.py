from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, WindowError
from sensorseq.preprocessing.windowing.balance import (
    STRATEGIES,
    balance_indices,
    copy_numbers,
    draw_in_rounds,
)

counts_of_classes = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def labels(counts, seed):
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))


@given(counts=counts_of_classes, seed=st.integers(0, 100), strategy=st.sampled_from(STRATEGIES))
def test_every_class_has_equally_many(counts, seed, strategy):
    y = labels(counts, seed)
    chosen = balance_indices(y, None, strategy, seed)
    wanted = min(counts) if strategy == "undersample" else max(counts)
    np.testing.assert_array_equal(np.bincount(y[chosen]), [wanted] * len(counts))
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    np.testing.assert_array_equal(chosen, balance_indices(y, None, strategy, seed))


@given(counts=counts_of_classes, seed=st.integers(0, 100))
def test_undersampling_repeats_none_and_oversampling_loses_none(counts, seed):
    y = labels(counts, seed)
    groups = np.random.default_rng(seed).integers(0, 4, len(y))
    for group in (None, groups):
        under = balance_indices(y, group, "undersample", seed)
        assert len(np.unique(under)) == len(under)
        over = balance_indices(y, group, "oversample", seed)
        assert set(over) == set(range(len(y)))
        for label in range(len(counts)):
            copies = np.array(list(Counter(over[y[over] == label]).values()))
            assert copies.max() - copies.min() <= 1


def test_groups_contribute_windows_in_turns():
    y = np.repeat(["ice", "mud"], [1000, 12])
    groups = np.r_[np.repeat([0, 1, 2], [980, 18, 2]), np.full(12, 3)]
    chosen = balance_indices(y, groups, "undersample", 0)
    np.testing.assert_array_equal(np.bincount(groups[chosen]), [5, 5, 2, 12])


def test_every_window_is_as_likely_as_the_others():
    y = np.repeat([0, 1], [20, 5])
    times = sum(np.bincount(balance_indices(y, random_state=s), minlength=25) for s in range(2000))
    np.testing.assert_allclose(times[:20], 500, atol=6 * np.sqrt(2000 * 0.25 * 0.75))


@st.composite
def recorded(draw):
    """Draw labels and long and short recordings, each with one class or several classes."""
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    n = draw(st.integers(1, 120))
    recording = rng.integers(0, draw(st.integers(1, 12)), n)
    spans = draw(st.booleans())
    n_classes = draw(st.integers(1, 3))
    return (rng.integers(0, n_classes, n) if spans else recording % n_classes), recording


@given(
    data=recorded(),
    most=st.one_of(st.integers(1, 30), st.sampled_from([0.1, 0.25, 0.5, 1.0])),
    strategy=st.sampled_from(STRATEGIES),
    seed=st.integers(0, 100),
)
@pytest.mark.filterwarnings("ignore:max_per_recording")
def test_under_a_cap_classes_are_equal_and_no_recording_exceeds_it(data, most, strategy, seed):
    y, recording = data
    more = {"recording_id": recording, "max_per_recording": most}
    largest = most_equal_rows(y, recording, most, strategy)
    if not largest:
        with pytest.raises(WindowError, match=r"recording\(s\), too few if each may contribute"):
            balance_indices(y, None, strategy, seed, **more)
        return
    chosen = balance_indices(y, None, strategy, seed, **more)
    counts = Counter(y[chosen].tolist())
    assert counts == dict.fromkeys(y.tolist(), largest)
    cap = most if isinstance(most, int) else most * largest + 1e-9
    assert max(Counter(zip(y[chosen], recording[chosen], strict=True)).values()) <= cap
    if strategy == "undersample":
        assert len(np.unique(chosen)) == len(chosen)
    np.testing.assert_array_equal(chosen, balance_indices(y, None, strategy, seed, **more))


def most_equal_rows(y, recording, most, strategy):
    """Find by trial the maximum number of rows that each class can have under the cap."""
    repeat = strategy == "oversample"
    counts = Counter(y.tolist()).values()
    feasible = [0]
    for rows in range(1, (max if repeat else min)(counts) + 1):
        cap = most if isinstance(most, int) else int(most * rows + 1e-9)
        sizes = [Counter(recording[y == label].tolist()).values() for label in np.unique(y)]
        reach = [sum(cap if repeat else min(cap, size) for size in of) for of in sizes]
        feasible += [rows] if min(reach) >= rows else []
    return feasible[-1]


def test_a_cap_that_no_recording_exceeds_changes_nothing():
    y = labels([30, 12, 7], 0)
    recording = np.random.default_rng(0).integers(0, 5, len(y))
    for strategy in STRATEGIES:
        free = balance_indices(y, recording, strategy, 3)
        of_each = {"recording_id": recording}
        for most in (1000, 1.0):
            capped = balance_indices(y, recording, strategy, 3, **of_each, max_per_recording=most)
            np.testing.assert_array_equal(free, capped)
        np.testing.assert_array_equal(free, balance_indices(y, None, strategy, 3, **of_each))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_class_that_falls_short_of_the_cap_is_named(strategy):
    y = np.repeat(["ice", "mud"], [100, 60])
    recording = np.r_[np.repeat(["a", "b"], [90, 10]), np.full(60, "c")]
    with pytest.warns(UserWarning, match=r"class 'mud' with its 1 recording.*every class gets 20"):
        chosen = balance_indices(y, None, strategy, 0, recording_id=recording, max_per_recording=20)
    assert Counter(y[chosen].tolist()) == {"ice": 20, "mud": 20}


def test_one_recording_cannot_be_half_of_its_class():
    y = np.repeat(["ice", "mud"], [100, 60])
    recording = np.r_[np.repeat(["a", "b"], [90, 10]), np.full(60, "c")]
    with pytest.raises(WindowError, match=r"class 'mud' has 1 recording.* 0.5 of the rows"):
        balance_indices(y, recording_id=recording, max_per_recording=0.5)


@pytest.mark.parametrize("most", [0, -1, True, 0.0, 1.5, np.nan, "20", None])
def test_a_cap_is_a_number_of_rows_or_a_share(most):
    more = {"recording_id": [0, 1], "max_per_recording": most}
    if most is None:
        assert len(balance_indices([0, 1], **more)) == 2
        return
    with pytest.raises(ArgumentError, match="max_per_recording"):
        balance_indices([0, 1], **more)


@given(rows=st.lists(st.integers(0, 6), max_size=30))
def test_copies_are_numbered_in_order(rows):
    expected = [rows[:at].count(row) for at, row in enumerate(rows)]
    np.testing.assert_array_equal(copy_numbers(np.array(rows, np.int64)), expected)


@given(count=st.integers(1, 20), n=st.integers(0, 60), seed=st.integers(0, 100))
def test_rows_drawn_in_rounds_repeat_only_when_all_were_drawn(count, n, seed):
    rows = np.arange(100, 100 + count)
    drawn = draw_in_rounds(rows, n, np.random.default_rng(seed))
    assert len(drawn) == n
    copies = np.bincount(drawn - 100, minlength=count)
    assert copies.max() == -(-n // count)
    assert copies.max() - copies.min() <= 1


def test_errors_say_what_is_wrong():
    for y, arguments, error, said in (
        ([0, 1], {"recording_id": [0]}, WindowError, "recording_id has 1 value, but y has 2"),
        ([0, 1], {"max_per_recording": 3}, ArgumentError, "needs recording_id"),
        ([0, 1], {"groups": [0]}, WindowError, "groups has 1 value,"),
        ([0, 1], {"strategy": "over_sample"}, ArgumentError, "Did you mean 'oversample'"),
        ([], {}, WindowError, "at least one"),
    ):
        with pytest.raises(error, match=said):
            balance_indices(y, **arguments)
