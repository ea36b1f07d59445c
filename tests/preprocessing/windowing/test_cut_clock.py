"""With a slop, windows begin at multiples of the hop on the recording's clock."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import Channel, Recording


@given(
    st.floats(0, 50),
    st.sampled_from([6.5, 10.0, 33.0, 100.0]),
    st.floats(0.5, 4),
    st.floats(0.3, 3),
    st.floats(0.05, 0.29),
    st.integers(2, 900),
)
def test_each_window_begins_at_the_next_sample_after_a_multiple(
    first_s, rate, window_s, hop_s, slop_s, n_samples
):
    t = first_s + np.arange(n_samples) / rate
    recording = Recording(np.arange(n_samples)[:, None], t, (Channel("x"),), "r")
    length = int(window_s * rate + 1e-9)
    cut = window_recordings(
        [recording], window_s, hop_s, sample_rate_hz=rate, slop_s=slop_s, check_classes=False
    )
    number = np.arange(np.ceil((first_s - slop_s) / hop_s - 1e-9), (t[-1] + 1) / hop_s)
    # By definition, a window starts with the first sample that is not before the multiple.
    starts = sorted(
        {
            int(np.flatnonzero(t >= k * hop_s - 1e-5 / rate)[0])
            for k in number
            if (t >= k * hop_s - 1e-5 / rate).any()
        }
    )
    assert cut.X[:, 0, 0].tolist() == [s for s in starts if s + length <= n_samples]


def test_windows_of_a_piece_after_a_gap_are_on_the_clock_too():
    def piece(first_s):
        t = first_s + np.arange(400) / 100
        return Recording(np.zeros((400, 1)), t, (Channel("x"),), "r")

    cut = window_recordings(
        [piece(0.0), piece(7.3)], 1.0, 1.0, sample_rate_hz=100, slop_s=0.1, check_classes=False
    )
    np.testing.assert_allclose(cut.start_s, [0, 1, 2, 3, 8, 9, 10], atol=1e-9)
