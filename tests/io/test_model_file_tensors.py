"""Tensor files equal those of safetensors byte for byte; other files are refused."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.io.model_file import pack_tensors, read_tensors

DTYPES = ["u8", "i8", "f8", "f4", "u4", "i4", "f2", "u2", "i2", "i1", "u1", "?"]
SHAPES = st.lists(st.integers(0, 3), max_size=3).map(tuple)
ARRAYS = st.dictionaries(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4).filter("__metadata__".__ne__),
    st.builds(lambda dtype, shape: np.ones(shape, dtype), st.sampled_from(DTYPES), SHAPES),
    max_size=8,
)


def header_and_data(content):
    size = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:size]), content[size:]


@given(arrays=ARRAYS, metadata=st.fixed_dictionaries({"said": st.text(max_size=9)}))
def test_a_file_has_the_fields_and_the_data_of_safetensors(arrays, metadata, tmp_path_factory):
    content = pack_tensors(arrays, metadata)
    header, data = header_and_data(safetensors.numpy.save(arrays, metadata))
    assert header_and_data(content) == (header | {"__metadata__": metadata}, data)
    path = tmp_path_factory.getbasetemp() / "some.safetensors"
    path.write_bytes(content)
    found, texts = read_tensors(path)
    assert texts == metadata
    assert found.keys() == arrays.keys() == safetensors.numpy.load(content).keys()
    for name, array in found.items():
        assert array.dtype == arrays[name].dtype
        np.testing.assert_array_equal(array, arrays[name], strict=True)


A = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        {"a": {**A, "shape": [3]}},
        {"a": {**A, "shape": [-2]}},
        {"a": {**A, "shape": [2.0]}},
        {"a": {**A, "shape": [True, 2]}},
        {"a": {**A, "shape": 2}},
        {"a": {**A, "shape": [2] + [1] * 99}},
        {"a": {**A, "shape": [0, 2**62, 2**62], "data_offsets": [0, 0]}, "b": A},
        {"a": {**A, "dtype": "F31"}},
        {"a": {**A, "dtype": ["F32"]}},
        {"a": {**A, "data_offsets": [8, 0]}},
        {"a": {**A, "data_offsets": [0, 8, 8]}},
        {"a": {**A, "data_offsets": [1, 9]}},
        {"a": {**A, "shape": [1], "data_offsets": [0, 4]}},
        {"a": A, "b": A},
        {"a": {**A, "more": 1}},
        {"a": [A]},
        {"a": A, "__metadata__": {"version": 3}},
        {"a": A, "__metadata__": ["version"]},
        [A],
        f'{{"a":{json.dumps(A)},"a":{json.dumps(A)}}}',
        "[" * 100_000,
        "",
    ],
)
def test_a_header_whose_arrays_do_not_fill_the_file_is_refused(header, tmp_path):
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path = tmp_path / "some.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises((ValueError, RecursionError)):
        read_tensors(path)
