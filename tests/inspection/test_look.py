import re
from dataclasses import replace

import numpy as np
import pytest
from commands import answer, refused, said, succeed
from page_reader import Reader
from small_recordings import write_each

from sensorseq.inspection import look
from sensorseq.inspection.facts import measure
from sensorseq.inspection.look import make_look
from sensorseq.inspection.recordings import check_recordings
from sensorseq.prepare import prepare
from sensorseq.recording import Channel, Recording

HOSTILE = "<script>alert(1)</script>&\"'\x1b[31m"


def make_recordings(n_classes=2, n=4, n_channels=2, seconds=10.0, prefix=""):
    rng = np.random.default_rng(0)
    t = np.arange(0, seconds, 0.02)
    for label in range(n_classes):
        for number in range(n):
            x = np.sin(2 * np.pi * (1 + 3 * label) * t[:, None] + rng.uniform(0, 6, n_channels))
            yield Recording(
                x + 0.3 * rng.normal(size=x.shape),
                t,
                tuple(Channel(f"{prefix}channel {i}", "A") for i in range(n_channels)),
                f"{prefix}class {label}/run {number}",
                label=f"{prefix}class {label}",
            )


def page_of(recordings, errors=()):
    facts = [measure(recording) for recording in recordings]
    odd = [finding.to_dict() for finding in check_recordings(facts)[0]]
    result = {"recordings": [{"error": error} for error in errors], "odd": odd, "ranked": []}
    return make_look(result, facts, title="a folder")


def test_the_page_needs_no_other_file():
    page = page_of(make_recordings())
    read = Reader(page)
    assert not {"link", "img", "iframe", "object"} & set(read.tags)
    assert read.tags.count("script") == 1
    assert not [name for name, _ in read.attributes if name.startswith("on")]
    assert not re.search(r"https?://|url\(|@import|nan", page)
    assert "None were found. Rates, gaps" in read.text


def test_the_page_states_the_contents_and_shows_each_recording():
    recordings = list(make_recordings())
    text = Reader(page := page_of(recordings)).text
    assert "8 recordings, 2 classes, 8 groups, 2 channels, 79.8 s in total, at 50 Hz." in text
    assert all(recording.recording_id in text for recording in recordings)
    assert page.count('class="time"') == 16
    assert page.count('class="spark"') == 4
    assert "0 to 25 Hz" in text


def test_irregularities_are_also_shown_at_their_recording():
    recordings = list(make_recordings())
    keep = np.r_[0:100, 200:500]
    values = recordings[3].values.copy()
    values[:, 1] = np.minimum(values[:, 1], 0.9)
    recordings[3] = replace(
        recordings[3], values=values[keep], timestamps_s=recordings[3].timestamps_s[keep]
    )
    page = page_of(recordings, errors=["run 9: broken"])
    assert re.search(r"1 cannot be read:.*run 9: broken", Reader(page).text)
    row = page[page.index('<th scope="row">class 0/run 3') :].split("</tr>")[0]
    assert row.count('class="gap"') == 2
    assert row.count("▲ gaps") == 1  # the gaps are in all channels, so the mark is next to the name
    assert row.count('class="cut"') == row.count("▲ at its limit") == 1
    assert page.count('class="cut"') == 1


def test_names_are_escaped_whatever_they_contain():
    page = page_of(make_recordings(prefix=HOSTILE), errors=[HOSTILE])
    read = Reader(page)
    assert read.tags.count("script") == 1
    assert "\x1b" not in page
    assert r"\x1b[31mchannel 1" in read.text


def test_many_recordings_stay_readable(monkeypatch):
    assert look.MOST_BYTES <= 1_000_000
    monkeypatch.setattr(look, "MOST_BYTES", 60_000)
    recordings = list(make_recordings(n_classes=2, n=15, n_channels=2, seconds=4.0))
    odd = replace(recordings[14], timestamps_s=1000 * recordings[14].timestamps_s)
    page = page_of([*recordings[:14], odd, *recordings[15:]])
    assert 0.7 * 60_000 < len(page.encode()) <= 60_000
    n_rows = page.count('class="time"') / (2 * 2)
    assert n_rows == int(n_rows) > 4
    assert f"{15 - int(n_rows)} more recordings are part" in page
    assert "▲ time unit" in page


