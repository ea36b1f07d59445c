"""Labels from other programs (tables of intervals, Label Studio, Audacity, ELAN) are converted."""

import functools
import json

import numpy as np
import pytest
from commands import succeed
from tables import write_table

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import find_recordings, read_recordings

RUNS = {"s": 1.0, "ms": 1e3, "us": 1e6}
SPANS = [(2.5, 10.0, "walk"), (12.0, 30.5, "run")]


def log(path, *, start_s=0.0, unit="s", seconds=60.0, hz=50.0):
    """Write a recording whose time column is in the given unit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(int(seconds * hz)) / hz
    stamps = (start_s + t) * RUNS[unit]
    stamps = stamps if unit == "s" else np.round(stamps).astype(np.int64)
    name = "time" if unit == "s" else f"time_{unit}"
    rate = 1 + int.from_bytes(path.stem.encode(), "big") % 97 / 1000  # no two logs are alike
    return write_table(path, {name: stamps, "x": np.sin(rate * t)})


def region(start, end, label):
    value = {"start": start, "end": end, "instant": False, "timeserieslabels": [label]}
    return {"id": "r", "from_name": "label", "to_name": "ts", "value": value}


def export(path, name, spans, **more):
    result = [region(*span) for span in spans]
    task = {"id": 7, "data": {"csv": name}, "annotations": [{"result": result}], **more}
    path.write_text(json.dumps([task]))
    return path


def spans_of(*args, **options):
    (recording,) = read_recordings(*args, **options)
    return [(span.start_s, span.end_s, span.label) for span in recording.label_spans]


def approximately(spans, shift_s=0.0):
    near = functools.partial(pytest.approx, rel=0, abs=1e-3)
    return [(near(a + shift_s), near(b + shift_s), label) for a, b, label in spans]


@pytest.mark.parametrize("unit", list(RUNS))
@pytest.mark.parametrize("start_s", [0.0, 1_772_323_200.0])
def test_regions_of_label_studio_are_in_the_unit_of_the_time_column(tmp_path, unit, start_s):
    log(tmp_path / "logs" / "run1.csv", start_s=start_s, unit=unit)
    scale = RUNS[unit]
    spans = [((start_s + a) * scale, (start_s + b) * scale, label) for a, b, label in SPANS]
    name = "/data/upload/3/1a2b3c4d-run1.csv"
    table = export(tmp_path / "export.json", name, spans)
    found = spans_of(tmp_path / "logs", manifest=table)
    assert found == approximately(SPANS, start_s)


def test_label_studio_times_may_be_milliseconds_dates_or_row_numbers(tmp_path):
    start_s = 1_772_323_200.0
    log(tmp_path / "logs" / "run1.csv", start_s=start_s)
    rows = [(a * 50, b * 50, label) for a, b, label in SPANS]
    ms = [((start_s + a) * 1e3, (start_s + b) * 1e3, label) for a, b, label in SPANS]
    dates = [
        ("2026-03-01T00:00:02.5Z", "2026-03-01T00:00:10Z", "walk"),
        ("2026-03-01 02:00:12+02:00", "2026-03-01 02:00:30.5+02:00", "run"),
    ]
    for spans in (ms, dates):
        table = export(tmp_path / "export.json", "run1.csv", spans)
        assert spans_of(tmp_path / "logs", manifest=table) == approximately(SPANS, start_s)
    table = export(tmp_path / "export.json", "run1.csv", rows)
    with pytest.raises(RecordingError, match=r"run1\.csv: labels .* are outside .*'rows'"):
        spans_of(tmp_path / "logs", manifest=table)
    table = export(
        tmp_path / "export.json", "run1.csv", rows, data={"csv": "run1.csv", "times": "rows"}
    )
    assert spans_of(tmp_path / "logs", manifest=table) == approximately(SPANS, start_s)


def test_files_with_the_same_name_are_distinguished_by_folder_or_refused(tmp_path):
    for folder in ("mon", "tue"):
        log(tmp_path / "logs" / folder / "run1.csv")
    table = export(tmp_path / "e.json", "/data/local-files/?d=mon/run1.csv", SPANS)
    (recording,) = read_recordings(tmp_path / "logs", manifest=table)
    assert recording.recording_id == "mon/run1"
    table = export(tmp_path / "e.json", "/data/upload/1/1a2b3c4d-run1.csv", SPANS)
    with pytest.raises(RecordingError, match=r"task 7: .* mon/run1\.csv and tue/run1\.csv;"):
        find_recordings(tmp_path / "logs", ReadOptions(manifest=table))
    log(tmp_path / "one" / "run1.csv")
    tasks = [
        {"id": at, "data": {"csv": name}, "annotations": [{"result": [region(*SPANS[at])]}]}
        for at, name in enumerate(("1a2b3c4d-run1.csv", "5e6f7a8b-run1.csv"))
    ]
    table.write_text(json.dumps(tasks))
    with pytest.raises(RecordingError, match=r"task 0 and task 1 both label run1\.csv"):
        find_recordings(tmp_path / "one", ReadOptions(manifest=table))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"data": {"csv": "other.csv"}}, r"export\.json, task 7: .* none \(other\.csv\);"),
        ({"annotations": [{"result": []}, {"result": []}]}, r"task 7: has 2 annotations"),
        ({"annotations": [{"result": []}]}, r"task 7: run1\.csv has no label; annotate it"),
        ({"annotations": [{"result": [region("2026-03-01T10:00", 5, "a")]}]}, "has no time zone"),
        ({"annotations": [{"result": [region(1.5, None, "a")]}]}, "no end; give both"),
        ({"data": {"csv": "run1.csv", "times": "frames"}}, "'times' is 'frames', not 'stamps'"),
        (
            {"annotations": [{"result": [region(1.5, 5, "a"), region(4, 9, "b")]}]},
            r"'b' from 4\.0+ s .* overlaps 'a' from 1\.5",
        ),
        ({"annotations": [{"result": [region(1.5, "soon", "a")]}]}, "'soon' is neither"),
        ({"annotations": [{"result": [region(1.5, 1.5, "a")]}]}, "the end is not after the start"),
        ({"annotations": 3}, "cannot be read as a JSON export"),
    ],
)
def test_an_error_in_an_export_is_named(tmp_path, change, said):
    log(tmp_path / "logs" / "run1.csv")
    table = export(tmp_path / "export.json", "run1.csv", SPANS, **change)
    with pytest.raises(RecordingError, match=said):
        find_recordings(tmp_path / "logs", ReadOptions(manifest=table))


def test_the_short_export_and_labels_of_whole_recordings(tmp_path):
    for run in range(2):
        log(tmp_path / "logs" / f"run{run}.csv")
    regions = [region(*span)["value"] for span in SPANS]
    tasks = [
        {"id": 1, "csv": "s3://bucket/run0.csv", "label": regions},
        {
            "id": 2,
            "data": {"ts": "/data/local-files/?d=logs/run1.csv"},
            "annotations": [{"result": [{"value": {"choices": ["idle"]}}]}],
        },
    ]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    one, two = read_recordings(tmp_path / "logs", manifest=tmp_path / "export.json")
    assert [span.label for span in one.label_spans] == ["walk", "run"]
    assert two.label == "idle"


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_a_table_of_intervals_is_in_the_time_stamps_of_the_log(tmp_path, unit):
    log(tmp_path / "run1.csv", start_s=731.2, unit=unit)
    scale = RUNS[unit]
    rows = [f"run1.csv,{(a + 731.2) * scale},{(b + 731.2) * scale},{c}" for a, b, c in SPANS]
    (tmp_path / "manifest.csv").write_text("path,start,end,label\n" + "\n".join(rows) + "\n")
    assert spans_of(tmp_path) == approximately(SPANS, 731.2)
    (tmp_path / "manifest.csv").write_text("path,start,end,label\nrun1.csv,2.5,10,a\n")
    with pytest.raises(RecordingError, match=r"run1\.csv: .* outside .*start_s and end_s"):
        spans_of(tmp_path)
    (tmp_path / "manifest.csv").write_text("path,start,label\nrun1.csv,1,a\n")
    with pytest.raises(RecordingError, match=r"column 'start' but no 'end'.*start, end and label"):
        find_recordings(tmp_path)
    both = "path,start,end,start_s,end_s,label\nrun1.csv,1,2,3,4,a\n"
    (tmp_path / "manifest.csv").write_text(both)
    with pytest.raises(RecordingError, match="row 1: has start_s and end_s as well"):
        find_recordings(tmp_path)


AUDACITY = "2.500000\t10.000000\twalk\n\\\t100.0\t200.0\n12.000000\t30.500000\trun\n"
ELAN = (
    "move\t\t00:00:02.500\t2.5\t00:00:10.000\t10.0\t00:00:07.500\t7.5\twalk\n"
    "move\t\t00:00:12.000\t12.0\t00:00:30.500\t30.5\t00:00:18.500\t18.5\trun\n"
)
SECONDS = (
    "Tier\tBegin\tEnd\tDuration\tLabel\nmove\t2.5\t10.0\t7.5\twalk\nmove\t12\t30.5\t18.5\trun\n"
)


@pytest.mark.parametrize("text", [AUDACITY, ELAN, SECONDS], ids=["audacity", "elan", "seconds"])
@pytest.mark.parametrize("start_s", [0.0, 1.0, 731.2])
def test_tables_with_tabs_label_the_recording_with_the_same_name(tmp_path, text, start_s):
    for run in range(2):
        log(tmp_path / "logs" / f"run{run}.csv", start_s=start_s)
        (tmp_path / "logs" / f"run{run}.txt").write_text(text)
    log(tmp_path / "logs" / "calibration.csv")
    (tmp_path / "logs" / "README.md").write_text("notes")
    own = {"manifest": "{recording}.txt"}
    for recording in read_recordings(tmp_path / "logs", exclude="calibration", **own):
        spans = [(span.start_s, span.end_s, span.label) for span in recording.label_spans]
        assert spans == approximately(SPANS, start_s)
    with pytest.raises(RecordingError, match=r"calibration\.txt: cannot be read"):
        find_recordings(tmp_path / "logs", ReadOptions(**own))
    with pytest.raises(RecordingError, match="no such folder"):
        find_recordings(tmp_path / "nowhere", ReadOptions(**own))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1.0\t2.0\t9.0\twalk\n", "line 1: 9 s is not the duration from 1"),
        ("2,5\t10\twalk\n", "line 1: must contain a start and an end"),
        ("1.0\t2.0\n", "line 1: must contain a start and an end in seconds, followed by one label"),
        ("1.0\t2.0\twalk\tfast\n", "line 1: must contain a start"),
        ("1.0\t2.0\t1.0\n", "line 1: must contain a start"),
        ("start\tend\tlabel\n", "has no labels"),
        ('1\t2\t"rough\n2\t3\tsmooth\n3\t2\tgrass\n', "line 3: .*not after the start"),
    ],
)
def test_lines_that_are_not_understood_are_named(tmp_path, text, said):
    log(tmp_path / "run1.csv")
    (tmp_path / "run1.txt").write_text(text)
    with pytest.raises(RecordingError, match=rf"run1\.txt.*{said}"):
        find_recordings(tmp_path, ReadOptions(manifest="{recording}.txt"))


@pytest.mark.parametrize("unit", ["s", "ms"])
def test_spans_of_a_prediction_return_from_label_studio_with_the_same_times(tmp_path, unit):
    for label, start_s in (("a", 0.0), ("b", 1_772_323_200.0)):
        for run in range(4):
            log(tmp_path / "logs" / label / f"{label}{run}.csv", start_s=start_s, unit=unit)
    windows, model, out = tmp_path / "w.h5", tmp_path / "m.safetensors", tmp_path / "tasks.json"
    fast = ("--set", "max_epochs=1", "--set", "features=None", "--set", "refit=None")
    for step in (
        ("prepare", tmp_path / "logs", "--window-s", 2, "-o", windows),
        ("train", windows, "-o", model, *fast),
        (
            *("predict", model, tmp_path / "logs", "--smooth", "none", "--label-studio", out),
            *("--csv", tmp_path / "spans.csv", "--absolute-time"),
        ),
    ):
        succeed(*step)
    tasks = json.loads(out.read_text())
    assert len(tasks) == 8
    for task in tasks:
        task["annotations"] = task.pop("predictions")
    out.write_text(json.dumps(tasks))
    succeed("inspect", tmp_path / "logs", "--manifest", out)
    rows = [row.split(",") for row in (tmp_path / "spans.csv").read_text().splitlines()[1:]]
    written = [(row[0].split("/")[-1], float(row[1]), float(row[2]), row[3]) for row in rows]
    found = read_recordings(tmp_path / "logs", manifest=out)
    read = [
        (one.recording_id.split("/")[-1], span.start_s, span.end_s, span.label)
        for one in found
        for span in one.label_spans
    ]
    assert sorted(read) == [
        (name, *approximately([(a, b, label)])[0]) for name, a, b, label in sorted(written)
    ]
