import json
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from cut_windows import counting
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.errors import ArgumentError, RecordingError, WindowError
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.preprocessing.windowing.label_rules import check_class_fates, merge_fates
from sensorseq.recording import LabelSpan, Recording

RATE = 10.0


def spans(*edges_and_labels):
    """Make label spans from (first sample, one past the last, label)."""
    return tuple(LabelSpan(a / RATE, b / RATE, label) for a, b, label in edges_and_labels)


def true_labels(recording):
    """Return the label of each sample according to the definition; None if it has no label."""
    labels = np.full(recording.n_samples, recording.label, object)
    for span in recording.label_spans:
        # This tolerance is far below intended differences and far above rounding errors.
        early = recording.timestamps_s + 1e-3 / RATE
        labels[(early >= span.start_s) & (early < span.end_s)] = span.label
    return labels


def samples_of(windows, row):
    """Return the valid samples of a window as positions in its recording."""
    return windows.X[row, : windows.lengths[row], 0].astype(int)


@st.composite
def spanned(draw, recording_id="run"):
    n_samples = draw(st.integers(2, 80))
    cuts = sorted(draw(st.sets(st.integers(0, n_samples), min_size=2, max_size=7)))
    drawn = [(*edges, draw(st.sampled_from(["ice", "mud", None]))) for edges in pairwise(cuts)]
    made = [(a, b, label) for a, b, label in drawn if label is not None]
    made = made or [(cuts[0], cuts[1], "ice")]
    return counting(n_samples, recording_id, label_spans=spans(*made))


def cut_or_none(recordings, *args, **more):
    """Return windows, or None if a class has no windows or all recordings are too short."""
    try:
        return window_recordings(recordings, *args, **more)
    except WindowError:
        return None


SHORT = st.sampled_from(["drop", "pad"])
SPANNED = {"recording": spanned(), "window": st.integers(1, 12), "hop": st.integers(1, 15)}


@given(**SPANNED, short=SHORT)
def test_under_whole_every_window_has_exactly_one_label(recording, window, hop, short):
    windows = cut_or_none([recording], window / RATE, hop / RATE, short=short)
    if windows is None:
        return
    labels = true_labels(recording)
    for row in range(len(windows)):
        assert set(labels[samples_of(windows, row)]) == {windows.y[row]}
    # Each span is cut like a separate recording.
    expected = []
    for span in recording.label_spans:
        first, stop = round(span.start_s * RATE), round(span.end_s * RATE)
        expected += list(range(first, stop - window + 1, hop))
        if short == "pad" and stop - first < window:
            expected.append(first)
    assert [samples_of(windows, row)[0] for row in range(len(windows))] == expected


@given(
    **SPANNED,
    rule=st.sampled_from(["majority", "centre", "last"]),
    min_purity=st.sampled_from([None, 0.2, 0.5, 0.75, 1.0]),
    short=SHORT,
)
def test_each_rule_gives_the_label_worked_out_by_hand(
    recording, window, hop, rule, min_purity, short
):
    if rule != "majority":
        min_purity = None
    how = {"label_rule": rule, "min_purity": min_purity, "short": short}
    windows = cut_or_none([recording], window / RATE, hop / RATE, **how)
    if windows is None:
        return
    labels = true_labels(recording)
    starts = list(range(0, recording.n_samples - window + 1, hop)) or [0]
    expected = []
    for start in starts:
        inside = labels[start : start + window].tolist()
        if rule == "majority":
            counts = sorted(((inside.count(name), name) for name in {"ice", "mud"}), reverse=True)
            (most, label), (second, _) = counts
            if most == second or most / len(inside) < (min_purity or 0.5) - 1e-9:
                label = None
        else:
            label = inside[len(inside) // 2] if rule == "centre" else inside[-1]
        if label is not None:
            expected.append((start, label))
    found = [(samples_of(windows, row)[0], windows.y[row]) for row in range(len(windows))]
    assert found == expected
    dropped = sum(row["n_windows"] for row in windows.provenance["dropped"])
    assert len(windows) + dropped == len(starts)


@pytest.mark.parametrize("rule", ["majority", "centre", "last"])
@given(window=st.integers(1, 20), hop=st.integers(1, 25))
def test_every_rule_agrees_on_recordings_of_one_label(window, hop, rule):
    recordings = [counting(40, "a", label="ice"), counting(60, "b", label="mud")]
    whole = window_recordings(recordings, window / RATE, hop / RATE)
    other = window_recordings(recordings, window / RATE, hop / RATE, label_rule=rule)
    for name in ("X", "y", "start_s", "recording_id", "groups", "lengths"):
        np.testing.assert_array_equal(getattr(other, name), getattr(whole, name))


@given(
    recordings=st.tuples(*(spanned(name) for name in "abc")),
    order=st.permutations([0, 1, 2]),
    rule=st.sampled_from(["whole", "majority", "centre", "last"]),
)
def test_permuting_recordings_permutes_their_windows(recordings, order, rule):
    more = {"label_rule": rule, "short": "pad"}
    one = cut_or_none(recordings, 0.5, 0.3, **more)
    other = cut_or_none([recordings[i] for i in order], 0.5, 0.3, **more)
    assert (one is None) == (other is None)
    if one is None:
        return
    for name in "abc":
        a, b = one.take(one.recording_id == name), other.take(other.recording_id == name)
        for field in ("X", "y", "start_s", "lengths"):
            np.testing.assert_array_equal(getattr(a, field), getattr(b, field))


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=5), window=st.integers(2, 20))
def test_padding_and_lengths_lose_no_sample_of_what_is_short(sizes, window):
    recordings = [counting(n, f"run {i}") for i, n in enumerate(sizes)]
    if max(sizes) < 2:
        return
    windows = window_recordings(recordings, window / RATE, short="pad", sample_rate_hz=RATE)
    for recording in recordings:
        of_it = windows.take(windows.recording_id == recording.recording_id)
        if 0 < recording.n_samples < window:
            assert of_it.lengths.tolist() == [recording.n_samples]
            np.testing.assert_array_equal(samples_of(of_it, 0), np.arange(recording.n_samples))
            assert (of_it.X[0, recording.n_samples :] == 0).all()
        else:
            assert len(of_it) == recording.n_samples // window
            assert (of_it.lengths == window).all()
    assert windows.n_timesteps == window


