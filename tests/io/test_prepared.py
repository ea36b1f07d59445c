import sys
import textwrap
from contextlib import contextmanager

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limited_files import files_limited_to, run_limited
from preparing import names_in
from sklearn.base import clone

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import PreparedFileError, WindowError
from sensorseq.inspection.leakage import find_leakage
from sensorseq.io import checksums, hdf5_file
from sensorseq.io.prepared import (
    PreparedFile,
    read_windows,
    write_window_blocks,
    write_windows,
)
from sensorseq.windows import PARTS, WindowSet

ARRAYS = ("X", "lengths", "y", "groups", "recording_id", "start_s", "split")


def make_windows(n_windows=30, n_timesteps=7, n_channels=2, seed=0):
    rng = np.random.default_rng(seed)
    return WindowSet(
        rng.normal(size=(n_windows, n_timesteps, n_channels)).astype(np.float32),
        lengths=rng.integers(0, n_timesteps + 1, n_windows),
        y=rng.choice(["Eis", "größer", "snow"], n_windows),
        groups=rng.choice(["robot 1", "robot 2"], n_windows),
        recording_id=rng.choice(["ICE/pro_01", "路面"], n_windows),
        start_s=rng.uniform(0, 100, n_windows),
        split=rng.choice(PARTS, n_windows),
        channels=tuple(f"Strom {i}" for i in range(n_channels)),
        sample_rate_hz=6.5,
        provenance={"configuration": {"window": {"window_s": 5.0}}, "dropped": [None, "ü"]},
    )


def assert_same(read, written):
    for name in ARRAYS:
        one, other = getattr(read, name), getattr(written, name)
        assert (one is None) == (other is None), name
        if one is not None:
            np.testing.assert_array_equal(one, other, err_msg=name)
    for name in ("channels", "sample_rate_hz", "provenance"):
        assert getattr(read, name) == getattr(written, name), name


@given(
    n_windows=st.integers(0, 40),
    n_timesteps=st.integers(1, 9),
    n_channels=st.integers(1, 3),
    seed=st.integers(0, 100),
)
def test_written_windows_are_read_back(tmp_path_factory, n_windows, n_timesteps, n_channels, seed):
    path = tmp_path_factory.mktemp("prepared") / "windows.h5"
    windows = make_windows(n_windows, n_timesteps, n_channels, seed)
    write_windows(path, windows)
    assert_same(read_windows(path), windows)


@pytest.mark.parametrize(
    "y", [np.arange(30) % 3, np.arange(30) % 2 == 0, np.arange(30) / 7, ["", "a", "b c"] * 10]
)
def test_labels_of_any_kind_keep_their_type(tmp_path, y):
    windows = WindowSet(np.zeros((30, 4, 1)), y=np.asarray(y))
    write_windows(tmp_path / "w.h5", windows)
    read = read_windows(tmp_path / "w.h5")
    assert_same(read, windows)
    assert read.y.dtype.kind == windows.y.dtype.kind


def test_windows_without_optional_fields_are_read_without_them(tmp_path):
    write_windows(tmp_path / "w.h5", WindowSet(np.ones((3, 4, 2))))
    read = read_windows(tmp_path / "w.h5")
    assert [name for name in ARRAYS if getattr(read, name) is None] == list(ARRAYS[2:])
    with pytest.raises(WindowError, match="have no split"):
        read_windows(tmp_path / "w.h5", "test")


def test_statistics_and_indices_are_stored_with_the_windows(tmp_path):
    scaler = {"kind": np.frombuffer(b"standard", np.uint8), "channel_center": np.array([1.5, 2])}
    write_windows(tmp_path / "w.h5", make_windows(), scaler=scaler, sample_indices=[1, 1, 4])
    with PreparedFile(tmp_path / "w.h5") as file:
        assert set(file.scaler) == set(scaler)
        for name, array in scaler.items():
            np.testing.assert_array_equal(file.scaler[name], array)
            assert file.scaler[name].dtype == array.dtype
        np.testing.assert_array_equal(file.sample_indices, [1, 1, 4])


