import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import RecordingError
from sensorseq.recording import Channel, LabelSpan, Recording


def recording(values=None, timestamps_s=None, channels=("current", "gyro"), **more):
    values = np.arange(10.0).reshape(5, 2) if values is None else values
    timestamps_s = np.arange(len(values)) if timestamps_s is None else timestamps_s
    return Recording(values, timestamps_s, channels, "run", **more)


@given(
    n_samples=st.integers(0, 500),
    rate=st.floats(0.01, 1e5),
    start_s=st.sampled_from([0.0, -3.0, 12.5]),
)
def test_an_even_recording_has_its_rate_and_duration(n_samples, rate, start_s):
    even = Recording.evenly_sampled(np.zeros((n_samples, 1)), rate, ["a"], "run", start_s=start_s)
    assert (even.n_samples, even.n_channels) == (n_samples, 1)
    if n_samples:
        assert even.timestamps_s[0] == start_s
    if n_samples > 1:
        assert even.median_sample_rate_hz == pytest.approx(rate, rel=1e-6)
        assert even.duration_s == pytest.approx((n_samples - 1) / rate, rel=1e-6)
    else:
        assert np.isnan(even.median_sample_rate_hz)
        assert even.duration_s == 0.0


def test_the_group_is_the_recording_by_default():
    assert recording().group == "run"
    assert recording(group="robot 3").group == "robot 3"


def test_names_become_channels_and_channels_keep_their_unit():
    made = recording(channels=(Channel("current", "A"), "gyro"))
    assert made.channels == (Channel("current", "A"), Channel("gyro", ""))
    assert made.channel_names == ("current", "gyro")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_stay_as_they_are_and_other_numbers_become_float64(dtype):
    assert recording(np.zeros((5, 2), dtype)).values.dtype == dtype
    for other in (np.int16, np.uint64, np.float16, bool):
        assert recording(np.ones((5, 2), other)).values.dtype == np.float64


def test_nan_is_a_missing_sample_and_infinity_is_an_error():
    values = np.zeros((5, 2))
    values[2, 1] = np.nan
    assert np.isnan(recording(values).values[2, 1])
    values[3, 1] = -np.inf
    with pytest.raises(RecordingError, match=r"'run': channel 'gyro' is infinite at sample 3"):
        recording(values)


def test_selecting_keeps_the_requested_order_and_everything_else():
    made = recording(channels=(Channel("current", "A"), "gyro"), group="g", label="ice")
    one = made.select(["gyro"])
    np.testing.assert_array_equal(one.values, made.values[:, 1:])
    assert (one.channel_names, one.group, one.label) == (("gyro",), "g", "ice")
    swapped = made.select(["gyro", "current"])
    np.testing.assert_array_equal(swapped.values, made.values[:, ::-1])
    assert swapped.channels == made.channels[::-1]
    np.testing.assert_array_equal(swapped.select(made.channel_names).values, made.values)
    with pytest.raises(RecordingError, match="no channel 'torque'; it has current, gyro"):
        made.select(["torque"])
    with pytest.raises(RecordingError, match="'gyro' is used more than once"):
        made.select(["gyro", "gyro"])


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        (r"shape \(5,\).*reshape", {"values": np.zeros(5)}),
        (r"timestamps have shape .* for 5 samples", {"timestamps_s": np.arange(4)}),
        (r"1 channel names \(current\) for 2 columns", {"channels": ("current",)}),
        (r"'a' is used more than once", {"channels": ("a", "a")}),
        (r"time repeats at sample 2.*repair_stamps", {"timestamps_s": [0.0, 1.0, 1.0, 2.0, 3.0]}),
        (r"time goes back 0.5 s at sample 3.*repair", {"timestamps_s": [0.0, 1.0, 2.0, 1.5, 3.0]}),
        (r"timestamp of sample 1 is nan", {"timestamps_s": [0.0, np.nan, 1.0, 2.0, 3.0]}),
        (r"values has dtype", {"values": np.full((5, 2), "x")}),
        (r"values has dtype complex128", {"values": np.ones((5, 2), complex)}),
        (r"of seconds", {"timestamps_s": np.arange(5).astype("M8[s]")}),
        (r"timestamps_s has dtype", {"timestamps_s": list("abcde")}),
    ],
)
def test_a_recording_that_contradicts_itself_is_an_error_that_names_it(message, arguments):
    with pytest.raises(RecordingError, match=r"recording 'run'.*" + message):
        recording(**arguments)


@pytest.mark.parametrize("rate", [0.0, -1.0, np.nan, np.inf])
def test_an_impossible_rate_is_an_error(rate):
    with pytest.raises(RecordingError, match="not a positive rate"):
        Recording.evenly_sampled(np.zeros((3, 1)), rate, ["a"], "run")