def test_parts_without_windows_are_reported_with_the_reason():
    recording = counting(40, label_spans=spans((5, 25, "ice"), (25, 28, "mud"), (30, 36, "mud")))
    windows = window_recordings([recording], 0.5)
    assert windows.y.tolist() == ["ice"] * 4 + ["mud"]
    told = [(d["start_s"], d["n_samples"], d["reason"]) for d in windows.provenance["dropped"]]
    unlabeled = [(start_s, n, "no label") for start_s, n in ((0.0, 5), (2.8, 2), (3.6, 4))]
    assert told == sorted([*unlabeled, (2.5, 3, "shorter than a window")])
    windows = window_recordings([recording], 0.5, label_rule="majority", min_purity=0.8)
    counted = {d["reason"]: d["n_windows"] for d in windows.provenance["dropped"]}
    assert counted == {"no label": 1, "purity below 0.8": 2}  # windows from 0, 2.5 and 3.5 s
    windows = window_recordings([recording], 0.5, label_rule="last")
    counted = {d["reason"]: d["n_windows"] for d in windows.provenance["dropped"]}
    assert counted == {"no label at the last sample": 3}
    # There are 4 samples of ice and 4 of mud.
    both = counting(16, label_spans=spans((0, 12, "ice"), (12, 16, "mud")))
    more = counting(16, "more", label="mud")
    windows = window_recordings([both, more], 0.8, label_rule="majority")
    assert windows.y.tolist() == ["ice", "mud", "mud"]
    of_window = {"recording_id": "run", "start_s": 0.0, "n_windows": 1}
    expected = {**of_window, "reason": "two labels are equally frequent"}
    assert windows.provenance["dropped"] == [expected]


def test_spans_are_met_by_the_pieces_that_gaps_leave():
    times = np.r_[np.arange(35), 100 + np.arange(28)] / RATE
    labels = spans((0, 20, "ice"), (20, 110, "mud"), (110, 128, "ice"))
    recording = Recording(times[:, None], times, ("a",), "run", label_spans=labels)
    pieces = resample_recording(recording, RATE)
    assert len(pieces) == 2
    windows = window_recordings(pieces, 1.0)
    np.testing.assert_allclose(windows.start_s, [0, 1, 2, 10, 11])
    assert windows.y.tolist() == ["ice", "ice", "mud", "mud", "ice"]


def test_a_span_that_fell_into_a_gap_is_counted():
    times = np.r_[np.arange(30), 100 + np.arange(30)] / RATE
    labels = spans((0, 20, "ice"), (40, 60, "ice"), (100, 120, "ice"))
    recording = Recording(times[:, None], times, ("a",), "run", label_spans=labels)
    windows = window_recordings(resample_recording(recording, RATE), 1.0)
    reasons = [d["reason"] for d in windows.provenance["dropped"]]
    assert "no sample in the label span of 'ice'" in reasons


def test_a_class_that_loses_all_windows_is_an_error_that_says_what_removed_it():
    mixed = counting(40, label_spans=spans((0, 30, "ice"), (30, 33, "mud"), (34, 37, "mud")))
    apart = counting(40, "a", label="ice"), counting(4, "b", label="mud")
    outside = counting(40, label_spans=spans((0, 30, "ice"), (50, 60, "mud")))
    pure = {"label_rule": "majority", "min_purity": 0.7}
    for recordings, window_s, more, said in (
        ([mixed], 1.0, {}, r"'mud' .*: all its label spans.*0\.3 s.*omit"),
        ([mixed], 1.0, pure, r"'mud'.*min_purity=0\.7; it makes up at most 0\.6"),
        ([mixed], 1.0, {"label_rule": "last"}, "'mud' .* this label at its last sample"),
        ([mixed], 1.0, {"hop_s": 2.0, "label_rule": "centre"}, "'mud' .*no window contains"),
        (apart, 1.0, {"label_rule": "majority"}, "'mud' .* shorter than .*; the longest lasts "),
        ([mixed], 3.5, {}, "no label span is as long .* 'ice', lasts 3 s"),
        ([outside], 1.0, {}, "'mud' .*its label spans contain no samples"),
    ):
        with pytest.raises(WindowError, match=said):
            window_recordings(recordings, window_s, **more)


