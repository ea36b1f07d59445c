"""The native filters against scipy's on explicitly padded signals, and against themselves."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import upfirdn

from sensorseq._signal import PolyphaseFilter, TableFilter

EDGES = ("mirror", "hold", "odd")
ISAS = ("baseline", "avx2", "avx512", "neon")


def extended(x, before, after, edge):
    """The signal with its edges, one reflection after the other, in exact arithmetic's order."""
    n = len(x)

    def at(i):
        if 0 <= i < n:
            return x[i]
        if edge == "hold" or n == 1:
            return x[0] if i < 0 else x[-1]
        about, inner = (x[0], -i) if i < 0 else (x[-1], 2 * (n - 1) - i)
        return at(inner) if edge == "mirror" else 2 * about - at(inner)

    return np.array([at(i) for i in range(-before, n + after)]).reshape(-1, x.shape[1])


def by_upfirdn(x, taps, up, down, edge, delay):
    """Pad, apply every phase at the upper rate, keep every `down`-th."""
    n = len(x)
    before = len(taps) // up + 1
    after = delay // up + 2
    full = upfirdn(taps, extended(x, before, after, edge), up, 1, axis=0)
    first = before * up + delay
    n_out = -(-n * up // down)
    return full[first : first + n_out * down : down][:n_out]


def whole(make, x):
    filter_ = make()
    return np.concatenate([filter_.push(x), filter_.flush()])


def in_chunks(make, x, sizes):
    filter_, start, parts = make(), 0, []
    for size in [*sizes, len(x)]:
        parts.append(filter_.push(x[start : start + size]))
        start = min(start + size, len(x))
    return np.concatenate([*parts, filter_.flush()])


@given(
    n_samples=st.integers(1, 60),
    half=st.integers(0, 40),
    up=st.integers(1, 7),
    down=st.integers(1, 7),
    n_channels=st.integers(1, 9),
    edge=st.sampled_from(EDGES),
    seed=st.integers(0, 99),
)
@settings(max_examples=150, deadline=None)
def test_it_is_scipys_filter_on_the_padded_signal(
    n_samples, half, up, down, n_channels, edge, seed
):
    rng = np.random.default_rng(seed)
    taps = rng.normal(size=2 * half + 1)
    x = rng.normal(size=(n_samples, n_channels))
    ours = whole(lambda: PolyphaseFilter(taps, up, down, n_channels, edge), x)
    theirs = by_upfirdn(x, taps, up, down, edge, half)
    assert ours.shape == theirs.shape
    scale = np.abs(taps).sum() * (
        1 + np.abs(extended(x, half // up + 1, half // up + 2, edge)).max()
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-14 * scale, rtol=0)


@given(
    n_samples=st.integers(1, 60),
    n_taps=st.integers(1, 40),
    up=st.integers(1, 5),
    down=st.integers(1, 5),
    delay=st.integers(0, 60),
)
@settings(max_examples=80, deadline=None)
def test_any_delay_is_served_where_the_edge_is_held(n_samples, n_taps, up, down, delay):
    rng = np.random.default_rng(n_samples)
    taps, x = rng.normal(size=n_taps), rng.normal(size=(n_samples, 2))
    ours = whole(lambda: PolyphaseFilter(taps, up, down, 2, "hold", delay), x)
    np.testing.assert_allclose(ours, by_upfirdn(x, taps, up, down, "hold", delay), atol=1e-12)


@given(
    data=st.data(),
    n_samples=st.integers(0, 3000),
    n_channels=st.integers(1, 9),
    edge=st.sampled_from(EDGES),
    dtype=st.sampled_from([np.float32, np.float64]),
    by_table=st.booleans(),
)
@settings(max_examples=120, deadline=None)
def test_chunks_give_the_bits_of_the_whole(data, n_samples, n_channels, edge, dtype, by_table):
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    half = data.draw(st.integers(0, 300))
    if by_table:
        n_phases, ratio = data.draw(st.integers(1, 20)), data.draw(st.floats(0.05, 20))
        taps = np.hanning(2 * (half + n_phases) + 3)[1:-1]

        def make():
            return TableFilter(taps, n_phases, ratio, n_channels, edge)

    else:
        up, down = data.draw(st.integers(1, 20)), data.draw(st.integers(1, 20))
        taps = rng.normal(size=2 * half + 1)

        def make():
            return PolyphaseFilter(taps, up, down, n_channels, edge)

    x = rng.normal(size=(n_samples, n_channels)).astype(dtype)
    sizes = data.draw(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 2000)), max_size=30))
    y = whole(make, x)
    assert y.dtype == dtype or not n_samples
    np.testing.assert_array_equal(in_chunks(make, x, sizes), y)
    alone = whole(
        (lambda: TableFilter(taps, n_phases, ratio, 1, edge))
        if by_table
        else (lambda: PolyphaseFilter(taps, up, down, 1, edge)),
        x[:, -1:],
    )
    np.testing.assert_array_equal(alone, y[:, -1:])
