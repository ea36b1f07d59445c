import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, SignalError
from sensorseq.stamps.live import LiveClock

RATE = 50.0
COUNTERS = ("n_late", "n_duplicates", "n_filled", "n_gaps", "n_infinite", "n_bad_stamps")


def signal(n, n_channels=2, seed=0):
    return np.random.default_rng(seed).normal(size=(n, n_channels))


def run(clock, x, t=None, sizes=(7,)):
    """Push chunks, flush, and join each piece's samples; return starts, values and drifts."""
    found, at, i = [], 0, 0
    while at < len(x):
        stop = at + sizes[i % len(sizes)]
        found += clock.push(x[at:stop], None if t is None else t[at:stop])
        at, i = stop, i + 1
    found += clock.flush()
    pieces = []
    for part in found:
        if part.start_s is not None:
            pieces.append((part.start_s, [], []))
        pieces[-1][1].append(part.values)
        pieces[-1][2].append(part.drifts_s)
    return [(start_s, *map(np.concatenate, parts)) for start_s, *parts in pieces]


@pytest.mark.parametrize("stamped", [False, True])
def test_even_samples_stay_as_they_are(stamped):
    x = signal(500)
    t = 3.0 + np.arange(500) / RATE if stamped else None
    clock = LiveClock(RATE, 2)
    ((start_s, values, _),) = run(clock, x, t)
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
    end_s = found[0].start_s + (len(x) - 1) / RATE + found[-1].drifts_s[-1]
    assert abs(end_s - true_s[-1]) < 0.5 / RATE


def test_missing_samples_are_bridged_by_a_straight_line():
    x, t = signal(300), np.arange(300) / RATE
    there = np.ones(300, bool)
    there[[50, 51, 52, 120, 200, 201]] = False
    holes = x.copy()
    holes[60:64, 0] = np.nan
    holes[90, 1] = np.nan
    clock = LiveClock(RATE, 2)
    ((_, values, _),) = run(clock, holes[there], t[there])
    for c in range(2):
        known = there & ~np.isnan(holes[:, c])
        np.testing.assert_allclose(values[:, c], np.interp(t, t[known], x[known, c]), atol=1e-12)
    assert clock.n_filled == 6 + 4 + 1


def test_channels_that_are_never_known_together_are_joined():
    x, t = signal(200), np.arange(200) / RATE
    holes = x.copy()
    holes[1::2, 0] = np.nan
    holes[::2, 1] = np.nan
    ((start_s, values, _),) = run(LiveClock(RATE, 2), holes, t)
    assert start_s == t[1]
    assert len(values) == 198  # both channels are known in samples 1 to 198
    np.testing.assert_array_equal(values[::2, 1], x[1:199:2, 1])
    np.testing.assert_allclose(values[0, 0], x[:3:2, 0].mean())


def test_a_long_gap_begins_a_new_piece():
    x, t = signal(300), np.arange(300) / RATE
    later = t + np.repeat([0, 11 / RATE, 11 / RATE + 9e5], 100)
    clock = LiveClock(RATE, 2)
    pieces = run(clock, x, later)
    assert [start_s for start_s, _, _ in pieces] == [later[0], later[100], later[200]]
    np.testing.assert_array_equal(np.concatenate([values for _, values, _ in pieces]), x)
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
    ((_, values, _),) = run(waits, x[order], t[order])
    np.testing.assert_array_equal(values, x)
    hasty = LiveClock(RATE, 2)
    ((_, values, _),) = run(hasty, x[order], t[order])
    assert (waits.n_late, hasty.n_late) == (0, 2)
    assert len(values) == 300


def test_of_repeated_stamps_the_first_counts():
    x, t = signal(100), np.arange(100) / RATE
    twice = np.sort(np.concatenate([np.arange(100), [20, 40, 41]]))
    again = x[twice]
    again[21] += 100.0
    clock = LiveClock(RATE, 2)
    ((_, values, _),) = run(clock, again, t[twice])
    np.testing.assert_array_equal(values, x)
    assert clock.n_duplicates == 3


def test_a_clock_that_is_set_back_begins_a_new_piece():
    x = signal(300)
    t = np.concatenate([1000 + np.arange(100) / RATE, np.arange(200) / RATE])
    clock = LiveClock(RATE, 2)
    pieces = run(clock, x, t)
    assert [len(values) for _, values, _ in pieces] == [100, 190]
    # ten late samples, and the sample that proves that the clock was set back
    assert clock.n_late == 11
    np.testing.assert_array_equal(pieces[1][1], x[110:])


@pytest.mark.parametrize("begin_s", [-50.0, -0.1, 0.0, 0.007, 50.0, 1.7e9])
def test_a_piece_begins_at_its_first_stamp(begin_s):
    t = begin_s + np.arange(300) / RATE
    ((start_s, values, drifts_s),) = run(LiveClock(RATE, 2), signal(300), t)
    assert start_s == begin_s
    assert len(values) == 300
    assert np.abs(drifts_s).max() < 1e-6


