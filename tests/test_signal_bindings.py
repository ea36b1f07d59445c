"""Test `sensorseq._signal` with exhausted memory and with concurrent threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sensorseq import _signal

# a view of one stored number; a copy would need 4 PB
HUGE = np.broadcast_to(np.float32(0), (2**50, 1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: _signal.all_finite(HUGE),
        lambda: _signal.PolyphaseFilter(np.ones(3), 1, 1, 1).push(HUGE),
        lambda: _signal.Moments(1).add(HUGE[None]),
        lambda: _signal.gather_windows(HUGE, [0], None, None, None, np.ones((1, 1, 1), "f4")),
    ],
    ids=["all_finite", "push", "add", "gather_windows"],
)
def test_a_copy_that_does_not_fit_into_memory_is_an_error(call):
    with pytest.raises(MemoryError, match="allocate"):
        call()


def test_a_stream_that_ended_takes_the_next_samples():
    window = _signal.MovingWindow("mean", 51, 1, ahead_samples=50)
    assert len(window.push(np.ones((3, 1)))) == 0
    assert len(window.flush()) == 3
    assert len(window.push(np.ones((3, 1)))) == 0
    assert len(window.flush()) == 3


@pytest.mark.parametrize("statistic", ["mean", "min", "line_residual"])
def test_threads_that_share_a_window_take_turns(statistic):
    window = _signal.MovingWindow(statistic, 501, 4, ahead_samples=50)
    parts = np.ones((30, 700, 4))
    with ThreadPoolExecutor(4) as pool:
        n_rows = sum(len(rows) for _ in range(4) for rows in pool.map(window.push, parts))
    assert n_rows + len(window.flush()) == 4 * 30 * 700


def test_moments_that_threads_share_count_every_step():
    moments = _signal.Moments(64)
    block = np.ones((50, 1000, 64))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(moments.add, [block] * 20))
    assert moments.summarize()[0] == 20 * 50 * 1000