def test_any_program_can_read_the_documented_layout(tmp_path):
    windows = make_windows()
    write_windows(tmp_path / "w.h5", windows)
    with h5py.File(tmp_path / "w.h5") as file:
        assert (file.attrs["format"], file.attrs["version"]) == ("sensorseq.windows", 2)
        assert file["X"].dtype == np.float32
        assert file["X"].chunks[1:] == windows.X.shape[1:]
        classes = [name.decode() for name in file["classes"][()]]
        assert classes == sorted(set(windows.y.tolist()))
        assert [classes[code] for code in file["y"][()]] == windows.y.tolist()
        names = {code: part for part, code in h5py.check_enum_dtype(file["split"].dtype).items()}
        assert [names[code] for code in file["split"][()]] == windows.split.tolist()


def test_the_same_windows_give_the_same_bytes_whole_or_in_blocks(tmp_path):
    windows = make_windows()
    write_windows(tmp_path / "a.h5", windows)
    blocks = np.split(windows.X, [0, 1, 11, 29])
    write_window_blocks(tmp_path / "b.h5", windows, blocks)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    assert_same(read_windows(tmp_path / "b.h5"), windows)


@given(rows=st.lists(st.integers(-30, 29), max_size=40))
def test_rows_can_be_read_in_any_order(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "take.h5"
    windows = make_windows()
    if not path.exists():
        write_windows(path, windows)
    with PreparedFile(path) as file:
        rows = np.array(rows, dtype=np.int64)
        assert_same(file.take(rows), windows.take(rows))


def test_a_part_of_a_large_file_is_read_without_reading_other_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(checksums, "WHOLE_BYTES", 0)
    windows = make_windows(9000, 40, 2)
    order = np.argsort(windows.split, kind="stable")
    windows = windows.take(order)
    path = tmp_path / "w.h5"
    write_windows(path, windows)
    with h5py.File(path) as file:
        middle = np.sum(windows.split == "test") // 2  # the test part comes first in this file
        first = middle - middle % file["X"].chunks[0]
        chunk = file["X"].id.get_chunk_info_by_coord((first, 0, 0))
    with path.open("r+b") as raw:
        raw.seek(chunk.byte_offset + 8)
        raw.write(b"damage!!")
    for part in ("train", "validation"):
        assert_same(read_windows(path, part), windows.part(part))
    with pytest.raises(PreparedFileError, match=r"w\.h5: is truncated or damaged"):
        read_windows(path, "test")


def test_windows_are_counted_by_part_and_class(tmp_path):
    windows = make_windows()
    write_windows(tmp_path / "w.h5", windows)
    with PreparedFile(tmp_path / "w.h5") as file:
        counts = file.stored.counts()
        assert len(file) == sum(sum(by_class.values()) for by_class in counts.values()) == 30
    assert counts["test"]["Eis"] == np.sum((windows.y == "Eis") & (windows.split == "test"))
    assert list(counts) == ["train", "validation", "test"]


def foreign(path):
    with h5py.File(path, "w") as file:
        file["X"] = np.ones((3, 4, 2))


@contextmanager
def changed(path):
    """Change a prepared file and give it new checksums, as a program with a bug might write it."""
    write_windows(path, make_windows())
    with h5py.File(path, "r+") as file:
        yield file
    with path.open("r+b", buffering=0) as raw:
        checksums.append(raw)


def newer(path):
    with changed(path) as file:
        file.attrs["version"] = 3


def without_classes(path):
    with changed(path) as file:
        del file["classes"]


def of_other_lengths(path):
    with changed(path) as file:
        del file["start_s"]
        file["start_s"] = np.arange(4.0)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("X,y\n1,2\n"), "not an HDF5 file"),
        (lambda path: None, "cannot be read"),
        (foreign, "is not a prepared file.*sensorseq prepare"),
        (newer, "format version 3; .* reads 2. Update sensorseq"),
        (without_classes, "truncated or damaged"),
        (of_other_lengths, "start_s has shape"),
    ],
)
def test_another_kind_of_file_is_one_error_that_names_the_file(tmp_path, make, said):
    path = tmp_path / "some file.h5"
    make(path)
    with pytest.raises(PreparedFileError, match=said) as caught:
        read_windows(path)
    assert str(path) in str(caught.value)