def test_the_drift_is_that_of_each_sample():
    t = np.arange(3000) / (1.006 * RATE)
    for sizes in ((3000,), (50,), (1,)):
        ((start_s, _, drifts_s),) = run(LiveClock(RATE, 2), signal(3000), t, sizes)
        assert np.abs(start_s + np.arange(3000) / RATE + drifts_s - t).max() < 0.01


@pytest.mark.parametrize("value", [np.inf, -np.inf, 1e300, 3.5e38])
def test_values_that_float32_cannot_hold_are_missing(value):
    x, clock = signal(100), LiveClock(RATE, 2)
    x[50, 1] = value
    ((_, values, _),) = run(clock, x, np.arange(100) / RATE)
    assert values[50].tolist() == [x[50, 0], pytest.approx((x[49, 1] + x[51, 1]) / 2)]
    assert (clock.n_infinite, clock.n_filled) == (1, 1)


@pytest.mark.parametrize("stamp_s", [1e308, -1e308, 1e18, np.inf, np.nan])
def test_a_sample_with_an_impossible_stamp_is_missing(stamp_s):
    x, t, clock = signal(100), np.arange(100) / RATE, LiveClock(RATE, 2)
    t[50] = stamp_s
    ((_, values, _),) = run(clock, x, t)
    np.testing.assert_allclose(values[50], (x[49] + x[51]) / 2)
    np.testing.assert_array_equal(np.delete(values, 50, 0), np.delete(x, 50, 0))
    assert (clock.n_bad_stamps, clock.n_filled, clock.n_gaps) == (1, 1, 0)


@pytest.mark.parametrize("options", [{"in_packets": True}, {"max_delay_s": 0.5}])
@pytest.mark.parametrize("step_s", [0.0, 1e-7])
def test_few_samples_wait_however_many_share_a_time(options, step_s):
    clock = LiveClock(RATE, 1, **options)
    found = clock.push(np.zeros((300, 1)), np.arange(300) / RATE)
    for stamps in np.split(6.0 + np.arange(20_000) * step_s, 20):
        found += clock.push(np.ones((1000, 1)), stamps)
        assert max(len(vars(clock)[name]) for name in ("_waiting", "_packet", "_held")) < 100
    found += clock.flush()
    n_returned = sum(len(part.values) for part in found)
    assert n_returned + clock.n_late + clock.n_duplicates - clock.n_filled == 20_300


@pytest.mark.parametrize("in_packets", [False, True])
def test_sessions_are_not_mixed_if_the_clock_is_set_back(in_packets):
    t = np.concatenate([np.arange(300), np.arange(150, 450)]) / RATE
    if in_packets:
        t = np.repeat(t[4::5], 5)
    x = np.repeat([0.0, 1.0], 300)[:, None]
    for sizes in ((600,), (1,)):
        clock = LiveClock(RATE, 1, None, 0.5, in_packets=in_packets)
        pieces = run(clock, x, t, sizes)
        assert [np.unique(values).tolist() for _, values, _ in pieces] == [[0.0], [1.0]]
        # ten late samples were left out
        assert [len(values) for _, values, _ in pieces] == [300, 290]
        assert clock.n_duplicates == 0


@given(st.data())
def test_the_chunks_do_not_matter(data):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    n = 120
    x, t = rng.normal(size=(n, 2)), np.arange(n) / RATE + rng.uniform(-0.3, 0.3, n) / RATE
    t += data.draw(st.sampled_from([0.0, -50.0, 1.7e9, -0.1]))
    x[rng.random((n, 2)) < data.draw(st.sampled_from([0.0, 0.05, 0.4]))] = np.nan
    t += np.cumsum(rng.choice([0, 2, 30], n, p=[0.94, 0.04, 0.02])) / RATE
    order = np.argsort(np.arange(n) + rng.uniform(0, data.draw(st.sampled_from([0, 3])), n))
    x, t = x[order], t[order]
    t[rng.integers(n)] = data.draw(st.sampled_from([1e308, -1e308, np.nan, 1e18, 3.0]))
    x[rng.integers(n), 0] = data.draw(st.sampled_from([np.inf, -1e300, 0.0]))
    t[rng.integers(n) :] -= data.draw(st.sampled_from([0.0, 0.7, 1e3]))
    delay_s = data.draw(st.sampled_from([0.0, 0.1]))
    in_packets = data.draw(st.booleans())
    if in_packets:
        t = np.repeat(t[::4], 4)
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=1, max_size=5))
    results = []
    for chunks in ((n,), sizes, (1,)):
        clock = LiveClock(RATE, 2, None, delay_s, in_packets=in_packets)
        try:
            pieces = run(clock, x, t, chunks)
        except SignalError as error:  # so many samples were lost that the rate seems to be wrong
            results.append(str(error))
            continue
        assert all(np.isfinite(values).all() for _, values, _ in pieces)
        results.append((pieces, [getattr(clock, name) for name in COUNTERS]))
    for result in results[1:]:
        np.testing.assert_equal(result, results[0])


@pytest.mark.parametrize(
    ("samples", "stamps", "said"),
    [
        (np.zeros((2, 3)), None, "3 channel"),
        (np.zeros((2, 2)), [0.0], "one per sample"),
        (np.zeros((60, 2)), 1.7e18 + np.arange(60) * 2e7, "must be in seconds"),
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
