"""Order statistics in blocks are those of numpy, to the bit."""

from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sensorseq.io import order_statistics

TYPES = st.sampled_from([np.float32, np.float64])


@st.composite
def tables(draw):
    dtype = np.dtype(draw(TYPES))
    width = 8 * dtype.itemsize
    numbers = st.one_of(
        st.floats(-(2.0**99), 2.0**99, width=width),
        st.sampled_from([0.0, -0.0, 1.0, -1.5, 2.0**-140]),
    )
    shape = (draw(st.integers(1, 60)), draw(st.integers(1, 3)))
    return draw(hnp.arrays(dtype, shape, elements=numbers.map(dtype.type)))


LIMITS = st.sampled_from([0, 7, 1 << 22])
SMALL = {"_COLUMNS": 2, "_SLICE": 11}


@contextmanager
def holding(n_values, **others):
    with pytest.MonkeyPatch.context() as patch:
        for name, limit in {"_COLLECTED": n_values, **others}.items():
            patch.setattr(order_statistics, name, limit)
        yield


@given(
    limit=LIMITS,
    table=tables(),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    n_levels=st.sampled_from([2, 3, 30, 1000]),
)
def test_quantiles_of_blocks_are_those_of_numpy(limit, table, cuts, n_levels):
    levels = np.linspace(0, 1, n_levels)
    blocks = np.split(table, sorted(cuts))
    with holding(limit, **SMALL):
        found = order_statistics.quantiles(lambda: iter(blocks), *table.shape, levels, table.dtype)
    np.testing.assert_array_equal(found, np.quantile(table.astype(np.float64), levels, axis=0))


@given(limit=LIMITS, table=tables(), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_the_median_of_blocks_is_that_of_numpy(limit, table, cuts):
    column = table[:, :1].astype(np.float64)
    blocks = np.split(column, sorted(cuts))
    with holding(limit, **SMALL):
        assert order_statistics.median(lambda: iter(blocks), len(column)) == np.median(column)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_passes_are_few_and_hold_few_values(dtype, monkeypatch):
    monkeypatch.setattr(order_statistics, "_COLLECTED", 1000)
    passes = []
    values = np.random.default_rng(0).normal(size=(200_000, 1)).astype(dtype)

    def blocks():
        passes.append(0)
        yield from np.split(values, 10)

    levels = np.linspace(0, 1, 1000)
    found = order_statistics.quantiles(blocks, *values.shape, levels, dtype)
    np.testing.assert_array_equal(found[:, 0], np.quantile(values.astype(np.float64), levels))
    assert len(passes) == (3 if dtype == np.float32 else 7)
    passes.clear()
    order_statistics.quantiles(blocks, *values.shape, np.array([0.25, 0.5, 0.75]), dtype)
    assert len(passes) == (2 if dtype == np.float32 else 3)
