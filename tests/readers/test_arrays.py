"""Arrays in NumPy and MATLAB files are read as recordings, with any order of axes."""

import gzip
import random
import re
import subprocess
import sys
import zipfile
from contextlib import suppress

import h5py
import numpy as np
import pyarrow as pa
import pytest
import scipy.io
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from pyarrow import parquet

from sensorseq.cli import run
from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import list_arrays, read_arrays, read_recordings
from sensorseq.readers.mat5 import read_mat5

T = np.arange(300) / 100
RNG = np.random.default_rng(0)
ACC, CURRENT = RNG.normal(size=(300, 3)), RNG.normal(size=300)


def write_npz(path, arrays):
    np.savez_compressed(path, **{name.replace(".", "_"): a for name, a in arrays.items()})


def write_mat5(path, arrays):
    scipy.io.savemat(path, nested(arrays), do_compression=False)


def write_mat7(path, arrays):
    scipy.io.savemat(path, nested(arrays), do_compression=True)


def write_mat73(path, arrays):
    """Write a file as MATLAB does: with a 512-byte user block, transposed axes and class names."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, array in arrays.items():
            dataset = file.create_dataset(
                name.replace(".", "/"), data=np.atleast_2d(array).T, compression="gzip"
            )
            dataset.attrs["MATLAB_class"] = np.bytes_("double")
        text = file.create_dataset("note", data=np.frombuffer(b"hello", np.uint8).reshape(5, 1))
        text.attrs["MATLAB_class"] = np.bytes_("char")
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512))


def nested(arrays):
    tree = {}
    for name, array in arrays.items():
        holder, _, field = name.rpartition(".")
        (tree.setdefault(holder, {}) if holder else tree)[field] = array
    return tree


FORMATS = {
    "npz": (write_npz, "one.npz"),
    "mat5": (write_mat5, "one.mat"),
    "mat7": (write_mat7, "one.mat"),
    "mat7.3": (write_mat73, "one.mat"),
}


@pytest.fixture(params=FORMATS)
def write(request, tmp_path):
    function, name = FORMATS[request.param]

    def written(arrays):
        function(tmp_path / name, arrays)
        return tmp_path / name

    return written


@pytest.mark.parametrize("along", [0, 1])
def test_vectors_and_columns_of_matrices_are_channels(write, along):
    acc = ACC if along == 0 else ACC.T
    path = write({"time": T, "current": CURRENT, "acc": acc, "mass_kg": 12.5})
    recording = read_arrays(path, ReadOptions(units={"current": "A"}), group="robot", label="ice")
    assert sorted(recording.channel_names) == ["acc[0]", "acc[1]", "acc[2]", "current"]
    kept = recording.select(["current", "acc[0]", "acc[1]", "acc[2]"])
    np.testing.assert_array_equal(kept.values, np.column_stack([CURRENT, ACC]))
    np.testing.assert_array_equal(recording.timestamps_s, T)
    assert (recording.recording_id, recording.group, recording.label) == ("one", "robot", "ice")


def test_a_rate_replaces_the_time(write):
    recording = read_arrays(write({"sample_rate_hz": 50.0, "acc": ACC}))
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(300) / 50)
    with pytest.raises(RecordingError, match=r"'sample_rate_hz' is -1\.0, not a positive rate"):
        read_arrays(write({"sample_rate_hz": -1.0, "acc": ACC}))


def test_whole_number_stamps_have_the_unit_in_their_name(write):
    path = write({"t_us": np.arange(300, dtype=np.int64) * 10_000, "a": CURRENT})
    recording = read_arrays(path)
    np.testing.assert_array_equal(recording.timestamps_s, T)
    assert recording.attributes["clock"]["unit"] == "us"


@pytest.mark.parametrize("kind", ["mat5", "mat7", "mat7.3"])
def test_each_struct_has_its_own_time(tmp_path, kind):
    function, name = FORMATS[kind]
    path = tmp_path / name
    motor = {"motor.t": T[::2] + 0.5, "motor.current": CURRENT[::2]}
    function(path, {"imu.t": T, "imu.acc": ACC, **motor, "gain": np.eye(3)})
    imu = read_arrays(path, ReadOptions(channels=["imu.acc[2]", "imu.acc[0]"]))
    assert imu.channel_names == ("imu.acc[2]", "imu.acc[0]")
    np.testing.assert_array_equal(imu.values, ACC[:, [2, 0]])
    motor = read_arrays(path, ReadOptions(channels=["motor.current"]))
    np.testing.assert_array_equal(motor.timestamps_s, T[::2] + 0.5)
    with pytest.raises(RecordingError, match=r"several times \(imu.t, motor.t\).*time_column"):
        read_arrays(path)
    with pytest.raises(RecordingError, match=r"has shape \(.*\), but 'imu.t' has 300 samples"):
        read_arrays(path, ReadOptions(time_column="imu.t"))
    with pytest.raises(RecordingError, match=r"no channel 'imu.ac\[0\]'.*'imu.acc\[0\]'"):
        read_arrays(path, ReadOptions(channels=["imu.ac[0]"], time_column="imu.t"))
    topics = {one.name: one for one in list_arrays(path)}
    assert topics["imu.acc"].rate_hz == pytest.approx(100)
    assert topics["motor.current"].rate_hz == pytest.approx(50)
    assert topics["imu.acc"].channels == ("imu.acc[0]", "imu.acc[1]", "imu.acc[2]")


def test_structured_and_plain_numpy_arrays(tmp_path):
    table = np.zeros(300, [("time", "<i8"), ("x", "<f4")])
    table["time"], table["x"] = np.arange(300) * 10, CURRENT
    np.save(tmp_path / "table.npy", table)
    recording = read_arrays(tmp_path / "table.npy")
    assert recording.channel_names == ("values.x",)
    assert recording.median_sample_rate_hz == pytest.approx(100)
    np.save(tmp_path / "plain.npy", np.column_stack([T, ACC]))
    recording = read_arrays(tmp_path / "plain.npy", ReadOptions(time_column="values[0]"))
    np.testing.assert_array_equal(recording.values, ACC)
    with pytest.raises(RecordingError, match="no array 'time' or 'time_s'"):
        read_arrays(tmp_path / "plain.npy")


def test_labels_and_dates_of_numpy(tmp_path):
    path = tmp_path / "one.npz"
    time = np.datetime64("2026-03-01T12:00:00", "us") + np.arange(300) * 10_000
    words = {"ground": np.repeat(["ice", "mud", ""], 100), "words": np.repeat("x", 300)}
    np.savez(path, time=time, a=CURRENT, **words)
    recording = read_arrays(path, ReadOptions(label_column="ground"))
    assert [span.label for span in recording.label_spans] == ["ice", "mud"]
    assert recording.timestamps_s[1] - recording.timestamps_s[0] == pytest.approx(0.01, abs=1e-6)
    assert recording.attributes["dropped_columns"] == ["words"]


def test_an_error_names_the_file(write):
    path = write({"time": T, "acc": ACC})
    path.write_bytes(path.read_bytes()[:-700])
    with pytest.raises(RecordingError, match=rf"{path.name}: is truncated"):
        read_arrays(path)
    path.write_bytes(b"")
    with pytest.raises(RecordingError, match=rf"{path.name}: the file is empty"):
        read_arrays(path)
    path.unlink()
    with pytest.raises(RecordingError, match=rf"{path.name}: cannot be read \(No such file"):
        read_arrays(path)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "bad.npz", time=T, a=np.array([{}] * 300, object))
    np.save(tmp_path / "bad.npy", np.array([{}] * 300, object))
    for path in tmp_path.iterdir():
        with pytest.raises(RecordingError, match="allow_pickle=False"):
            read_arrays(path)


@given(
    array=of_numpy.arrays(
        st.sampled_from([np.float64, np.float32, np.int8, np.uint16, np.int64, np.uint8]),
        of_numpy.array_shapes(min_dims=2, max_dims=3, max_side=5),
    ),
    compress=st.booleans(),
)
def test_the_matlab_reader_agrees_with_scipy(tmp_path_factory, array, compress):
    path = tmp_path_factory.mktemp("mat") / "one.mat"
    content = {"a": array, "s": {"b": array, "c": {"d": array[:1]}}, "word": "x", "z": 1j}
    scipy.io.savemat(path, content, do_compression=compress)
    ours = read_mat5(path.read_bytes())
    theirs = scipy.io.loadmat(path)
    assert set(ours) == {"a", "s.b", "s.c.d"}
    np.testing.assert_array_equal(ours["a"], theirs["a"])
    np.testing.assert_array_equal(ours["s.b"], theirs["s"]["b"][0, 0])


def damaged(whole, number):
    """Truncate a file, or change some of its bytes, mostly in sizes and names."""
    rng = random.Random(number)
    if number % 3 == 0:
        return whole[: rng.randrange(len(whole))]
    spoilt = bytearray(whole)
    for _ in range(rng.choice([1, 1, 4])):
        spoilt[rng.randrange(min(len(spoilt), rng.choice([200, 900, 10**9])))] = rng.randrange(256)
    return bytes(spoilt)


def read_all_damaged(path, first, last):
    whole, other = path.read_bytes(), path.with_name("spoilt" + path.suffix)
    for number in range(first, last):
        other.write_bytes(damaged(whole, number))
        for read in (read_arrays, list_arrays):
            with suppress(RecordingError):
                read(other)


@pytest.mark.parametrize("kind", ["npz", "mat5", "mat7"])
def test_a_damaged_file_is_read_or_refused(tmp_path, kind):
    function, name = FORMATS[kind]
    function(tmp_path / name, {"time": T, "acc": ACC, "imu.a": CURRENT})
    read_all_damaged(tmp_path / name, 0, 100)


@pytest.mark.long
def test_a_damaged_matlab_7_3_file_is_read_or_refused(tmp_path):
    write_mat73(tmp_path / "one.mat", {"time": T, "acc": ACC, "imu.a": CURRENT})
    code = "import sys, pathlib; from tests.readers.test_arrays import read_all_damaged as read;"
    code += "read(pathlib.Path(sys.argv[1]), 0, 300)"
    command = [sys.executable, "-c", code, str(tmp_path / "one.mat")]
    # A separate process is used because the HDF5 library may crash, with a negative exit code.
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode <= 0, done.stderr[-2000:]


def test_commands_accept_files_of_arrays(tmp_path, capsys):
    for label in ("ice", "mud"):
        for i in range(3):
            (tmp_path / "in" / label).mkdir(parents=True, exist_ok=True)
            imu = {"imu.t": T, "imu.acc": RNG.normal(size=(300, 3))}
            path = tmp_path / "in" / label / f"{i}.mat"
            write_mat5(path, {**imu, "motor.t": T[:9], "k": T[:3]})
    assert run(["inspect", str(tmp_path / "in"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "imu.acc" in said
    assert "--channels 'imu.acc[0]'" in said
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, channels=["imu.acc[1]"])
    assert (summary.n_recordings, summary.channels) == (6, ("imu.acc[1]",))
    (one,) = read_recordings(tmp_path / "in" / "ice" / "0.mat", channels=["imu.acc[1]"])
    assert one.n_samples == 300


ODD = {
    "rate of words": {"sample_rate_hz": np.array("fast"), "a": T},
    "complex rate": {"sample_rate_hz": np.array(1j), "a": T},
    "complex time": {"time": T + 1j, "a": T},
    "labels without meaning": {"time": T, "a": T, "label": T + 1j},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_arrays_are_refused_with_the_name_of_the_file(tmp_path, name):
    np.savez(tmp_path / "odd.npz", **ODD[name])
    label_column = "label" if "label" in ODD[name] else None
    with pytest.raises(RecordingError, match=re.escape(str(tmp_path / "odd.npz"))):
        read_arrays(tmp_path / "odd.npz", ReadOptions(label_column=label_column))


def test_elements_without_a_size_are_not_samples(tmp_path):
    head = "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000,), }"
    head = head.ljust(117).encode() + b"\n"
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head)
    with pytest.raises(RecordingError, match="1000000000 elements with a size of 0 bytes"):
        read_arrays(tmp_path / "a.npy", ReadOptions(time_column="values"))


def test_archive_members_that_are_not_arrays_are_left_out(tmp_path):
    np.savez(tmp_path / "a.npz", time=T, a=T)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive:
        archive.writestr("notes.txt", "hello")
    assert read_arrays(tmp_path / "a.npz").channel_names == ("a",)


def test_a_multiple_of_a_second_is_a_unit_of_time(tmp_path):
    np.savez(tmp_path / "a.npz", time=np.arange(300).astype("M8[25s]"), a=T)
    assert read_arrays(tmp_path / "a.npz").duration_s == 299 * 25


@pytest.mark.parametrize("kind", ["npz", "mat", "csv.gz", "parquet", "h5"])
def test_a_file_that_unpacks_to_hundreds_of_times_its_size_is_refused(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("sensorseq.base.checks._HARMLESS_BYTES", 1 << 24)
    path, zeros = tmp_path / f"a.{kind}", np.zeros(2_500_000)
    if kind == "npz":
        np.savez_compressed(path, time=zeros)
    elif kind == "mat":
        scipy.io.savemat(path, {"time": zeros}, do_compression=True)
    elif kind == "csv.gz":
        path.write_bytes(gzip.compress(b"time,a\n" + b"0,0\n" * 5_000_000))
    elif kind == "parquet":
        parquet.write_table(pa.table({"time": zeros}), path)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("time", data=zeros, compression="gzip")
    with pytest.raises(RecordingError, match=r"a\.\S+: unpacks to \d\d\.\d MB"):
        read_recordings(path)


def test_groups_that_contain_each_other_are_read_once(tmp_path):
    write_mat73(tmp_path / "a.mat", {"time": T, "current": CURRENT})
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        for number in range(9):  # following all links would give 9 ** 16 groups
            file[f"again{number}"] = file["/"]
    assert read_arrays(tmp_path / "a.mat").channel_names == ("current",)


@pytest.mark.parametrize("along", [0, 1])
def test_rows_without_a_time_are_a_given_rate_apart(write, along):
    label = np.repeat([0.0, 1.0, 2.0], 100)
    path = write({"emg": ACC if along == 0 else ACC.T, "label": label, "gain": 2.0})
    given = {"channels": ["emg[2]"], "label_column": "label"}
    recording = read_arrays(path, ReadOptions(sample_rate_hz=200, **given))
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(300) / 200)
    np.testing.assert_array_equal(recording.values[:, 0], ACC[:, 2])
    assert [span.label for span in recording.label_spans] == ["0", "1", "2"]
    assert recording.attributes["clock"] == {"sample_rate_hz": 200.0}
    with pytest.raises(RecordingError, match="give the rate of the rows with `sample_rate_hz`"):
        read_arrays(path, ReadOptions(**given))
    stored = read_arrays(
        write({"emg": ACC, "sample_rate_hz": 50.0}), ReadOptions(sample_rate_hz=200)
    )
    assert stored.median_sample_rate_hz == pytest.approx(50)
    timed = read_arrays(write({"emg": ACC, "time": T}), ReadOptions(sample_rate_hz=200))
    assert timed.median_sample_rate_hz == pytest.approx(100)


def test_a_column_that_increases_like_a_time_is_refused_at_any_rate(write):
    path = write({"clock_of_robot": T, "a": CURRENT})
    with pytest.raises(RecordingError, match=r"'clock_of_robot' increases in every row"):
        read_recordings(path, sample_rate_hz=200)


def test_rates_stored_in_structs_are_those_of_their_channels(write):
    imu = {"imu.sample_rate_hz": 100.0, "imu.a": CURRENT}
    motor = {"motor.sample_rate_hz": 50.0, "motor.b": CURRENT[:150]}
    path = write(imu | motor)
    if path.suffix == ".npz":  # the NumPy format has no structs
        return
    for channel, rate_hz in (("imu.a", 100), ("motor.b", 50)):
        one = read_arrays(path, ReadOptions(channels=[channel]))
        assert one.median_sample_rate_hz == pytest.approx(rate_hz)
    with pytest.raises(RecordingError, match=r"several rates \(imu.sample_rate_hz 100, motor"):
        read_arrays(path)


def test_objects_alongside_arrays_are_left_out_and_named(tmp_path, capsys):
    folds = np.empty(2, object)
    folds[:] = [np.arange(3), np.arange(2)]
    np.savez(tmp_path / "a.npz", time=T, a=CURRENT, folds=folds)
    recording = read_arrays(tmp_path / "a.npz")
    assert recording.channel_names == ("a",)
    assert recording.attributes["dropped_columns"] == ["folds"]
    assert run(["inspect", str(tmp_path / "a.npz")]) == 0
    assert "left out column 'folds' of 1 recording, because not every" in capsys.readouterr().out
    with pytest.raises(RecordingError, match=r"'folds' contains Python objects.*not labels"):
        read_arrays(tmp_path / "a.npz", ReadOptions(label_column="folds"))


@pytest.mark.parametrize("kind", ["mat5", "mat7"])
def test_matlab_cells_are_left_out_and_named(tmp_path, kind):
    cells = np.empty(2, object)
    cells[:] = [CURRENT, CURRENT]
    function, name = FORMATS[kind]
    function(tmp_path / name, {"time": T, "a": CURRENT, "s.cells": cells, "note": "text"})
    recording = read_arrays(tmp_path / name)
    assert recording.channel_names == ("a",)
    assert recording.attributes["dropped_columns"] == ["s.cells"]


@pytest.mark.parametrize("more", [{}, {"y": np.arange(20) % 2}, {"folds": np.array([{}], object)}])
def test_arrays_of_windows_are_recognized(tmp_path, capsys, more):
    np.savez(tmp_path / "a.npz", X=np.zeros((20, 50, 3)), **more)
    with pytest.raises(RecordingError, match=r"\(20, 50, 3\) .* 20 windows of 50 samples.* fit"):
        read_arrays(tmp_path / "a.npz")
    assert run(["inspect", str(tmp_path / "a.npz")]) == 3
    assert "call fit(X, y)" in capsys.readouterr().out


def test_an_array_of_structs_is_named(tmp_path, capsys):
    trial = np.array([({"emg": np.arange(9.0)},)] * 3, dtype=[("x", object)])
    scipy.io.savemat(tmp_path / "a.mat", {"trial": trial})
    assert run(["inspect", str(tmp_path / "a.mat")]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "'trial' contains an array of 3 structs. Store" in said
    assert "--channels" not in said


def test_inspect_explains_why_arrays_are_not_one_recording(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", a=CURRENT, b=CURRENT)
    assert run(["inspect", str(tmp_path / "a.npz")]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "has no array 'time' or 'time_s'; its vectors are a, b." in said
    assert "the rate of the rows with --sample-rate-hz" in said
