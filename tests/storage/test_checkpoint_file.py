import json
import os

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sensorseq.errors import CheckpointError
from sensorseq.storage import checkpoint_file
from sensorseq.storage.checkpoint_file import (
    CheckpointFile,
    check_replaceable,
    lay_out,
    read_checkpoint,
)

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array(3, np.int64),
    "none": np.zeros((0, 2)),
    "rng": np.arange(7, dtype=np.uint8),
    "mask": np.array([True, False]),
}
DESCRIPTION = {"rng": {"state": 2**127 + 1}, "reference": float("inf"), "betas": [0.9, 0.999]}


def write(path, arrays=ARRAYS, description=DESCRIPTION):
    file = CheckpointFile(path)
    file.write(lay_out(arrays, json.dumps(description)), last=True)
    file.close()


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run"
    write(path)
    return path


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def test_what_was_written_is_read(file):
    arrays, description = read_checkpoint(file)
    assert description == DESCRIPTION
    assert_same(arrays, ARRAYS)


dtypes = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, bool])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.dictionaries(
    st.text(min_size=1, max_size=8), hnp.arrays(dtypes, shapes), max_size=4
).filter(lambda found: not {"crc32", "__metadata__"} & set(found))


@given(arrays=arrays, transposed=st.booleans())
def test_any_arrays_come_back_in_a_file_that_safetensors_reads(
    arrays, transposed, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / "any"
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    write(path, arrays)
    assert_same(read_checkpoint(path)[0], arrays)
    theirs = safetensors.numpy.load_file(path)
    assert len(theirs.pop("crc32")) == 4
    assert_same(theirs, arrays)


def test_each_checkpoint_takes_the_place_of_the_one_before(tmp_path):
    file = CheckpointFile(tmp_path / "run")
    for size in (5, 50, 3, 0, 40, 1):  # longer and shorter than the file that is written again
        file.write(lay_out({"a": np.arange(size)}, json.dumps(size)))
        arrays, description = read_checkpoint(tmp_path / "run")
        assert (len(arrays["a"]), description) == (size, size)
    file.close()
    assert [found.name for found in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("at_once", [0, 7, 1000])
def test_a_file_is_whole_however_little_the_system_takes_at_once(tmp_path, monkeypatch, at_once):
    def write_some(descriptor, pieces):
        return os.write(descriptor, b"".join(pieces)[:at_once])

    monkeypatch.setattr("os.writev", write_some)
    write(tmp_path / "run")
    assert_same(read_checkpoint(tmp_path / "run")[0], ARRAYS)


def test_a_network_of_very_many_parts_is_written_too(tmp_path):
    many = {f"part {i}": np.arange(i % 5) for i in range(1500)}
    write(tmp_path / "run", many)
    assert_same(read_checkpoint(tmp_path / "run")[0], many)


def test_a_link_someone_made_to_a_checkpoint_keeps_it(tmp_path):
    path, kept = tmp_path / "run", tmp_path / "kept"
    file = CheckpointFile(path)
    for epoch in range(6):
        file.write(lay_out({}, json.dumps(epoch)))
        if epoch == 2:
            os.link(path, kept)
    assert read_checkpoint(kept)[1] == 2
    assert read_checkpoint(path)[1] == 5


def test_where_there_are_no_links_every_checkpoint_is_a_new_file(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    file = CheckpointFile(tmp_path / "run")
    for epoch in range(4):
        file.write(lay_out({}, json.dumps(epoch)))
        assert read_checkpoint(tmp_path / "run")[1] == epoch
    file.close()
    assert [found.name for found in tmp_path.iterdir()] == ["run"]


def test_what_is_forced_to_the_disk_is_a_new_file_and_so_never_a_torn_one(tmp_path, monkeypatch):
    now_s, synced = [0.0], []
    monkeypatch.setattr(checkpoint_file.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    path = tmp_path / "run"
    file = CheckpointFile(path)
    numbers = []
    for step_s in (0.0, 0.4, 0.4, 0.4, 0.4, 2.0):
        now_s[0] += step_s
        file.write(lay_out({}, "0"))
        numbers.append(path.stat().st_ino)
    file.write(lay_out({}, "0"), last=True)
    assert synced == [numbers[0], numbers[3], numbers[5], path.stat().st_ino]
    file.close()


def test_two_runs_on_one_checkpoint_are_found_out(tmp_path):
    first, second = CheckpointFile(tmp_path / "run"), CheckpointFile(tmp_path / "run")
    content = lay_out({}, "0")
    open_part = first._open_part

    def while_another_writes():
        descriptor = open_part()
        second.write(content)
        return descriptor

    first._open_part = while_another_writes
    with pytest.raises(CheckpointError, match=r"another run also writes to the checkpoint .*run"):
        first.write(content)


def assert_refused(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b"\x80\x04\x95", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04zip"]
)
def test_a_foreign_file_is_refused_with_its_path_and_never_replaced(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    assert_refused(path, "is empty" if not content else "not a checkpoint")
    if content:
        with pytest.raises(CheckpointError, match="exists and is not a checkpoint"):
            check_replaceable(path)


def test_a_safetensors_file_of_another_program_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(3)}, path, {"format": "pt"})
    assert_refused(path, "of another kind .*'pt'")
    with pytest.raises(CheckpointError, match="exists and is not a checkpoint"):
        check_replaceable(path)
    safetensors.numpy.save_file({"w": np.zeros(3)}, path)
    assert_refused(path, "of another kind .*None")


def test_a_newer_version_asks_for_an_update(file):
    file.write_bytes(file.read_bytes().replace(b'"version":"1"', b'"version":"7"'))
    assert_refused(file, "format version 7; .* reads up to 1. Update sensorseq")
    check_replaceable(file)


def test_every_truncated_checkpoint_is_refused(file):
    content = file.read_bytes()
    for size in range(len(content)):
        file.write_bytes(content[:size])
        assert_refused(file, "is empty|truncated|damaged")


@given(data=st.data())
def test_no_damage_goes_unnoticed_and_none_does_harm(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "fuzzed"
    write(path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        arrays, description = read_checkpoint(path)
    except CheckpointError:
        return
    assert description == DESCRIPTION
    assert_same(arrays, ARRAYS)
