"""A recording on disk, processed in blocks, gives the same file as in memory."""

from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.io import blocks
from sensorseq.prepare import prepare
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.steps import BandPass, Derivative, Detrend, Moving
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.recording import LabelSpan, Recording


def stored(array, folder):
    rows = blocks.Rows(folder, array.dtype, *array.shape[1:])
    for part in np.array_split(array, 3):
        rows.append(part)
    return rows.as_array()


@st.composite
def recordings(draw):
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    n = draw(st.integers(50, 600))
    t = np.arange(n) * 0.01 + draw(st.sampled_from([0.0, 1e9]))
    if draw(st.booleans()):
        t = t + rng.normal(size=n) * draw(st.sampled_from([1e-5, 3e-3, 2e-2]))
    keep = rng.random(n) < draw(st.sampled_from([1.0, 0.9, 0.5]))
    keep[:4] = True
    t = t + np.cumsum(rng.random(n) < draw(st.sampled_from([0.0, 0.01]))) * 2.0  # adds gaps
    t = np.unique(t[keep])
    x = rng.normal(size=(len(t), 2))
    x[4:][rng.random((len(t) - 4, 2)) < draw(st.sampled_from([0.0, 0.1, 0.7]))] = np.nan
    if draw(st.booleans()):
        x = x.astype(np.float32)
    spans = ()
    if draw(st.booleans()):
        ends = np.linspace(t[0] - 1, t[-1] + 1, draw(st.integers(2, 9)))
        spans = tuple(
            LabelSpan(a, b - rng.random() * 0.1 * (b - a), "AB"[i % 2])
            for i, (a, b) in enumerate(pairwise(ends))
        )
    return Recording(x, t, ("a", "b"), "r", label=None if spans else "A", label_spans=spans)


STEPS = (
    [],
    [Detrend(window_s=0.5), BandPass(low_hz=2.0, high_hz=8.0, phase="zero")],
    [BandPass(low_hz=2.0, high_hz=8.0, phase="causal"), Derivative()],
    [Moving(0.2, "mean")],
)


def windows_of(recording, rate, steps, rule):
    pieces = resample_recording(recording, rate)
    for step in steps:
        pieces = [step.apply(piece, rate) for piece in pieces]
    how = {"sample_rate_hz": rate, "label_rule": rule, "check_classes": False}
    return pieces, window_recordings(pieces, 0.3, 0.1, **how)


@given(
    recording=recordings(),
    rows=st.integers(1, 700),
    rate=st.sampled_from([100.0, 37.3, 20.0, 130.0]),
    steps=st.sampled_from(STEPS),
    rule=st.sampled_from(["whole", "majority", "centre", "last"]),
)
def test_windows_of_a_stored_recording_are_the_same_as_from_memory(
    recording, rows, rate, steps, rule, tmp_path_factory
):
    folder = tmp_path_factory.getbasetemp()
    kept = {name: stored(getattr(recording, name), folder) for name in ("values", "timestamps_s")}
    on_disk = replace(recording, **kept)
    assert blocks.is_stored(on_disk.values)
    assert blocks.is_stored(on_disk.timestamps_s)
    pieces, windows = windows_of(recording, rate, steps, rule)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "_MOST_ROWS", rows)
        others, same = windows_of(on_disk, rate, steps, rule)
    assert len(pieces) == len(others)
    for one, other in zip(pieces, others, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.timestamps_s, other.timestamps_s)
        assert one.attributes == other.attributes
        assert one.values.dtype == other.values.dtype
        assert not one.n_samples or blocks.is_stored(other.values)
    for name in ("X", "y", "lengths", "start_s"):
        np.testing.assert_array_equal(getattr(windows, name), getattr(same, name))
    assert windows.provenance == same.provenance


N = 4000
T = np.round(np.arange(N) * 0.01, 2)
VALUES = np.random.default_rng(0).normal(size=(N, 2)).round(4)


def lines(time=T, header="time_s,a,b", extra=None, values=VALUES):
    rows = [f"{t},{a},{b}" for t, (a, b) in zip(time, values.tolist(), strict=True)]
    if extra is not None:
        rows = [f"{row},{text}" for row, text in zip(rows, extra, strict=True)]
    return "\n".join([header, *rows]) + "\n"


def with_holes():
    text = lines().splitlines()
    for row in (1, 50, 51, 52, 2000, N):
        text[row] = text[row].rsplit(",", 1)[0] + ","
    return "\n".join(text[:900] + text[950:3000] + text[3800:]) + "\n"


