"""A timeline of windows: spans, gaps, tables, and ways to compute a timeline."""

import csv
import dataclasses
import io
import re

import numpy as np
import pytest
from fits import class_shares_of, small_classifier
from page_reader import in_notebook

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import ArgumentError, InputError
from sensorseq.recording import LabelSpan
from sensorseq.sequence import timeline_of
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.windows import WindowSet

CLASSES = np.array(["ice", "sand"])


def sure(labels, by=0.9):
    is_class = (np.array(labels)[:, None] == np.arange(2)).astype(float)
    return is_class * by + (1 - is_class) * (1 - by)


def test_spans_cover_the_recording_and_switch_halfway():
    made = timeline_of(sure([0] * 6 + [1] * 6), CLASSES, 2.0 * np.arange(12), 4.0)
    first, second = made.spans
    assert (first.start_s, first.end_s, first.label, first.runner_up) == (0.0, 13.0, "ice", "sand")
    assert (second.start_s, second.end_s, second.label) == (13.0, 26.0, "sand")
    assert (first.n_windows, second.n_windows) == (6, 6)
    assert made.labels.tolist() == ["ice"] * 6 + ["sand"] * 6


def test_a_single_window_of_a_different_class_is_smoothed_away_by_default():
    p = sure([0] * 6 + [1] + [0] * 6)
    assert len(timeline_of(p, CLASSES, np.arange(13.0), 1.0).spans) == 1
    assert len(timeline_of(p, CLASSES, np.arange(13.0), 1.0, smooth="none").spans) == 3
    assert (
        len(timeline_of(p, CLASSES, np.arange(13.0), 1.0, smooth=Smoothing(mean_dwell_s=1.0)).spans)
        == 3
    )


def test_a_gap_and_the_end_of_a_recording_end_a_span():
    start_s = np.array([0, 1, 2, 50, 51, 0, 1, 2.0])
    recording_id = np.array(["b"] * 5 + ["a"] * 3)
    shuffled = np.random.default_rng(0).permutation(8)
    made = timeline_of(
        sure([0] * 5 + [1] * 3)[shuffled], CLASSES, start_s[shuffled], 1.0, recording_id[shuffled]
    )
    spans = {(s.recording_id, s.start_s, s.end_s, s.label) for s in made.spans}
    assert spans == {("b", 0, 3, "ice"), ("b", 50, 52, "ice"), ("a", 0, 3, "sand")}
    for name in "ab":
        assert (np.diff(made.start_s[made.recording_id == name]) > 0).all()


def test_the_table_has_a_row_for_each_span(tmp_path):
    made = timeline_of(sure([0] * 5 + [1] * 5), CLASSES, np.arange(10.0), 1.0)
    made.to_csv(tmp_path / "spans.csv")
    rows = list(csv.DictReader(io.StringIO((tmp_path / "spans.csv").read_text())))
    assert [(row["start_s"], row["end_s"], row["label"]) for row in rows] == [
        ("0.000", "5.000", "ice"),
        ("5.000", "10.000", "sand"),
    ]
    assert all(row["recording"] == "0" for row in rows)
    assert float(rows[0]["probability"]) == pytest.approx(made.spans[0].probability, abs=1e-4)
    assert in_notebook(made).count("<i style=") == 2 + 2  # two spans and two names of classes


def test_a_page_has_the_true_classes_above(tmp_path):
    made = timeline_of(sure([0] * 5 + [1] * 5), CLASSES, 100 + np.arange(10.0), 1.0)
    true = [LabelSpan(100.0, 104.0, "ice"), LabelSpan(104.0, 112.0, "mud")]
    made.to_html(tmp_path / "drive.html", true)
    page = (tmp_path / "drive.html").read_text()
    strips = [
        re.findall(r"left:([\d.]+)%;width:([\d.]+)%;background:([^\"]+)", part)
        for part in re.findall(r'class="strip".*?</div>', page)
    ]
    assert strips == [
        [("0.000", "40.000", "var(--c0)"), ("40.000", "60.000", "var(--line)")],
        [("0.000", "50.000", "var(--c0)"), ("50.000", "50.000", "var(--c1)")],
    ]
    made.to_html(tmp_path / "other.html", made)
    assert (tmp_path / "other.html").read_text().count('class="strip"') == 2
    two = timeline_of(sure([0, 1]), CLASSES, [0.0, 0.0], 1.0, ["a", "b"])
    with pytest.raises(ArgumentError, match="2 recordings"):
        two.to_html(tmp_path / "two.html", true)
    assert not (tmp_path / "two.html").exists()


