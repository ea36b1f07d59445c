import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.preprocessing.live_clock import LiveClock

RATE = 50.0


def signal(n, n_channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_channels))


def run(clock, x, t=None, sizes=(7,)):
    """Push chunks, flush, and join the samples of each piece; return starts and values."""
    found, at, i = [], 0, 0
    while at < len(x):
        stop = at + sizes[i % len(sizes)]
        found += clock.push(x[at:stop], None if t is None else t[at:stop])
        at, i = stop, i + 1
    found += clock.flush()
    pieces = []
    for part in found:
        if part.start_s is not None:
            pieces.append((part.start_s, [part.values]))
        else:
            pieces[-1][1].append(part.values)
    return [(start_s, np.concatenate(parts)) for start_s, parts in pieces]


@pytest.mark.parametrize("stamped", [False, True])
def test_even_samples_stay_as_they_are(stamped):
    x = signal(500)
    t = 3.0 + np.arange(500) / RATE if stamped else None
    clock = LiveClock(RATE, 2)
    ((start_s, values),) = run(clock, x, t)
    np.testing.assert_array_equal(values, x)
    assert start_s == (3.0 if stamped else 0.0)
    assert [clock.n_late, clock.n_duplicates, clock.n_filled, clock.n_gaps] == [0] * 4


@pytest.mark.parametrize("drift", [-0.005, 0.005])
def test_a_drifting_clock_with_jitter_loses_and_invents_nothing(drift):
    x = signal(20_000)
    true_s = np.arange(len(x)) / RATE * (1 + drift)
    t = true_s + np.random.default_rng(1).uniform(-0.2, 0.2, len(x)) / RATE
    clock = LiveClock(RATE, 2)
    chunks = zip(np.split(x, 200), np.split(t, 200), strict=True)
    found = [part for chunk in chunks for part in clock.push(*chunk)]
    np.testing.assert_array_equal(np.concatenate([part.values for part in found]), x)
    assert clock.n_filled == clock.n_gaps == 0
    end_s = found[0].start_s + (len(x) - 1) / RATE + found[-1].drift_s
    assert abs(end_s - true_s[-1]) < 0.5 / RATE


def test_missing_samples_are_bridged_by_a_straight_line():
    x, t = signal(300), np.arange(300) / RATE
    there = np.ones(300, bool)
    there[[50, 51, 52, 120, 200, 201]] = False
    holes = x.copy()
    holes[60:64, 0] = np.nan
    holes[90, 1] = np.nan
    clock = LiveClock(RATE, 2)
    ((_, values),) = run(clock, holes[there], t[there])
    for c in range(2):
        known = there & ~np.isnan(holes[:, c])
        np.testing.assert_allclose(values[:, c], np.interp(t, t[known], x[known, c]), atol=1e-12)
    assert clock.n_filled == 6 + 4 + 1


def test_channels_that_are_never_known_together_are_joined():
    x, t = signal(200), np.arange(200) / RATE
    holes = x.copy()
    holes[1::2, 0] = np.nan
    holes[::2, 1] = np.nan
    ((start_s, values),) = run(LiveClock(RATE, 2), holes, t)
    assert start_s == t[1]
    assert len(values) == 198  # both channels are known in samples 1 to 198
    np.testing.assert_array_equal(values[::2, 1], x[1:199:2, 1])
    np.testing.assert_allclose(values[0, 0], x[:3:2, 0].mean())


def test_a_long_gap_begins_a_new_piece():
    x, t = signal(300), np.arange(300) / RATE
    later = t + np.repeat([0, 11 / RATE, 11 / RATE + 9e5], 100)
    clock = LiveClock(RATE, 2)
    pieces = run(clock, x, later)
    assert [start_s for start_s, _ in pieces] == [later[0], later[100], later[200]]
    np.testing.assert_array_equal(np.concatenate([values for _, values in pieces]), x)
    assert clock.n_gaps == 2
    pieces = run(LiveClock(RATE, 2, max_gap_s=0.3), x[:200], later[:200])
    assert len(pieces) == 1


