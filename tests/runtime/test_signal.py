"""Called by ctypes or by pybind11, the signal loops give the same bits and errors."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorseq import _signal

KINDS = ("mean", "std", "rms", "min", "max", "range", "mean_absolute", "line_residual")


@pytest.fixture(scope="module")
def ours(runtime):
    from sensorseq_runtime import _signal as by_ctypes

    return by_ctypes


def same(made, other):
    """Check that two calls give equal bits."""
    first, second = made(), other()
    assert first.dtype == second.dtype
    np.testing.assert_array_equal(first, second)


def both(ours, name, *arguments, **named):
    return [getattr(module, name)(*arguments, **named) for module in (_signal, ours)]


def pieces(draw, n_channels, dtype):
    sizes = draw(st.lists(st.integers(0, 40), min_size=1, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [rng.normal(size=(size, n_channels)).astype(dtype) for size in sizes]


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_resampling_is_the_same(ours, data):
    draw = data.draw
    c, up, down = draw(st.integers(1, 4)), draw(st.integers(1, 7)), draw(st.integers(1, 7))
    n_taps = 2 * draw(st.integers(0, 20)) + 1
    taps = np.random.default_rng(n_taps).normal(size=n_taps)
    edge = draw(st.sampled_from(["mirror", "hold", "odd"]))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    parts = pieces(draw, c, dtype)
    filters = both(ours, "PolyphaseFilter", taps, up, down, c, edge)
    if n_taps >= 2 * up - 1:
        filters += both(ours, "TableFilter", taps, up, down / 3, c, edge)
    for expected, actual in zip(filters[::2], filters[1::2], strict=True):
        assert (expected.latency_samples, expected.isa) == (actual.latency_samples, actual.isa)
        for part in parts:
            same(lambda: expected.push(part), lambda: actual.push(part))  # noqa: B023
        same(expected.flush, actual.flush)
        same(lambda: expected.push_last(parts[0]), lambda: actual.push_last(parts[0]))  # noqa: B023
        expected.reset(), actual.reset()
        same(expected.flush, actual.flush)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_filters_with_a_memory_are_the_same(ours, data):
    draw = data.draw
    c, window = draw(st.integers(1, 4)), draw(st.integers(1, 30))
    parts = pieces(draw, c, np.float64)
    statistic, ahead = draw(st.sampled_from(KINDS)), draw(st.integers(0, window - 1))
    moving = both(ours, "MovingWindow", statistic, window, c, ahead)
    sections = np.random.default_rng(window).normal(scale=0.3, size=(draw(st.integers(1, 4)), 6))
    sections[:, 3] = 1
    recursive = both(ours, "SectionFilter", sections, c)
    for expected, actual in (moving, recursive):
        for part in parts:
            same(lambda: expected.push(part), lambda: actual.push(part))  # noqa: B023
    same(moving[0].flush, moving[1].flush)


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_windows_are_the_same(ours, data):
    draw = data.draw
    n, t, c = draw(st.integers(0, 6)), draw(st.integers(1, 20)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    lengths = draw(st.sampled_from([None, rng.integers(0, t + 1, n)]))
    by = draw(st.sampled_from([(None, None), (rng.normal(size=c), rng.uniform(0.5, 2, c))]))
    x = rng.normal(size=(n, t, c)).astype(dtype)
    if draw(st.booleans()) and x.size:
        x.flat[rng.integers(x.size)] = draw(st.sampled_from([np.nan, np.inf, 1e30]))
    inverse = draw(st.booleans())
    found = []
    for module in (_signal, ours):
        out = np.empty_like(x, draw(st.sampled_from([np.float32])))
        where = module.scale_windows(x, lengths, *by, inverse, out)
        values, starts = x.reshape(-1, c), np.arange(n) * t
        gathered = np.empty((n, t, c), np.float32)
        where += module.gather_windows(values, starts, lengths, *by, gathered)
        found.append((where, out, gathered))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    np.testing.assert_array_equal(found[0][2], found[1][2])


CONVOLUTIONS = {
    "dilations": np.array([1, 2], np.int32),
    "features_per_dilation": np.array([2, 1], np.int32),
    "channel_counts": np.ones(168, np.int32),
    "channel_indices": np.zeros(168, np.int32),
    "biases": np.linspace(-1, 1, 3 * 84).astype(np.float32),
}


COMPETITION = {
    "dilations": np.array([1, 2], np.int32),
    "is_difference": np.array([0, 1], np.int32),
    "kernels": np.concatenate([np.arange(84), -1 - np.arange(84)]).astype(np.int32),
    "channel_counts": np.ones(24, np.int32),
    "channel_indices": np.arange(24, dtype=np.int32) % 2,
}


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("lengths", [None, [9, 30, 12, 30, 0]])
@pytest.mark.parametrize(
    ("name", "plan"), [("share_above_biases", CONVOLUTIONS), ("share_wins", COMPETITION)]
)
def test_convolutions_are_the_same(ours, lengths, n_threads, name, plan):
    x = np.random.default_rng(0).normal(size=(5, 30, 2)).astype(np.float32)
    for bad in (-1, 67):
        if bad >= 0:
            x.flat[bad] = np.inf  # the features are then undefined
        expected, found = (
            getattr(module, name)(x, lengths, **plan, n_threads=n_threads)
            for module in (_signal, ours)
        )
        assert found[1] == expected[1] == bad
        if bad < 0:
            np.testing.assert_array_equal(found[0], expected[0])


X = np.zeros((4, 3, 2))
OUT = np.zeros((4, 3, 2), np.float32)
WRONG = [
    ("PolyphaseFilter", [], 1, 1, 1),
    ("PolyphaseFilter", [1.0, np.nan, 1.0], 1, 1, 1),
    ("PolyphaseFilter", [1.0, 1.0], 1, 1, 1),
    ("PolyphaseFilter", [1.0], 0, 1, 1),
    ("PolyphaseFilter", [1.0], 1, 2**21, 1),
    ("PolyphaseFilter", [1.0], 1, 1, 0),
    ("PolyphaseFilter", [1.0], 1, 1, 1, "torn"),
    ("PolyphaseFilter", [1.0], 1, 1, 1, "mirror", -1),
    ("PolyphaseFilter", [1.0, 1.0, 1.0], 1, 1, 1, "mirror", 0),
    ("TableFilter", [1.0, 2.0], 1, 1.0, 1),
    ("TableFilter", [1.0], 2, 1.0, 1),
    ("TableFilter", [1.0], 1, 0.0, 1),
    ("TableFilter", [1.0], 1, np.nan, 1),
    ("MovingWindow", "median", 3, 1),
    ("MovingWindow", "mean", 0, 1),
    ("MovingWindow", "mean", 3, 1, 3),
    ("MovingWindow", "mean", 2**27, 2),
    ("SectionFilter", np.zeros((1, 5)), 1),
    ("SectionFilter", np.zeros((1, 6)), 1),
    ("SectionFilter", np.ones((1, 6)), 0),
    ("all_finite", np.zeros(3, int)),
    ("scale_windows", X[0], None, None, None, False, OUT),
    ("scale_windows", X, None, np.zeros(2), None, False, OUT),
    ("scale_windows", X, None, np.zeros(3), np.ones(3), False, OUT),
    ("scale_windows", X, [1, 2], None, None, False, OUT),
    ("scale_windows", X, [1, 2, 3, 4], None, None, False, OUT),
    ("scale_windows", X, None, None, None, False, OUT[:, ::2]),
    ("gather_windows", X[0], [0, 5], None, None, None, OUT[:2]),
    ("gather_windows", X[0], [-1], None, None, None, OUT[:1]),
    ("gather_windows", X, [0], None, None, None, OUT[:1]),
    ("share_above_biases", X, [1, 2, 3, 9], *CONVOLUTIONS.values()),
    ("share_above_biases", X[0], None, *CONVOLUTIONS.values()),
    ("check_convolutions", [1], [1, 2], [1] * 84, [0], [0.0], 1),
    ("check_convolutions", [1], [1], [1] * 83, [0], [0.0], 1),
    ("check_convolutions", [0], [1], [1] * 84, [0] * 84, [0.0] * 84, 1),
    ("check_convolutions", [1], [1], [1] * 84, [7] * 84, [0.0] * 84, 2),
    ("share_wins", X, [1, 2, 3, 9], *COMPETITION.values()),
    ("share_wins", X[0], None, *COMPETITION.values()),
    ("check_competition", [1], [0], [0] * 83, [1] * 12, [0] * 12, 1),
    ("check_competition", [1], [0, 1], [0] * 84, [1] * 12, [0] * 12, 1),
    ("check_competition", [1], [0], [0] * 84, [1] * 11, [0] * 11, 1),
    ("check_competition", [1], [0], [0] * 84, [1] * 12, [1] * 12, 1),
    ("check_competition", [[1]], [0], [0] * 84, [1] * 12, [0] * 12, 1),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda case: case[0])
def test_refusals_are_the_same(ours, wrong):
    name, *arguments = wrong
    errors = []
    for module in (_signal, ours):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            getattr(module, name)(*arguments)
        errors.append((caught.typename, str(caught.value)))
    assert errors[0] == errors[1]


def test_wrong_samples_are_refused_in_the_same_way(ours):
    for one, other in (
        both(ours, "PolyphaseFilter", [1.0], 1, 1, 2),
        both(ours, "MovingWindow", "mean", 3, 2),
        both(ours, "SectionFilter", [[1.0, 0, 0, 1, 0, 0]], 2),
    ):
        errors = []
        for made in (one, other):
            with pytest.raises(Exception) as caught:  # noqa: PT011
                made.push(np.zeros((3, 3)))
            errors.append((caught.typename, str(caught.value)))
        assert errors[0] == errors[1]


def test_threads_may_share_a_filter(ours):
    made = ours.MovingWindow("mean", 5, 1)
    rows = []

    def push():
        for _ in range(200):
            rows.append(len(made.push(np.ones((7, 1)))))

    threads = [threading.Thread(target=push) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(rows) + len(made.flush()) == 4 * 200 * 7