def test_provenance_without_plain_values_is_refused_and_the_old_file_is_kept(tmp_path):
    path = tmp_path / "w.h5"
    write_windows(path, make_windows())
    before = path.read_bytes()
    for value in ({1, 2}, float("nan")):
        with pytest.raises(PreparedFileError, match="provenance"):
            write_windows(path, WindowSet(np.ones((2, 3, 1)), provenance={"a": value}))
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["w.h5"]


@pytest.mark.parametrize("size", [0, 1000, 20_000, 100_000])
def test_a_full_disk_is_an_error_after_which_only_the_old_file_remains(tmp_path, size):
    path = tmp_path / "w.h5"
    write_windows(path, make_windows())
    before = path.read_bytes()
    with (
        files_limited_to(size),
        pytest.raises(PreparedFileError, match=r"w\.h5: cannot be written .*free disk space"),
    ):
        write_windows(path, make_windows(5000))
    assert path.read_bytes() == before
    assert names_in(tmp_path) == ["w.h5"]


def test_a_process_ends_normally_after_a_full_disk(tmp_path):
    # If HDF5 notices a failed write, the process ends with a segmentation fault at exit.
    program = f"""
        import sys
        import numpy as np
        from sensorseq.errors import PreparedFileError
        from sensorseq.io.prepared import write_windows
        from sensorseq.windows import WindowSet
        try:
            write_windows({str(tmp_path / "w.h5")!r}, WindowSet(np.ones((3000, 20, 3))))
        except PreparedFileError:
            sys.exit(3)
    """
    ended = run_limited([sys.executable, "-c", textwrap.dedent(program)], 50_000)
    assert ended.returncode == 3
    assert names_in(tmp_path) == []


def test_an_output_that_cannot_be_written_is_an_error_that_names_it(tmp_path, monkeypatch):
    with pytest.raises(PreparedFileError, match=r"create the folder .*nowhere"):
        write_windows(tmp_path / "nowhere" / "w.h5", make_windows())

    def read_only(*arguments, **keywords):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(hdf5_file, "_GuardedFile", read_only)
    with pytest.raises(PreparedFileError, match=r"w\.h5: cannot be written \(read-only file"):
        write_windows(tmp_path / "w.h5", make_windows())
    assert names_in(tmp_path) == []


def test_windows_with_samples_in_the_file_work_like_windows_in_memory(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = (rng.normal(size=(60, 20, 2)) + y[:, None, None]).astype(np.float32)
    split = np.repeat(["train", "validation", "test"], 20)
    held = WindowSet(X, y=y, recording_id=np.arange(60) // 4, split=split)
    write_windows(tmp_path / "w.h5", held)
    with PreparedFile(tmp_path / "w.h5") as file:
        stored = file.stored
    np.testing.assert_array_equal(np.asarray(stored.X), X)
    np.testing.assert_array_equal(WindowSet.concatenate([stored, held]).X, np.concatenate([X, X]))
    write_windows(tmp_path / "again.h5", stored)
    assert (tmp_path / "again.h5").read_bytes() == (tmp_path / "w.h5").read_bytes()
    made = SensorLSTMClassifier(features=None, refit=None, max_epochs=2, random_state=0)
    fits = [clone(made).fit(windows) for windows in (held, stored)]
    one, other = (fit.predict_proba(held) for fit in fits)
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(fits[0].predict_proba(stored), one)
    np.testing.assert_array_equal(
        fits[0].explain(stored[:4]).contributions, fits[0].explain(held[:4]).contributions
    )
    assert str(find_leakage(stored)) == str(find_leakage(held))
