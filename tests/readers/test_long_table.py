"""One long table gives the same recordings as a separate file for each recording."""

import pickle

import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
from preparing import assert_same_windows

from sensorseq.cli import run
from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.io.prepared import read_windows
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import (
    digest_source,
    find_recordings,
    long_table,
    read_recordings,
    read_source_rate,
)

COLUMNS = {"recording_column": "run", "group_column": "robot", "label_column": "ground"}


def make_frame(n_recordings=12, n_samples=300):
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {
                "run": f"run {i:02d}",
                "robot": f"r{i % 6}",
                "ground": ("ice", "mud")[i % 2],
                "time": np.arange(n_samples) / 100 + rng.uniform(0, 1e-4, n_samples),
                "current": rng.normal(size=n_samples),
                "note": "words",
                "speed": rng.normal(size=n_samples),
            }
        )
        for i in range(n_recordings)
    ]
    whole = pd.concat(frames, ignore_index=True)
    # interleaved, but in order within each recording
    return whole.iloc[np.argsort(rng.permutation(len(whole)) // 40, kind="stable")]


def write(frame, path):
    if path.suffix == ".parquet":
        table = pyarrow.Table.from_pandas(frame, preserve_index=False)
        pyarrow.parquet.write_table(table, path, row_group_size=500)
    else:
        frame.to_csv(path, index=False)
    return path


@pytest.fixture(params=["all.csv", "all.csv.gz", "all.parquet"])
def table(request, tmp_path):
    return write(make_frame().sort_values("time", kind="stable"), tmp_path / request.param)


@pytest.fixture(scope="module")
def prepared_files(tmp_path_factory):
    """The summary and the windows that are prepared from one file for each recording."""
    folder, manifest = tmp_path_factory.mktemp("files"), []
    for (run_, robot, ground), rows in make_frame().groupby(["run", "robot", "ground"]):
        rows = rows.sort_values("time")[["time", "current", "note", "speed"]]
        manifest.append((write(rows, folder / f"{run_}.csv").name, ground, robot))
    listed = folder / "list.csv"
    pd.DataFrame(manifest, columns=["path", "label", "group"]).to_csv(listed, index=False)
    summary = prepare(listed, folder / "files.h5", window_s=1)
    return summary, read_windows(folder / "files.h5")


def test_a_table_gives_the_windows_of_the_files_it_could_be_split_into(
    table, prepared_files, tmp_path
):
    one, windows = prepared_files
    summary = prepare(table, tmp_path / "table.h5", window_s=1, **COLUMNS)
    assert summary.counts == one.counts
    assert summary.dropped_columns == {"note": 12}
    assert_same_windows(windows, read_windows(tmp_path / "table.h5"))
    for source in find_recordings(
        table, ReadOptions(**COLUMNS)
    ):  # sources are sent to other processes
        assert pickle.loads(pickle.dumps(source)) == source


def test_the_digest_of_a_recording_does_not_depend_on_the_rest_of_the_table(table, tmp_path):
    digests = {
        s.recording_id: digest_source(s) for s in find_recordings(table, ReadOptions(**COLUMNS))
    }
    assert len({one["sha256"] for (one,) in digests.values()}) == 12
    frame = make_frame().sort_values("time", kind="stable")
    changed = frame.copy()
    changed.loc[changed.run == "run 03", "current"] += 1
    other = write(changed[changed.run != "run 05"], tmp_path / f"other{''.join(table.suffixes)}")
    moved = {
        s.recording_id: digest_source(s) for s in find_recordings(other, ReadOptions(**COLUMNS))
    }
    assert {name for name in moved if moved[name] != digests[name]} == {"run 03"}
    assert set(digests) - set(moved) == {"run 05"}


def test_labels_and_exclusions_choose_recordings_with_their_own_rates(table):
    sources = find_recordings(table, ReadOptions(labels=["mud"], exclude=["run 01"], **COLUMNS))
    assert [source.recording_id for source in sources] == [f"run {i:02d}" for i in (3, 5, 7, 9, 11)]
    assert {source.label for source in sources} == {"mud"}
    assert read_source_rate(sources[0]) == pytest.approx(100, rel=1e-2)


def test_a_recording_with_several_labels_has_spans(tmp_path):
    frame = pd.DataFrame(
        {
            "run": np.repeat([7, 8], 100),
            "time": np.tile(np.arange(100) / 10, 2),
            "a": np.arange(200.0),
            "ground": np.repeat(["ice", "mud", None, "mud"], 50),
        }
    )
    columns = {"recording_column": "run", "label_column": "ground"}
    for name in ("all.parquet", "all.csv"):
        first, second = read_recordings(write(frame, tmp_path / name), **columns)
        assert (first.recording_id, first.group, first.label) == ("7", "7", None)
        spans = [(s.start_s, s.label) for s in first.label_spans]
        assert spans == [(0, "ice"), (5, "mud")]
        assert [(s.start_s, s.label) for s in second.label_spans] == [(5, "mud")]
        assert first.channel_names == second.channel_names == ("a",)


@pytest.mark.parametrize("name", ["all.parquet", "all.csv"])
@pytest.mark.parametrize("ids", [[1_000_000, 1_000_001], [3.0, 1e6], [0.5, 1e-7], ["007", "7"]])
def test_ids_keep_all_their_digits(tmp_path, name, ids):
    frame = pd.DataFrame({"run": np.repeat(ids, 5), "time": np.arange(10) / 10, "a": np.arange(10)})
    recordings = read_recordings(write(frame, tmp_path / name), recording_column="run")
    assert [recording.n_samples for recording in recordings] == [5, 5]


def test_scattered_recordings_of_a_large_table_are_read_by_row_groups(tmp_path, monkeypatch):
    path = write(make_frame().sort_values("time", kind="stable"), tmp_path / "all.parquet")
    expected = read_recordings(path, **COLUMNS)
    monkeypatch.setattr(long_table, "_MOST_BYTES", 0)
    long_table._rows_of.cache_clear()
    for one, other in zip(read_recordings(path, **COLUMNS), expected, strict=True):
        np.testing.assert_array_equal(one.values, other.values)
        np.testing.assert_array_equal(one.timestamps_s, other.timestamps_s)


def test_stamps_of_any_unit_and_words_among_numbers(tmp_path):
    frame = pd.DataFrame(
        {
            "run": np.tile(["a", "b"], 50),
            "stamp_ns": 1_772_366_400_000_000_007 + np.arange(100) * 5_000_000,
            "x": np.arange(100.0),
        }
    )
    for name in ("all.parquet", "all.csv"):
        for recording in read_recordings(write(frame, tmp_path / name), recording_column="run"):
            np.testing.assert_array_equal(recording.timestamps_s, np.arange(50) / 100)
    spoilt = frame.assign(x=frame.x.astype(str).where(frame.index != 21, "oops"))
    path = write(spoilt, tmp_path / "all.csv")
    with pytest.raises(RecordingError, match=r"all.csv \(run 'b'\), row 11, column 'x': 'oops'"):
        read_recordings(path, recording_column="run")
    with pytest.warns(UserWarning, match="left out: .*run 'b'"):
        (kept,) = read_recordings(path, recording_column="run", on_error="skip")
    assert kept.recording_id == "a"


@pytest.mark.parametrize(
    ("change", "arguments", "error", "said"),
    [
        (lambda f: f, {"recording_column": "runs"}, RecordingError, "no column 'runs'.*'run'"),
        (lambda f: f, {"recording_column": "run", "pair": "x"}, ArgumentError, "`pair` is for"),
        (lambda f: f, {"group_column": "robot"}, ArgumentError, "needs recording_column"),
        (
            lambda f: f.assign(run=f.run.where(np.arange(len(f)) != 4)),
            *({"recording_column": "run"}, RecordingError, "row 5: column 'run' is empty"),
        ),
        (
            lambda f: f.assign(robot=np.arange(len(f)).astype(str)),
            *(COLUMNS, RecordingError, "the same group in all rows of column 'robot', but has '"),
        ),
        (lambda f: f[:0], {"recording_column": "run"}, RecordingError, "no samples"),
    ],
)
@pytest.mark.parametrize("name", ["all.csv", "all.parquet"])
def test_unusable_tables_are_refused(tmp_path, name, change, arguments, error, said):
    path = write(change(make_frame(4, 50)), tmp_path / name)
    with pytest.raises(error, match=said):
        find_recordings(path, ReadOptions(**arguments))


def test_a_truncated_table_or_another_file_is_an_error_that_names_it(table, tmp_path):
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2 - 1])
    if table.suffix != ".csv":  # half of a CSV file is also a valid CSV file
        with pytest.raises(RecordingError, match=table.name):
            find_recordings(table, ReadOptions(**COLUMNS))
    with pytest.raises(RecordingError, match="needs one table"):
        find_recordings(tmp_path, ReadOptions(recording_column="run"))
    with pytest.raises(RecordingError, match="no such file"):
        find_recordings(tmp_path / "none.csv", ReadOptions(recording_column="run"))


def test_commands_accept_a_table(tmp_path, capsys):
    table = write(make_frame().sort_values("time", kind="stable"), tmp_path / "all.csv")
    options = ["--recording-column", "run", "--group-column", "robot", "--label-column", "ground"]
    assert run(["inspect", str(table), *options, "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "12 recordings, 36 s in total" in said
    assert "classes: ice, mud" in said
    out = str(tmp_path / "out.h5")
    assert run(["prepare", str(table), *options, "--window-s", "1", "-o", out, "--quiet"]) == 0
    assert "from 12 recordings" in " ".join(capsys.readouterr().out.split())
    model = str(tmp_path / "model.safetensors")
    trained = ["train", out, "-o", model, "--max-epochs", "1", "--no-compare", "--quiet"]
    assert run([*trained, "--set", "features=none", "--set", "refit=none"]) == 0
    capsys.readouterr()
    assert run(["predict", model, str(table), "--quiet"]) == 0
    assert f"{table}: run 03\n" in capsys.readouterr().out
