from dataclasses import replace

import numpy as np
import pytest
from cut_windows import counting
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.preprocessing.windows.cut import window_recordings

RATE = 10.0


def without_first(recording, n_samples):
    values, stamps = recording.values[n_samples:], recording.timestamps_s[n_samples:]
    return replace(recording, values=values, timestamps_s=stamps)


def random_phase(recording, window_s, hop_s, seed):
    how = {"phase": "random", "random_state": seed}
    return window_recordings([recording], window_s, hop_s, **how)


@given(
    n_samples=st.integers(2, 100),
    window=st.integers(1, 20),
    hop=st.integers(1, 25),
    seed=st.integers(0, 1000),
)
def test_windows_of_a_random_phase_are_those_of_the_shifted_recording(n_samples, window, hop, seed):
    if n_samples < window:
        return
    recording = counting(n_samples)
    drawn = random_phase(recording, window / RATE, hop / RATE, seed)
    offset = int(drawn.X[0, 0, 0])
    assert 0 <= offset < hop
    rest = without_first(recording, offset)
    shifted = window_recordings([rest], window / RATE, hop / RATE, sample_rate_hz=RATE)
    np.testing.assert_array_equal(drawn.X, shifted.X)
    np.testing.assert_array_equal(drawn.start_s, shifted.start_s)


@pytest.mark.parametrize("hop_s", [0.1, 0.7, 1.0, 0.95])
def test_every_phase_below_a_hop_is_drawn_about_equally_often(hop_s):
    recording = counting(200)
    n_places = int(np.ceil(hop_s * RATE))
    seeds = range(40 * n_places)
    firsts = [int(random_phase(recording, 1.0, hop_s, seed).X[0, 0, 0]) for seed in seeds]
    counts = np.bincount(firsts, minlength=n_places)
    assert len(counts) == n_places
    # Each phase is expected 40 times; the tolerance is six standard deviations of a Poisson count.
    assert (np.abs(counts - 40) < 6 * np.sqrt(40)).all()


def test_a_phase_leaves_every_recording_a_window():
    # 1.2 s, so a phase of more than 0.2 s would leave no window
    recording = counting(12)
    for seed in range(30):
        assert len(random_phase(recording, 1.0, 2.0, seed)) == 1


def test_a_phase_depends_on_seed_recording_and_time_alone():
    recordings = [counting(100, "a"), counting(100, "b"), counting(100, "a", start_s=50.0)]

    def firsts(given, seed):
        windows = window_recordings(given, 1.0, phase="random", random_state=seed)
        first = windows.take(windows.X[:, 0, 0] < 10)
        keys = zip(first.recording_id.tolist(), (first.start_s >= 50).tolist(), strict=True)
        return dict(zip(keys, first.X[:, 0, 0].tolist(), strict=True))

    together = firsts(recordings, 7)
    assert firsts(recordings[::-1], 7) == together
    for recording in recordings:
        assert set(firsts([recording], 7).items()) <= set(together.items())
    drawn = [tuple(firsts(recordings, seed).values()) for seed in range(20)]
    assert len(set(drawn)) > 10  # phases differ between seeds
    # phases differ between recordings and pieces
    assert any(len(set(places)) == 3 for places in drawn)


def test_without_a_seed_each_call_draws_new_phases():
    recording = counting(2000)
    firsts = {random_phase(recording, 1.0, 100.0, None).X[0, 0, 0] for _ in range(8)}
    assert len(firsts) > 1
