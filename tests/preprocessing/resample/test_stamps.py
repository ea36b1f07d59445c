"""Stamps out of order: repaired, they are pandas' sorted groups; not asked for, an error."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, SignalError
from sensorseq.preprocessing.resample import regrid
from sensorseq.recording import Recording, repair_stamps


@given(
    ticks=st.lists(st.integers(0, 12), max_size=30),
    seed=st.integers(0, 99),
    duplicates=st.sampled_from(["mean", "first", "last"]),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_repaired_samples_are_the_sorted_groups_of_pandas(ticks, seed, duplicates, dtype):
    rng = np.random.default_rng(seed)
    stamps = np.array(ticks, float) / 4
    values = rng.normal(size=(len(ticks), 2)).astype(dtype)
    values[rng.random(values.shape) < 0.2] = np.nan
    repaired = repair_stamps(stamps, values, duplicates=duplicates)
    grouped = pd.DataFrame(values.astype(np.float64)).groupby(stamps, sort=True)
    if duplicates == "mean":
        expected = grouped.mean()
    else:
        expected = grouped.nth(0 if duplicates == "first" else -1)
        expected = expected.set_index(stamps[expected.index]).sort_index()
    np.testing.assert_array_equal(repaired.timestamps_s, np.unique(stamps))
    assert repaired.values.dtype == dtype
    # what sums in another order may differ by, also where they cancel
    rounding = np.finfo(dtype).eps * np.nansum(np.abs(values), initial=0.0)
    np.testing.assert_allclose(
        repaired.values, expected.to_numpy().reshape(-1, 2), rtol=0, atol=rounding
    )
    assert repaired.n_duplicates == len(ticks) - len(set(ticks))
    assert repaired.n_out_of_order == sum(
        tick < max(ticks[:i], default=tick) for i, tick in enumerate(ticks)
    )


@given(n_samples=st.integers(0, 40), seed=st.integers(0, 99))
def test_repair_undoes_a_permutation_and_changes_no_clock_that_increases(n_samples, seed):
    rng = np.random.default_rng(seed)
    stamps, values = np.cumsum(rng.uniform(0.1, 1, n_samples)), rng.normal(size=(n_samples, 2))
    order = rng.permutation(n_samples)
    for given_stamps, given_values in ((stamps, values), (stamps[order], values[order])):
        repaired = repair_stamps(given_stamps, given_values)
        np.testing.assert_array_equal(repaired.timestamps_s, stamps)
        np.testing.assert_array_equal(repaired.values, values)
        assert repaired.n_duplicates == 0
    assert repair_stamps(stamps, values).counts == {"n_out_of_order": 0, "n_duplicates": 0}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_stamp_that_is_no_time_stays_an_error(bad):
    with pytest.raises(SignalError, match=r"2 timestamp.*first at sample 1"):
        repair_stamps([0.0, bad, 1.0, bad], np.zeros((4, 1)))
    with pytest.raises(SignalError, match=r"1 timestamp.*first at sample 1"):
        regrid([0.0, bad, 1.0], np.zeros((3, 1)), 1.0)


def test_errors_name_the_argument_or_the_shape():
    with pytest.raises(ArgumentError, match=r"duplicates='lst'.*'last'"):
        repair_stamps([0.0], [[1.0]], duplicates="lst")
    with pytest.raises(SignalError, match=r"timestamps have shape \(2,\) for 3 samples"):
        repair_stamps([0.0, 1.0], np.zeros((3, 1)))


def test_without_repair_the_error_says_how_many_where_and_the_way_out():
    stamps, values = [0.0, 1.0, 1.0, 3.0, 2.0, 4.0], np.zeros((6, 1))
    with pytest.raises(SignalError, match=r"2 timestamp.*first at sample 2 .*`repair_stamps`"):
        regrid(stamps, values, 1.0)
    with pytest.raises(RecordingError, match=r"'run'.*repeats at sample 2.*2 such.*repair_stamps"):
        Recording(values, stamps, ("a",), "run")
    repaired = repair_stamps(stamps, values)
    assert Recording(repaired.values, repaired.timestamps_s, ("a",), "run").n_samples == 5
