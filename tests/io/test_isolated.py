import os
import random
import warnings

import h5py
import numpy as np
import pytest
from harden.mutations import mutate

from sensorseq.errors import PreparedFileError, RecordingError
from sensorseq.io import isolated
from sensorseq.io.prepared import read_windows
from sensorseq.readers import read_hdf5, read_recordings
from sensorseq.readers.arrays import read_arrays


def write_recording(path, *, matlab=False, n=400):
    rng = np.random.default_rng(0)
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        file["time_s"] = np.arange(n) / 10
        file.create_dataset("current", data=rng.normal(size=n), chunks=(64,), compression="gzip")
        file["voltage"] = rng.normal(size=n).astype(">f4")
        if not matlab:
            file["current"].attrs["unit"] = "A"
            file["surface"] = ["ice"] * (n // 2) + ["sand"] * (n // 2)
    if matlab:
        with path.open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(128))
    return path


@pytest.fixture
def run_instead(monkeypatch):
    """Have the child run another program."""

    def run(program):
        isolated.end_all()
        monkeypatch.setattr(isolated, "_PROGRAM", program)

    yield run
    isolated.end_all()


@pytest.fixture
def child_that(run_instead):
    """Make what a child does with a file called bad.h5."""

    def make(statement):
        run_instead(
            "import os, sys, time; sys.path[:] = {};"
            "from sensorseq.io import isolated; real = isolated._answer\n"
            "def answer(file, asked):\n"
            f"    if file.filename.endswith('bad.h5'): {statement}\n"
            "    return real(file, asked)\n"
            "isolated._answer = answer; isolated.serve()"
        )

    return make


@pytest.mark.parametrize(
    ("statement", "reason"),
    [("os.abort()", "crashed"), ("time.sleep(60)", r"did not answer for 0\.5 s")],
)
def test_a_file_that_crashes_or_hangs_the_library_is_one_error(
    child_that, tmp_path, monkeypatch, statement, reason
):
    child_that(statement)
    monkeypatch.setattr(isolated, "SILENCE_S", 0.5)
    (tmp_path / "ice").mkdir()
    for name in ("a.h5", "bad.h5", "c.h5"):
        write_recording(tmp_path / "ice" / name)
    with pytest.raises(RecordingError, match=rf"bad\.h5: is damaged: the HDF5 library {reason}"):
        read_hdf5(tmp_path / "ice" / "bad.h5")
    with pytest.warns(UserWarning, match=r"left out: .*bad\.h5"):
        found = read_recordings(tmp_path, on_error="skip")
    assert [one.recording_id for one in found] == ["ice/a", "ice/c"]


def test_the_samples_are_those_that_were_written(tmp_path):
    recording = read_hdf5(write_recording(tmp_path / "a.h5", n=60_000), label_column="surface")
    with h5py.File(tmp_path / "a.h5") as file:
        for channel, name in enumerate(("current", "voltage")):
            np.testing.assert_array_equal(recording.values[:, channel], file[name][()])
    assert [one.unit for one in recording.channels] == ["A", ""]
    assert len(isolated.idle) == 1  # for the next file


def test_damaged_recordings_are_read_or_refused(tmp_path):
    good = [
        (write_recording(tmp_path / f"a{suffix}", matlab=matlab).read_bytes(), suffix, read)
        for suffix, matlab, read in ((".h5", False, read_hdf5), (".mat", True, read_arrays))
    ]
    n_refused = 0
    for number in range(80):
        content, suffix, read = good[number % 2]
        path = tmp_path / f"x{suffix}"
        path.write_bytes(mutate(random.Random(number), content))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
        except RecordingError as error:
            n_refused += str(path) in str(error)
    assert n_refused > 20


def test_a_prepared_file_without_checksums_is_tried_in_the_child(tmp_path, run_instead):
    path = tmp_path / "bad.h5"
    write_recording(path)
    with pytest.raises(PreparedFileError, match="is an HDF5 file of another kind"):
        read_windows(path)
    run_instead("import os; os.abort()")
    with pytest.raises(PreparedFileError, match=r"bad\.h5: is damaged: .* crashed"):
        read_windows(path)


def test_a_forked_process_leaves_the_child_to_its_parent(tmp_path):
    path = write_recording(tmp_path / "a.h5")
    first = read_hdf5(path)
    forked = os.fork()
    if not forked:
        os._exit(0 if np.array_equal(read_hdf5(path).values, first.values) else 1)
    assert os.waitpid(forked, 0)[1] == 0
    np.testing.assert_array_equal(read_hdf5(path).values, first.values)