@pytest.mark.parametrize(
    ("probabilities", "start_s", "message"),
    [
        (sure([0, 1]), [1.0, 1.0], "start at 1 s"),
        (sure([0, 1]), [0.0, np.nan], "start_s"),
        (sure([0, 1]) * np.nan, [0.0, 1.0], "finite"),
        (sure([0, 1, 1]), [0.0, 1.0], "a row for each start"),
    ],
)
def test_windows_without_a_place_in_time_are_refused(probabilities, start_s, message):
    with pytest.raises(InputError, match=message):
        timeline_of(probabilities, CLASSES, start_s, 1.0)


def test_invalid_arguments_of_smoothing_are_reported():
    with pytest.raises(ArgumentError, match=r"at least one window \(4 s\)"):
        timeline_of(sure([0, 1]), CLASSES, [0.0, 4.0], 4.0, smooth=Smoothing(mean_dwell_s=3))
    with pytest.raises(ArgumentError, match="class_shares"):
        timeline_of(sure([0, 1]), CLASSES, [0.0, 1.0], 1.0, class_shares=[0, 1])
    with pytest.raises(ArgumentError, match="smooth"):
        timeline_of(sure([0, 1]), CLASSES, [0.0, 1.0], 1.0, smooth="a lot")
    for wrong in (Smoothing("a lot"), Smoothing("none", mean_dwell_s=3), Smoothing(lag=2)):
        with pytest.raises(ArgumentError, match=r"smooth='a lot'|has no effect with smooth="):
            timeline_of(sure([0, 1]), CLASSES, [0.0, 1.0], 1.0, smooth=wrong)


def test_a_classifier_of_one_class_has_one_span_without_a_runner_up():
    made = timeline_of(np.ones((5, 1)), ["ice"], np.arange(5.0), 1.0)
    (span,) = made.spans
    assert (span.label, span.probability, span.runner_up) == ("ice", 1.0, None)


def test_class_shares_are_counted_once_rather_than_in_every_window():
    p = np.tile([0.7, 0.3], (10, 1))  # from a model with 90 % ice in its training data
    start_s = np.arange(10.0)
    assert set(timeline_of(p, CLASSES, start_s, 1.0).labels) == {"ice"}
    made = timeline_of(p, CLASSES, start_s, 1.0, class_shares=[0.9, 0.1])
    assert set(made.labels) == {"sand"}
    each = timeline_of(p, CLASSES, start_s, 1.0, class_shares=np.tile([0.9, 0.1], (10, 1)))
    np.testing.assert_array_equal(each.probabilities, made.probabilities)
    single = timeline_of(p, CLASSES, start_s, 1.0, class_shares=[0.9, 0.1], smooth="none")
    np.testing.assert_array_equal(single.probabilities, p)


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 0, 1], 15)
    X = rng.normal(size=(60, 20, 1)).astype(np.float32) * (1 + 2 * y[:, None, None])
    arguments = {"hidden_size": 4, "max_epochs": 2, "features": "auto", "random_state": 0}
    return SensorLSTMClassifier(device="cpu", **arguments).fit(X, CLASSES[y]), X, y


def test_a_classifier_gives_the_timeline_of_its_probabilities(fitted):
    clf, X, _ = fitted
    made = clf.timeline(X, start_s=0.5 * np.arange(60), smooth=Smoothing(mean_dwell_s=5))
    options = {"smooth": Smoothing(mean_dwell_s=5), "class_shares": class_shares_of(clf)}
    expected = timeline_of(clf.predict_proba(X), clf.classes_, 0.5 * np.arange(60), 0.5, **options)
    np.testing.assert_array_equal(made.probabilities, expected.probabilities)
    assert made.spans == expected.spans
    with pytest.raises(InputError, match="start_s"):
        clf.timeline(X)


def test_a_model_learns_how_long_classes_last_from_recordings_with_several(fitted, tmp_path):
    _, X, y = fitted
    drive = WindowSet(
        X,
        lengths=np.full(60, 20),
        channels=("cur",),
        y=CLASSES[y],
        groups=np.repeat(["a", "b"], 30),
        recording_id=np.repeat(["a", "b"], 30),
        start_s=np.tile(np.arange(30.0), 2),
        sample_rate_hz=20.0,
    )
    clf = small_classifier(hidden_size=2, max_epochs=1).fit(drive)
    learned = clf.preparation_["dwell"]
    # each of the two drives switches from ice once
    assert learned["mean_s"] == pytest.approx([20, 60])
    clf.save(tmp_path / "model.safetensors")
    made = SensorLSTMClassifier.load(tmp_path / "model.safetensors").timeline(drive)
    np.testing.assert_array_equal(made.mean_dwell_s, learned["mean_s"])
    assert clf.timeline(drive, smooth=Smoothing(mean_dwell_s=7)).mean_dwell_s == 7
    one_class = dataclasses.replace(drive, recording_id=np.repeat(list("abcd"), 15))
    assert "dwell" not in clf.fit(one_class).preparation_