def test_short_can_be_an_error_that_names_the_recording_and_how_long_it_is():
    recordings = [counting(40, "long", label="ice"), counting(4, "brief", label="ice")]
    with pytest.raises(RecordingError, match=r"'brief'.* 4 samples \(0\.4 s\).*window_s=1"):
        window_recordings(recordings, 1.0, short="error")
    spanned_one = counting(40, label_spans=spans((0, 30, "ice"), (30, 33, "mud")))
    with pytest.raises(RecordingError, match=r"'run'.*span of 'mud' from 3\.000000 s on"):
        window_recordings([spanned_one], 1.0, short="error")
    # An empty recording does not count as too short.
    windows = window_recordings([recordings[0], counting(0, "none", label="ice")], 1, short="error")
    assert len(windows) == 4


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"label_rule": "majorty"}, "Did you mean 'majority'"),
        ({"short": "padd"}, "short='padd'"),
        ({"min_purity": 0.7}, "is only for label_rule='majority'"),
        *(
            ({"label_rule": "majority", "min_purity": purity}, "min_purity")
            for purity in (0, -1, 1.5, "x", np.nan)
        ),
        *(({"hop_s": hop_s}, "hop_s=") for hop_s in (0, -1, "x", np.nan)),
        ({"hop_s": 0.01}, "windows would repeat"),
        ({"window_s": "x"}, "window_s="),
    ],
)
def test_invalid_arguments_are_errors(arguments, said):
    with pytest.raises(ArgumentError, match=said):
        window_recordings([counting(40, label="ice")], **{"window_s": 1.0, **arguments})


def test_labels_are_for_every_recording_or_for_none():
    spanned_one = counting(40, "spanned", label_spans=spans((0, 30, "ice")))
    with pytest.raises(RecordingError, match="'bare' has no label, but 'spanned' has 'ice'"):
        window_recordings([spanned_one, counting(40, "bare")], 1.0)
    windows = window_recordings([spanned_one, counting(40, "whole", label="mud")], 1.0)
    assert windows.y.tolist() == ["ice"] * 3 + ["mud"] * 4


def test_recordings_cut_one_by_one_give_the_windows_of_all_at_once():
    recordings = [
        counting(40, "a", label_spans=spans((0, 30, "ice"), (30, 33, "mud"))),
        counting(40, "b", label_spans=spans((0, 3, "ice"), (20, 40, "mud"))),
        counting(5, "c", label_spans=spans((0, 5, "ice"))),
    ]
    for rule in ("whole", "majority", "last"):
        whole = window_recordings(recordings, 1.0, 0.5, label_rule=rule)
        each = [
            window_recordings([one], 1.0, 0.5, label_rule=rule, check_classes=False)
            for one in recordings
        ]
        assert len(each[2]) == 0
        for name in ("X", "start_s", "recording_id", "lengths"):
            joined = np.concatenate([getattr(one, name) for one in each])
            np.testing.assert_array_equal(joined, getattr(whole, name))
        assert [label for one in each for label in one.y.tolist()] == whole.y.tolist()
        dropped = [row for one in each for row in one.provenance["dropped"]]
        assert dropped == whole.provenance["dropped"]
        fates = merge_fates(fate for one in each for fate in one.provenance["classes"])
        assert fates == whole.provenance["classes"]
        assert {fate["label"]: fate["n_windows"] for fate in fates} == Counter(whole.y.tolist())


def test_a_class_lost_over_recordings_cut_one_by_one_is_the_same_error():
    recordings = [
        counting(40, "a", label_spans=spans((0, 30, "ice"), (30, 33, "mud"))),
        counting(40, "b", label_spans=spans((0, 20, "ice"), (20, 26, "mud"))),
    ]
    for choices in (
        {"label_rule": "whole"},
        {"label_rule": "majority", "min_purity": 0.9},
        {"label_rule": "last", "hop_s": 3.0},
    ):
        with pytest.raises(WindowError) as at_once:
            window_recordings(recordings, 1.0, **choices)
        fates = []
        for one in recordings:
            windows = window_recordings([one], 1.0, check_classes=False, **choices)
            fates += windows.provenance["classes"]
        rule = {"label_rule": choices["label_rule"], "min_purity": choices.get("min_purity")}
        with pytest.raises(WindowError) as one_by_one:
            check_class_fates(json.loads(json.dumps(fates)), window_s=1.0, **rule)
        assert str(one_by_one.value) == str(at_once.value)
