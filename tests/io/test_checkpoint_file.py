import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sensorseq.errors import CheckpointError
from sensorseq.io.model_file import CHECKPOINT, check_replaceable, pack, unpack

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array(3, np.int64),
    "none": np.zeros((0, 2)),
    "rng": np.arange(7, dtype=np.uint8),
    "mask": np.array([True, False]),
}
DESCRIPTION = {"rng": {"state": 2**127 + 1}, "reference": float("inf"), "betas": [0.9, 0.999]}


def write(path, arrays=ARRAYS, description=DESCRIPTION):
    path.write_bytes(pack(CHECKPOINT, arrays, json.dumps(description)))


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
    arrays, description = unpack(CHECKPOINT, file)
    assert description == DESCRIPTION
    assert_same(arrays, ARRAYS)


dtypes = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, bool])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.dictionaries(
    st.text(min_size=1, max_size=8), hnp.arrays(dtypes, shapes), max_size=4
).filter(lambda found: "__metadata__" not in found)


@given(arrays=arrays, transposed=st.booleans())
def test_any_arrays_come_back_in_a_file_that_safetensors_reads(
    arrays, transposed, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / "any"
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    write(path, arrays)
    assert_same(unpack(CHECKPOINT, path)[0], arrays)
    assert_same(safetensors.numpy.load_file(path), arrays)


def assert_refused(path, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        unpack(CHECKPOINT, path)
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
    assert_refused(file, "format version 7; .* reads 1. Update sensorseq")
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
        arrays, description = unpack(CHECKPOINT, path)
    except CheckpointError:
        return
    assert description == DESCRIPTION
    assert_same(arrays, ARRAYS)