def test_a_single_string_is_one_channel_name():
    recording = Recording(np.ones((2, 1)), [0.0, 1.0], "ab", "r")
    assert recording.channel_names == ("ab",)
    assert recording.select("ab").channel_names == ("ab",)


def test_label_spans_are_kept_in_order_of_time():
    ice, mud = LabelSpan(0, 2, "ice"), LabelSpan(2, 4.5, "mud")
    made = recording(label_spans=[mud, ice])
    assert made.label_spans == (ice, mud)
    assert made.is_labelled
    assert made.labels == ("ice", "mud")
    assert recording(label="ice").labels == ("ice",)
    assert not recording().is_labelled
    even = Recording.evenly_sampled(np.zeros((5, 1)), 1.0, ["a"], "run", label_spans=[mud, ice])
    assert even.label_spans == (ice, mud)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.0, 1.0, "ice"), r"'ice' from 1\.000000 s to 1\.000000 s: the end is not after"),
        ((2.0, 1.0, "ice"), "the end is not after the start"),
        ((np.nan, 1.0, "ice"), "finite"),
        ((0.0, np.inf, "ice"), "finite"),
        (("x", 1.0, "ice"), "must be numbers of seconds"),
        ((0.0, 1.0, ""), "no label"),
        ((0.0, 1.0, None), "no label"),
    ],
)
def test_a_label_span_without_meaning_is_an_error(arguments, message):
    with pytest.raises(RecordingError, match=message):
        LabelSpan(*arguments)


def test_label_spans_that_overlap_are_an_error_naming_both():
    spans = [LabelSpan(2, 5, "mud"), LabelSpan(0, 2.5, "ice")]
    with pytest.raises(RecordingError, match=r"'run'.*overlap: 'ice' from 0.*, and 'mud' from 2\."):
        recording(label_spans=spans)
    recording(label_spans=[LabelSpan(2, 5, "mud"), LabelSpan(0, 2, "ice")])


def test_a_recording_has_a_label_or_label_spans():
    with pytest.raises(RecordingError, match=r"'run' has label 'ice' and 1 label spans"):
        recording(label="ice", label_spans=[LabelSpan(0, 2, "mud")])


def test_a_label_outside_the_recording_is_an_error_with_the_time_it_covers():
    recording(label_spans=[LabelSpan(-1, 0.5, "ice"), LabelSpan(4, 9, "mud")]).check_label_spans()
    for span in (LabelSpan(-3, 0, "mud"), LabelSpan(4.1, 9, "mud"), LabelSpan(1.2, 1.8, "mud")):
        outside = recording(label_spans=[span])
        with pytest.raises(RecordingError, match=r"label span 'mud'.* 0\.0+ s to 4\.0+ s"):
            outside.check_label_spans()
    empty = recording(np.empty((0, 2)), label_spans=[LabelSpan(0, 1, "ice")])
    with pytest.raises(RecordingError, match="has no sample"):
        empty.check_label_spans()


@given(
    edges=st.lists(st.integers(0, 20), min_size=4, max_size=4, unique=True),
    window=st.tuples(st.integers(-5, 25), st.integers(1, 20)),
)
def test_the_spans_within_a_stretch_label_its_instants_as_before(edges, window):
    a, b, c, d = sorted(edges)
    made = recording(label_spans=[LabelSpan(a, b, "ice"), LabelSpan(c, d, "mud")])
    start_s, end_s = window[0], window[0] + window[1]
    within = made.spans_within(start_s, end_s)

    def label_at(spans, t):
        return [span.label for span in spans if span.start_s <= t < span.end_s]

    for t in np.arange(-6, 50, 0.5):
        expected = label_at(made.label_spans, t) if start_s <= t < end_s else []
        assert label_at(within, t) == expected


def test_selecting_channels_keeps_the_label_spans():
    spans = (LabelSpan(0, 2, "ice"),)
    assert recording(label_spans=spans).select(["gyro"]).label_spans == spans


def test_pieces_share_the_label_spans_of_the_whole_which_are_checked_once():
    spans = (LabelSpan(2, 3, "mud"), LabelSpan(0, 2, "ice"))
    whole = Recording.evenly_sampled(np.zeros((40, 1)), 10.0, ["a"], "r", label_spans=spans)
    assert whole.label_spans == spans[::-1]
    piece = replace(whole, values=whole.values[:5], timestamps_s=whole.timestamps_s[:5])
    assert piece.label_spans is whole.label_spans
    assert pickle.loads(pickle.dumps(piece)).label_spans == spans[::-1]
    with pytest.raises(RecordingError, match="give either a label or label spans"):
        replace(piece, label="ice")
    with pytest.raises(RecordingError, match="overlap"):
        replace(piece, label_spans=(*whole.label_spans, LabelSpan(1, 4, "tar")))