def test_many_channels_and_classes_stay_small(monkeypatch):
    many = page_of(make_recordings(n_classes=1, n=1, n_channels=40, seconds=2.0))
    assert "24 more channels are not drawn" in many
    assert many.count('class="time"') == 16
    monkeypatch.setattr(look, "MOST_BYTES", 120_000)
    page = page_of(make_recordings(n_classes=20, n=1, n_channels=4, seconds=2.0))
    assert 60_000 < len(page.encode()) <= 120_000
    assert page.count('class="time"') >= 20


def test_a_counter_that_was_left_out_is_reported(tmp_path):
    root = write_each(tmp_path / "logs", make_recordings(n_channels=1))
    for file in root.rglob("*.csv"):
        head, *rows = file.read_text().splitlines()
        rows = [f"{row},{number}" for number, row in enumerate(rows)]
        file.write_text("\n".join([f"{head},tick_number", *rows]))
    page = tmp_path / "look.html"
    succeed("inspect", root, "--html", page, "-q")
    odd = Reader(page.read_text("utf-8")).text.split("Irregularities")[1].split("Classes")[0]
    assert "tick_number" in odd
    assert "8 recording" in odd
    assert "Nothing" not in odd


def test_inspect_writes_the_page_and_lists_irregularities(tmp_path):
    recordings = list(make_recordings())
    recordings[2] = replace(recordings[2], timestamps_s=recordings[2].timestamps_s / 1000)
    root = write_each(tmp_path / "logs", recordings)
    page = tmp_path / "look.html"
    shown = succeed("inspect", root, "--html", page, "-q")
    assert "unit of the timestamps with --time-unit" in " ".join(shown.split())
    *lines, last = shown.splitlines()
    assert max(map(len, lines)) <= 80
    assert last == f"page written to {page}"
    text = Reader(page.read_text("utf-8")).text
    assert "class 0/run 2 (5e+04 Hz)" in text
    result = answer("inspect", root, "--channels", "channel 1")
    (odd,) = result["odd"]
    assert odd["kind"] == "time_unit"
    assert odd["values"]["recordings"] == ["class 0/run 2"]
    assert {"p1", "p99", "gap_share"} <= set(result["recordings"][0]["channels"][0])
    assert [c["name"] for c in result["recordings"][0]["channels"]] == ["channel 1"]
    assert page.exists()
    refused(3, "inspect", root, "--html", tmp_path / "no" / "x.html", "-q")


def test_an_unreadable_recording_is_listed_on_the_page_with_the_others(tmp_path):
    root = write_each(tmp_path / "logs", make_recordings())
    (root / "class 0" / "run 9.csv").write_text("time,channel 0\n0,1\n0.1,x\n")
    page = tmp_path / "look.html"
    assert said("inspect", root, "--html", page, "-q")[0] == 3
    text = Reader(page.read_text("utf-8")).text
    assert "8 recordings" in text
    assert "1 more cannot be read" in text
    assert "run 9.csv" in text


@pytest.mark.parametrize("hop_s", [1.0, 0.25])
def test_a_prepared_file_has_a_page_too(hop_s, tmp_path):
    root = write_each(tmp_path / "logs", make_recordings())
    file, page = tmp_path / "w.h5", tmp_path / "look.html"
    prepare(root, file, window_s=1.0, hop_s=hop_s)
    result = answer("inspect", file, "--html", page)
    assert result["odd"] == []
    assert [row["n_samples"] for row in result["recordings"]] == [500] * 8
    assert [row["n_long_gaps"] for row in result["recordings"]] == [0] * 8
    assert "8 recordings, 2 classes" in Reader(page.read_text("utf-8")).text
    refused(2, "inspect", file, "--html", page, "--files", "x")


def test_label_spans_are_shown_separately(tmp_path):
    root = write_each(tmp_path / "logs", make_recordings(n_classes=1, n=2))
    rows = [f"class 0/run {i}.csv,{s},{s + 4},{k}" for i in (0, 1) for s, k in ((0, "a"), (5, "b"))]
    (root / "manifest.csv").write_text("\n".join(["path,start_s,end_s,label", *rows]) + "\n")
    page = tmp_path / "look.html"
    succeed("inspect", root, "--html", page, "-q")
    text = Reader(page.read_text("utf-8")).text
    assert "4 recordings, 2 classes, 2 groups" in text
    assert "class 0/run 0 from 5 s" in text
