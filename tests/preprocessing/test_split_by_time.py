import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SplitError
from sensorseq.preprocessing.split import near_in_time, split_by_time, time_blocks
from sensorseq.windows import PARTS


@given(
    n=st.lists(st.integers(1, 80), min_size=1, max_size=4),
    overlap=st.sampled_from([1, 2, 4]),
    embargo=st.sampled_from([None, 0.0, 0.7, 3.0]),
    fractions=st.sampled_from([(0.6, 0.2, 0.2), (0.8, 0.0, 0.2), (0.5, 0.5, 0.0), (1, 0, 0)]),
    seed=st.integers(0, 100),
)
def test_parts_follow_in_time_and_keep_the_embargo_for_every_pair(
    n, overlap, embargo, fractions, seed
):
    rng = np.random.default_rng(seed)
    recording = np.repeat(np.arange(len(n)), n)
    start = np.concatenate([1.7e9 + np.cumsum(rng.choice([1, 1, 5], k)) / overlap for k in n])
    order = rng.permutation(len(start))
    recording, start = recording[order], start[order]
    try:
        part = split_by_time(recording, start, 1.0, fractions, embargo)
    except SplitError as error:
        if "too short" not in str(error):
            raise
        return
    assert set(part) - {""} == {name for name, f in zip(PARTS, fractions, strict=True) if f}
    place = np.array([["", *PARTS].index(name) for name in part])
    for name in np.unique(recording):
        rows = np.flatnonzero(recording == name)
        at, when = place[rows], start[rows]
        kept = at > 0
        at, when = at[kept], when[kept]
        # parts are in order of time
        np.testing.assert_array_equal(np.sort(at), at[np.argsort(when)])
        other = at[:, None] != at
        gap = np.abs(when[:, None] - when) - 1.0
        assert (gap[other] >= (1.0 if embargo is None else embargo) - 1e-5).all()


def test_shares_are_as_requested_except_for_the_embargo():
    start = np.arange(100.0)
    part = split_by_time(np.zeros(100), start, 1.0, embargo_s=0.0)
    assert [int((part == name).sum()) for name in PARTS] == [60, 20, 20]
    part = split_by_time(np.zeros(100), start, 1.0)
    assert [int((part == name).sum()) for name in (*PARTS, "")] == [59, 19, 20, 2]
    np.testing.assert_array_equal(np.flatnonzero(part == ""), [59, 79])


def test_overlapping_windows_lose_as_many_as_reach_over_the_border():
    part = split_by_time(np.zeros(100), np.arange(100) / 4, 1.0, (0.5, 0.0, 0.5), 0.0)
    assert [int((part == name).sum()) for name in ("train", "test", "")] == [47, 50, 3]


def test_recordings_do_not_affect_each_other():
    recording, start = np.repeat([0, 1], 50), np.r_[np.arange(50.0), np.arange(50.0) + 3]
    both = split_by_time(recording, start, 1.0)
    np.testing.assert_array_equal(both[:50], split_by_time(recording[:50], start[:50], 1.0))
    np.testing.assert_array_equal(both[50:], split_by_time(recording[50:], start[50:], 1.0))
    order = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(split_by_time(recording[order], start[order], 1.0), both[order])


@given(n=st.integers(1, 60), n_blocks=st.integers(1, 10))
def test_blocks_are_even_and_follow_in_time(n, n_blocks):
    block = time_blocks(np.zeros(n), np.arange(float(n)), n_blocks)
    assert (np.diff(block) >= 0).all()
    if n >= n_blocks:
        counts = np.bincount(block, minlength=n_blocks)
        assert counts.max() - counts.min() <= 1


def test_near_is_nearer_than_the_reach_in_the_same_recording():
    start = np.array([0.0, 1.0, 2.0, 3.0, 0.0, 1.0])
    marked = np.array([False, False, False, True, False, False])
    near = near_in_time(np.repeat([0, 1], [4, 2]), start, marked, 2.0)
    np.testing.assert_array_equal(near, [False, False, True, True, False, False])
    assert not near_in_time(np.zeros(6), start, np.zeros(6, bool), 2.0).any()


def test_windows_that_cannot_be_split_are_an_error():
    y = np.repeat(["ice", "mud"], [30, 3])
    with pytest.raises(SplitError, match=r"no window of class 'mud' remains for (train|valid)"):
        split_by_time(y, np.r_[np.arange(30.0), np.arange(3.0)], 1.0, y=y)
    with pytest.raises(SplitError, match="no window remains for train"):
        split_by_time([0, 0], [0.0, 1.0], 1.0, (0.5, 0.0, 0.5))
    with pytest.raises(SplitError, match="both need"):
        split_by_time([0], [0.0, 1.0], 1.0)
    with pytest.raises(SplitError, match=r"y has \d+ values?, but start_s has"):
        split_by_time([0], [0.0], 1.0, y=[1, 2])
    with pytest.raises(SplitError, match=r"start_s\[1\] is nan \(recording 'b'\)"):
        split_by_time(["a", "b"], [0.0, np.nan], 1.0)
    with pytest.raises(SplitError, match="must contain seconds as numbers"):
        split_by_time(["a"], ["x"], 1.0)
    for name, wrong in (("window_s", 0), ("embargo_s", -1), ("embargo_s", np.nan)):
        with pytest.raises(ArgumentError, match=name):
            split_by_time(np.zeros(9), np.arange(9.0), **({"window_s": 1.0} | {name: wrong}))
    with pytest.raises(ArgumentError, match="fractions"):
        split_by_time(np.zeros(9), np.arange(9.0), 1.0, (0.5, 0.5))
