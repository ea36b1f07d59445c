"""The page of a drive works offline and has strips of classes aligned with the signals."""

import re

import numpy as np
import pytest

from sensorseq.evaluation.predict import RecordingPrediction, make_drive_page
from sensorseq.inspection.facts import measure
from sensorseq.recording import Channel, LabelSpan, Recording
from sensorseq.sequence import timeline_of
from sensorseq.sequence.smoothing import Smoothing
from sensorseq.sequence.strips import MOST_RECORDINGS

CLASSES = np.array(["<ice>", "sand"])


def prediction(name="drive", begins_s=100.0, truth=()):
    t = begins_s + np.arange(400) / 20
    channels = (Channel("cur", "A"), Channel("<vel>", ""))
    recording = Recording(np.stack([np.sin(t), t * 0], axis=1), t, channels, name)
    p = np.repeat([[0.9, 0.1], [0.2, 0.8]], 10, axis=0)
    start_s = np.arange(20.0)
    made = timeline_of(p, CLASSES, start_s, 1.0, smooth=Smoothing(mean_dwell_s=10))
    fields = (False, ("a note",), None, False, begins_s, "", made, measure(recording), truth)
    return RecordingPrediction(name, (), CLASSES, begins_s + start_s, p, *fields)


def parts(page, label):
    strip = re.search(rf'aria-label="{label}[^"]*">(.*?)</div>', page, re.S)[1]
    return re.findall(r'left:([\d.]+)%;width:([\d.]+)%;background:([^"]+)" title="([^"]*)"', strip)


def test_strips_are_aligned_with_the_time():
    truth = (LabelSpan(100.0, 105.0, "<ice>"), LabelSpan(105.0, 300.0, "mud"))
    page = make_drive_page([prediction(truth=truth)], title="a <drive>")
    predicted = parts(page, "predicted")
    assert [part[:3] for part in predicted] == [
        ("0.000", "50.000", "var(--c0)"),
        ("50.000", "50.000", "var(--c1)"),
    ]
    assert predicted[0][3] == "&lt;ice&gt;, 0.0 to 10.0 s"
    true = parts(page, "true")
    assert [part[:3] for part in true] == [
        ("0.000", "25.000", "var(--c0)"),
        ("25.000", "75.000", "var(--line)"),
    ]
    assert page.count('class="signal"') == 2
    assert "5 of 20 windows agree with the labels (25.0 %); 5 without smoothing; the model" in page
    assert "a note" in page
    assert "2 segments as a table" in page


def test_the_page_needs_no_network_and_escapes_names():
    page = make_drive_page([prediction("<script>")], title="<b>")
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|fetch\(|XMLHttpRequest", page)
    assert page.count("<script>") == 1  # the script of the page
    assert "<ice>" not in page
    assert "<vel>" not in page


@pytest.mark.parametrize("n", [1, MOST_RECORDINGS + 2])
def test_the_number_of_undrawn_recordings_is_stated(n):
    page = make_drive_page([prediction(f"r{i}") for i in range(n)], title="many")
    assert page.count('<section class="drive">') == min(n, MOST_RECORDINGS)
    assert ("2 more recordings are not drawn" in page) == (n > MOST_RECORDINGS)
