"""A filter of the C library gives the same rows however its signal is divided into pushes."""

import ctypes

import numpy as np
import pytest

from sensorseq.base import core

INT, VOID, REAL = ctypes.c_int64, ctypes.c_void_p, ctypes.c_double
TAPS, SECTIONS = np.hanning(25), np.array([[0.2, 0.1, 0.0, 1.0, -0.5, 0.1]])
X = np.random.default_rng(0).normal(size=(40, 2))
FILTERS = {  # name and arguments of the function that makes the filter, and the latency
    "polyphase": (("polyphase", TAPS, INT(25), INT(2), INT(3), INT(2), b"mirror", None), 6.0),
    "table": (("table", TAPS, INT(25), INT(4), REAL(1.3), INT(2), b"hold"), 4.0),
    "causal moving": (("moving", b"std", INT(5), INT(2), INT(0)), 0.0),
    "centered moving": (("moving", b"rms", INT(5), INT(2), INT(2)), 2.0),
    "longer than the signal": (("moving", b"max", INT(70), INT(2), INT(69)), 69.0),
    "sections": (("sections", SECTIONS, INT(1), INT(2)), 0.0),
}


def address(value):
    return value.ctypes.data_as(VOID) if isinstance(value, np.ndarray) else value


class Filter:
    def __init__(self, name, *arguments):
        self._c, self._at = core.library(), VOID()
        core.check(
            self._c[f"sensorseq_{name}_make"](*map(address, arguments), ctypes.byref(self._at))
        )
        self._c.sensorseq_filter_latency.restype = REAL
        self.latency = self._c.sensorseq_filter_latency(self._at)

    def push(self, x, *, is_last=False, real_bytes=8):
        rows, y = INT(), np.full((200, 2), np.nan)
        n, last = INT(len(x)), int(is_last)
        core.check(self._c.sensorseq_filter_rows(self._at, n, last, ctypes.byref(rows)))
        core.check(
            self._c.sensorseq_filter_push(self._at, real_bytes, address(x), n, last, address(y))
        )
        assert np.isnan(y[rows.value :]).all()
        return y[: rows.value]


@pytest.mark.parametrize("name", FILTERS)
def test_rows_do_not_depend_on_the_pushes_and_samples_of_the_last_push_count(name):
    arguments, latency = FILTERS[name]
    made = [Filter(*arguments) for _ in range(4)]
    assert made[0].latency == latency
    pushed = made[0].push(X)
    whole = np.concatenate([pushed, made[0].push(X[:0], is_last=True)])
    np.testing.assert_array_equal(made[1].push(X, is_last=True), whole)
    for of, at in ((made[2], (7, 8, 39)), (made[3], (0, 20))):
        parts = np.split(X, at)
        rows = [of.push(part, is_last=part is parts[-1]) for part in parts]
        np.testing.assert_array_equal(np.concatenate(rows), whole)
    if arguments[0] == "moving":
        assert len(whole) == len(X)
        assert len(pushed) == max(0, len(X) - latency)


def test_the_window_of_a_moving_statistic_is_ahead_by_its_latency():
    rows = Filter("moving", b"mean", INT(5), INT(2), INT(2)).push(X, is_last=True)
    expected = [X[max(0, t - 2) : t + 3].mean(axis=0) for t in range(len(X))]
    np.testing.assert_allclose(rows, expected, atol=1e-12)


def test_wrong_pushes_are_refused():
    moving = Filter("moving", b"mean", INT(5), INT(2), INT(2))
    with pytest.raises(ValueError, match="real_bytes is neither 4 nor 8"):
        moving.push(X, real_bytes=2)
    with pytest.raises(ValueError, match="x needs doubles"):
        moving.push(X, real_bytes=4)
    moving.push(X, is_last=True)
    assert len(moving.push(X[:0], is_last=True)) == 0
    with pytest.raises(ValueError, match="the signal has ended"):
        moving.push(X)
    library, rows = core.library(), INT()
    with pytest.raises(ValueError, match="n_samples is negative"):
        core.check(library.sensorseq_filter_rows(moving._at, INT(-1), 0, ctypes.byref(rows)))