def test_a_channel_that_fails_ends_the_piece_and_keeps_no_memory():
    x = signal(5_000)
    x[100:4_900, 1] = np.nan
    clock = LiveClock(RATE, 2)
    found = clock.push(x)
    assert max(len(vars(clock)[name]) for name in ("_held", "_waiting")) < 20
    assert clock.n_gaps == 1
    assert [len(part.values) for part in found] == [100, 100]
    assert found[1].start_s == pytest.approx(4_900 / RATE)


def test_samples_out_of_order_are_sorted_if_they_are_waited_for():
    x, t = signal(300), np.arange(300) / RATE
    order = np.arange(300)
    order[100:104] = [102, 100, 103, 101]
    waits = LiveClock(RATE, 2, max_delay_s=4.5 / RATE)
    ((_, values),) = run(waits, x[order], t[order])
    np.testing.assert_array_equal(values, x)
    hasty = LiveClock(RATE, 2)
    ((_, values),) = run(hasty, x[order], t[order])
    assert (waits.n_late, hasty.n_late) == (0, 2)
    assert len(values) == 300


def test_of_repeated_stamps_the_first_counts():
    x, t = signal(100), np.arange(100) / RATE
    twice = np.sort(np.concatenate([np.arange(100), [20, 40, 41]]))
    again = x[twice]
    again[21] += 100.0
    clock = LiveClock(RATE, 2)
    ((_, values),) = run(clock, again, t[twice])
    np.testing.assert_array_equal(values, x)
    assert clock.n_duplicates == 3


def test_a_clock_that_is_set_back_begins_a_new_piece():
    x = signal(300)
    t = np.concatenate([1000 + np.arange(100) / RATE, np.arange(200) / RATE])
    clock = LiveClock(RATE, 2)
    pieces = run(clock, x, t)
    assert [len(values) for _, values in pieces] == [100, 190]
    # ten late samples, and the sample that proves that the clock was set back
    assert clock.n_late == 11
    np.testing.assert_array_equal(pieces[1][1], x[110:])


@given(st.data())
def test_the_chunks_do_not_matter(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = 120
    x, t = rng.normal(size=(n, 2)), np.arange(n) / RATE + rng.uniform(-0.3, 0.3, n) / RATE
    x[rng.random((n, 2)) < data.draw(st.sampled_from([0.0, 0.05, 0.4]))] = np.nan
    t += np.cumsum(rng.choice([0, 2, 30], n, p=[0.94, 0.04, 0.02])) / RATE
    order = np.argsort(np.arange(n) + rng.uniform(0, data.draw(st.sampled_from([0, 3])), n))
    x, t = x[order], t[order]
    delay_s = data.draw(st.sampled_from([0.0, 0.1]))
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    whole, chunked = (LiveClock(RATE, 2, max_delay_s=delay_s) for _ in range(2))
    expected, found = run(whole, x, t, (n,)), run(chunked, x, t, sizes)
    if not delay_s:  # with a delay, chunk sizes affect which samples are late
        assert len(found) == len(expected)
        for (start_s, values), (wanted_s, wanted) in zip(found, expected, strict=True):
            assert start_s == wanted_s
            np.testing.assert_array_equal(values, wanted)
    for _, values in found:
        assert np.isfinite(values).all()


@pytest.mark.parametrize(
    ("samples", "stamps", "said"),
    [
        (np.zeros((2, 3)), None, "3 channel"),
        (np.array([[0.0, np.inf]]), None, "infinity"),
        (np.zeros((2, 2)), [0.0], "one per sample"),
        (np.zeros((2, 2)), [0.0, np.nan], "not finite"),
    ],
)
def test_bad_samples_are_refused_and_change_nothing(samples, stamps, said):
    clock = LiveClock(RATE, 2)
    x = signal(20)
    first = clock.push(x[:10])
    with pytest.raises(SignalError, match=said):
        clock.push(samples, stamps)
    found = np.concatenate([part.values for part in first + clock.push(x[10:])])
    np.testing.assert_array_equal(found, x)


@pytest.mark.parametrize("arguments", [{"max_gap_s": 0.001}, {"max_delay_s": -1.0}])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(ArgumentError, match=next(iter(arguments))):
        LiveClock(RATE, 2, **arguments)
