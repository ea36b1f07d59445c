"""Compare the native filters with scipy's on explicitly padded signals, and with themselves."""

import threading
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from isas import using_isa
from scipy.signal import firwin, kaiserord, upfirdn

from sensorseq._signal import PolyphaseFilter, TableFilter
from sensorseq.errors import EnvironmentProblemError
from sensorseq.preprocessing.polyphase import design_lowpass

EDGES = ("mirror", "hold", "odd")
ISAS = ("baseline", "avx2", "avx512", "neon")


def extended(x, before, after, edge):
    """Return the signal with padded edges, reflected repeatedly as in the filter."""
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
    """Pad the signal, filter it at the upper rate, and keep every `down`-th sample."""
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
def test_the_filter_equals_scipys_on_the_padded_signal(
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
def test_any_delay_is_possible_if_the_edge_is_held(n_samples, n_taps, up, down, delay):
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


def examples():
    rng = np.random.default_rng(0)
    return [
        (lambda: PolyphaseFilter(rng_taps(573), 1, 10, 5), rng.normal(size=(3000, 5))),
        (lambda: PolyphaseFilter(rng_taps(301), 3, 2, 5, "odd"), rng.normal(size=(700, 5))),
        (lambda: TableFilter(np.hanning(401)[1:-1], 20, 0.77, 5), rng.normal(size=(700, 5))),
    ]


def rng_taps(n):
    return np.random.default_rng(n).normal(size=n)


def supported_isas():
    with using_isa("none"), pytest.raises(RuntimeError) as caught:
        PolyphaseFilter(np.ones(3), 1, 1, 1)
    listed = str(caught.value).split("Known: ")[1].rstrip(".").split(", ")
    return [isa for isa in listed if "(not on this processor)" not in isa]


@pytest.mark.parametrize("example", range(3))
def test_every_instruction_set_agrees_to_rounding(example):
    make, x = examples()[example]
    with using_isa("baseline"):
        baseline = whole(make, x)
    for isa in ISAS:
        if isa not in supported_isas():
            with using_isa(isa), pytest.raises(RuntimeError, match="this processor lacks"):
                make()
            continue
        with using_isa(isa):
            filter_ = make()
        assert filter_.isa == isa
        y = np.concatenate([filter_.push(x), filter_.flush()])
        np.testing.assert_allclose(y, baseline, rtol=0, atol=1e-14 * 573 * 20)


def test_an_unknown_instruction_set_is_an_error_that_lists_the_known():
    said = r"SENSORSEQ_CPU_ISA.*baseline"
    with using_isa("avx3"), pytest.raises(EnvironmentProblemError, match=said):
        PolyphaseFilter(np.ones(3), 1, 1, 1)


def test_filters_of_several_threads_agree_and_threads_can_share_a_filter():
    make, x = examples()[0]
    expected = whole(make, x)
    found = [None] * 8

    def run(i):
        found[i] = whole(make, x)

    shared = make()
    counts = []

    def push():
        counts.extend(len(shared.push(np.zeros((50, 5)))) for _ in range(20))

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    threads += [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for y in found:
        np.testing.assert_array_equal(y, expected)
    assert sum(counts) + len(shared.flush()) == 4 * 20 * 50 // 10


@pytest.mark.parametrize("up", [1, 3])
@pytest.mark.parametrize("down", [1, 2])
def test_without_delay_the_filter_is_causal(up, down):
    taps, x = rng_taps(50), np.random.default_rng(1).normal(size=(40, 1))
    filter_ = PolyphaseFilter(taps, up, down, 1, "hold", 0)
    assert filter_.latency_samples == 0
    given_so_far = 0
    for i in range(len(x)):
        given_so_far += len(filter_.push(x[i : i + 1]))
        assert given_so_far == -(-(i + 1) * up // down)
    assert len(filter_.flush()) == 0


def test_after_a_flush_or_a_reset_another_signal_begins():
    make, x = examples()[1]
    filter_ = make()
    first = np.concatenate([filter_.push(x), filter_.flush()])
    np.testing.assert_array_equal(filter_.push_last(x), first)
    filter_.push(x[:123])
    assert len(filter_.push_last(x[123:])) < len(first)
    np.testing.assert_array_equal(np.concatenate([filter_.push(x), filter_.flush()]), first)
    filter_.push(x[::-1])
    filter_.reset()
    np.testing.assert_array_equal(np.concatenate([filter_.push(x), filter_.flush()]), first)
    assert filter_.flush().shape == (0, 5)


def test_rows_that_are_not_dense_are_accepted():
    make, x = examples()[0]
    np.testing.assert_array_equal(whole(make, np.asfortranarray(x)), whole(make, x))
    np.testing.assert_array_equal(whole(make, x[::-2]), whole(make, x[::-2].copy()))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PolyphaseFilter(np.ones(4), 1, 1, 1), "4 taps have no centre"),
        (lambda: PolyphaseFilter(np.ones(0), 1, 1, 1), "taps have"),
        (lambda: PolyphaseFilter(np.ones((3, 1)), 1, 1, 1), "taps have 2 dimension"),
        (lambda: PolyphaseFilter(np.array([1, np.nan, 1]), 1, 1, 1), "tap 1 is not finite"),
        (lambda: PolyphaseFilter(np.ones(3), 0, 1, 1), "up is 0"),
        (lambda: PolyphaseFilter(np.ones(3), 1, -2, 1), "down is -2"),
        (lambda: PolyphaseFilter(np.ones(3), 1, 1, 0), "n_channels is 0"),
        (lambda: PolyphaseFilter(np.ones(3), 1, 1, 1, "wrap"), "edge is 'wrap'; known: mirror"),
        (lambda: PolyphaseFilter(np.ones(3), 1, 1, 1, "mirror", 0), "use edge 'hold'"),
        (lambda: PolyphaseFilter(np.ones(3), 1, 1, 1, "hold", -1), "delay is -1"),
        (lambda: TableFilter(np.ones(4), 2, 0.5, 1), "4 taps; expected an odd number"),
        (lambda: TableFilter(np.ones(5), 4, 0.5, 1), "5 taps; expected an odd number"),
        *(  # with 1e300, `push` used to run forever
            (partial(TableFilter, np.ones(5), 2, ratio, 1), "ratio is .*; expected one from")
            for ratio in (-0.5, 0.0, 2e-10, 2e6, 1e300, np.nan)
        ),
    ],
)
def test_an_impossible_filter_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_chunk_of_another_shape_or_type_is_named():
    filter_ = PolyphaseFilter(np.ones(3), 1, 1, 2)
    with pytest.raises(ValueError, match=r"shape \(3, 1\); expected \(n, 2\)"):
        filter_.push(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="int64; expected float32 or float64"):
        filter_.push(np.zeros((3, 2), np.int64))


@pytest.mark.parametrize("attenuation_db", [20.0, 35.0, 90.0, 150.0])
@pytest.mark.parametrize("ratio", [1, 2, 7.3, 160, 3000])
def test_the_low_pass_equals_scipys(attenuation_db, ratio):
    n_taps, beta = kaiserord(attenuation_db, (1 - 0.8) * (1 / ratio))
    expected = firwin(n_taps | 1, 0.9 * (1 / ratio), window=("kaiser", beta))
    taps = design_lowpass(1, 1 / ratio, attenuation_db)
    expected = expected / expected.sum()
    np.testing.assert_allclose(taps, expected, rtol=0, atol=1e-15 * expected.max())