ORIGIN_NS = 1_772_366_400_123_456_789
FILES = {
    "even": (lines(), {}),
    "holes and gaps": (with_holes(), {}),
    "words for missing": (lines().replace(f"0.01,{VALUES[1, 0]},", "0.01,NA,"), {}),
    "a column of words": (lines(header="time_s,a,b,note", extra=["ok"] * N), {}),
    "words in the end": (lines(header="time_s,a,b,note", extra=[""] * (N - 1) + ["end"]), {}),
    "labels": (
        lines(header="time_s,a,b,state", extra=["up"] * 1500 + [""] * 10 + ["down"] * (N - 1510)),
        {"label_column": "state", "label_rule": "majority"},
    ),
    "nanoseconds": (lines([ORIGIN_NS + i * 10**7 for i in range(N)], "time_ns,a,b"), {}),
    "dates": (lines([f"2026-03-01T12:00:{i / 100:05.2f}" for i in range(N)]), {}),
    "rows out of order": (
        lines(np.r_[T[:100], T[101], T[100], T[102:104], T[103], T[105:]]),
        {"stamps": "merge"},
    ),
    "training windows anew": (lines(), {"train_hop_s": 0.3}),
}


def prepared_from(source, output, **options):
    prepare(source, output, window_s=1.0, split=(1.0, 0.0, 0.0), **options)
    return output.read_bytes()


LOW_LIMITS = {
    "sensorseq.options.LARGE_BYTES": 1000,
    "sensorseq.io.blocks._MOST_ROWS": 333,
    "sensorseq.readers.csv._BLOCK_BYTES": 1 << 14,
    "sensorseq.preprocessing.parts._READ_BYTES": 4000,
    "sensorseq.readers.join._ROWS": 77,
}


@pytest.fixture
def assert_same_bytes(tmp_path, monkeypatch):
    """Check that a source gives the same bytes whether or not it is processed in blocks on disk."""

    def check(source, **options):
        whole = prepared_from(source, tmp_path / "whole.h5", **options)
        made, map_file = [], blocks.map_file
        monkeypatch.setattr(blocks, "map_file", lambda *file: made.append(1) or map_file(*file))
        for name, limit in LOW_LIMITS.items():
            monkeypatch.setattr(name, limit)
        assert prepared_from(source, tmp_path / "streamed.h5", **options) == whole
        assert made

    return check


@pytest.mark.parametrize(
    ("name", "rate"), [*((name, 100.0) for name in FILES), ("even", None), ("holes and gaps", None)]
)
def test_a_large_csv_file_gives_the_same_bytes_as_one_read_whole(
    name, rate, tmp_path, assert_same_bytes
):
    text, options = FILES[name]
    (tmp_path / "one.csv").write_text(text, "utf-8")
    assert_same_bytes(tmp_path / "one.csv", sample_rate_hz=rate, **options)


NANOSECONDS = np.array([ORIGIN_NS + i * 10**7 for i in range(N)])
HOLES = np.where(np.arange(N)[:, None] % [97, 1001] == 5, np.nan, VALUES)
COLUMNS = {"time_s": T, "a": HOLES[:, 0], "b": HOLES[:, 1].astype(np.float32)}
TABLES = {
    "numbers": COLUMNS,
    "whole nanoseconds": {"stamp": NANOSECONDS, "a": VALUES[:, 0]},
    "dates": {"time": NANOSECONDS.view("M8[ns]"), "a": VALUES[:, 0]},
    "texts": {
        "time": [str(stamp) for stamp in NANOSECONDS.view("M8[ns]")],
        "a": [str(value) for value in VALUES[:, 0]],
        "note": ["ok"] * N,
    },
    "labels": {**COLUMNS, "state": [*["up"] * 1500, *[None] * 10, *["down"] * (N - 1510)]},
}


@pytest.mark.parametrize("name", TABLES)
def test_a_large_parquet_file_gives_the_same_bytes_as_one_read_whole(
    name, tmp_path, assert_same_bytes
):
    source = tmp_path / "one.parquet"
    pq.write_table(pa.table(TABLES[name]), source, row_group_size=700)
    assert_same_bytes(source, **({"label_column": "state"} if name == "labels" else {}))


@pytest.mark.parametrize("kind", ["columns", "table", "rate", "whole stamps"])
def test_a_large_hdf5_file_gives_the_same_bytes_as_one_read_whole(
    kind, tmp_path, assert_same_bytes
):
    source = tmp_path / "one.h5"
    with h5py.File(source, "w") as file:
        if kind == "table":
            file["data"] = np.column_stack([T, HOLES])
            file["data"].attrs["columns"] = ["time_s", "a", "b"]
        else:
            file["a"], file["b"] = HOLES.T
            if kind == "rate":
                file.attrs["sample_rate_hz"] = 100.0
            else:
                file["time"] = NANOSECONDS if kind == "whole stamps" else T
    assert_same_bytes(source)


def test_large_files_of_two_sensors_are_joined_on_disk(tmp_path, assert_same_bytes):
    folder = tmp_path / "A"
    folder.mkdir()
    (folder / "fast_1.csv").write_text(lines(), "utf-8")
    slow = lines(np.round(T[::4] + 0.003, 3), values=VALUES[::4])
    (folder / "slow_1.csv").write_text(slow, "utf-8")
    options = {"files": ["fast_*.csv", "slow_*.csv"], "pair": "{sensor}_{recording}.*"}
    assert_same_bytes(tmp_path, sample_rate_hz=50.0, **options)
