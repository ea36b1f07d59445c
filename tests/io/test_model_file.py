"""Model files that were written are read; anything else is refused."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sensorseq.errors import InputError, ModelFileError
from sensorseq.io.model_file import (
    describe_labels,
    from_jsonable,
    read_labels,
    read_model,
    to_jsonable,
    write_model,
)

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "step": np.array(3, np.int64),
    "none": np.zeros((0, 2)),
    "rng": np.arange(7, dtype=np.uint8),
    "mask": np.array([True, False]),
}
DESCRIPTION = {"classes": ["a", "b"], "betas": (0.9, 0.999), "by": {0: 1.5, "x": None}}

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text())
keys = st.one_of(st.text(), st.integers(), st.booleans(), st.tuples(st.integers()))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner), st.tuples(inner, inner), st.dictionaries(keys, inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    write_model(path, ARRAYS, DESCRIPTION)
    return path


def assert_same(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()


def assert_refused(path, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        read_model(path)
    assert str(path) in str(caught.value)


dtypes = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int32, np.uint8, bool])
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.dictionaries(
    st.text(min_size=1, max_size=8), hnp.arrays(dtypes, shapes), max_size=4
).filter(lambda found: "__metadata__" not in found)


@given(arrays=arrays, transposed=st.booleans())
def test_any_arrays_are_restored_from_a_file_that_safetensors_reads(
    arrays, transposed, tmp_path_factory
):
    path = tmp_path_factory.getbasetemp() / "any"
    if transposed:
        arrays = {name: array.T for name, array in arrays.items()}
    write_model(path, arrays, DESCRIPTION)
    read, description = read_model(path)
    assert description == DESCRIPTION
    assert_same(read, arrays)
    assert_same(safetensors.numpy.load_file(path), arrays)


@given(values)
def test_any_value_is_restored_from_json_with_its_type(value):
    again = from_jsonable(json.loads(json.dumps(to_jsonable(value))))
    assert repr(again) == repr(value)


@pytest.mark.parametrize("tag", ["tuple", "dict"])
def test_a_dictionary_that_looks_like_a_tag_is_not_changed(tag):
    assert from_jsonable(to_jsonable({tag: [1]})) == {tag: [1]}


def test_values_that_json_cannot_represent_are_named():
    with pytest.raises(InputError, match=r"description\['loss'\] is <function"):
        to_jsonable({"loss": lambda: None})


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["ICE", "SNOW"]),
        np.array([0, 5]),
        np.array([0, 5], np.uint8),
        np.array([False, True]),
        np.array([0.5, 1.5]),
        np.array(["a", "bc"], dtype=object),
        np.array([1, 2], dtype=">i4"),
    ],
)
def test_labels_are_restored_with_their_type(labels):
    again = read_labels(json.loads(json.dumps(describe_labels(labels))))
    np.testing.assert_array_equal(again, labels)
    assert again.dtype == labels.dtype
    assert [type(a) for a in again.tolist()] == [type(b) for b in labels.tolist()]


def test_labels_that_are_objects_are_refused():
    with pytest.raises(InputError, match="classes_ of type object"):
        describe_labels(np.array([object(), None]))
    with pytest.raises(ValueError, match="labels of type"):
        read_labels({"dtype": "O", "values": []})


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b"\x80\x04\x95", b"\x00" * 64, b"\xff" * 64, b"PK\x03\x04zip"]
)
def test_a_foreign_file_is_refused_with_its_path(tmp_path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    assert_refused(path, "is empty" if not content else "is not a model of sensorseq. Give a model")


def test_a_folder_is_refused_and_a_missing_file_is_not_found(tmp_path):
    assert_refused(tmp_path, "is a folder")
    with pytest.raises(FileNotFoundError, match=r"the model file .*none does not exist"):
        read_model(tmp_path / "none")


@pytest.mark.parametrize("metadata", [{"format": "pt"}, None])
def test_a_safetensors_file_of_another_program_is_refused(tmp_path, metadata):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"w": np.zeros(3)}, path, metadata)
    assert_refused(path, "of a different kind .*" + ("'pt'" if metadata else "None"))


@pytest.mark.parametrize(
    ("version", "way_out"), [(9, "Update sensorseq"), (7, "The file is older; fit the model again")]
)
def test_another_version_is_refused_with_a_remedy(file, version, way_out):
    other = f'"version":"{version}"'.encode()
    file.write_bytes(file.read_bytes().replace(b'"version":"8"', other))
    assert_refused(file, f"version {version}; .* reads 8. {way_out}")
