"""Any bytes in a model file give the saved model or a ModelFileError; no code is run."""

import json
import os
import pickle
import resource
import struct
from contextlib import suppress

import numpy as np
import pytest
from fits import PLAIN
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorseq import SensorLSTMClassifier
from sensorseq.cli import run
from sensorseq.errors import ModelFileError, SensorseqError
from sensorseq.io.model_file import pack, read_model, to_jsonable, write_model
from sensorseq.prediction import loading as runtime

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 8, 2)).astype(np.float32)
SETTINGS = {"hidden_size": 2, "max_epochs": 2, "device": "cpu", "random_state": 0}


def fit():
    settings = {**PLAIN, **SETTINGS, "class_weight": {"a": 2.0, "b": 1.0}}
    return SensorLSTMClassifier(**settings).fit(X, np.array(["a", "b"] * 6))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model file, and the logits of the model in this file."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    fitted = fit()
    fitted.save(path)
    return path, fitted.decision_function(X)


@pytest.fixture(scope="module")
def content(saved):
    return saved[0].read_bytes()


@pytest.fixture(scope="module")
def read(saved):
    return read_model(saved[0])


@pytest.fixture
def is_refused(saved, tmp_path):
    """Load a file of these bytes; return True if it is refused, False if the model is the same."""
    _, expected = saved
    path = tmp_path / "model"

    def load(content):
        path.write_bytes(content)
        try:
            fitted = SensorLSTMClassifier.load(path)
        except ModelFileError:
            # the runtime may succeed, because it need not read the damaged part
            with suppress(SensorseqError):
                runtime.load(path).predict(X)
            return True
        np.testing.assert_array_equal(fitted.decision_function(X), expected)
        np.testing.assert_array_equal(runtime.load(path).predict(X), fitted.predict(X))
        return False

    return load


# Bytes.


def test_a_truncated_file_is_refused_at_every_length(content, is_refused):
    for length in sorted({*range(0, 64), *range(64, len(content), 37), len(content) - 1}):
        assert is_refused(content[:length]), length


def test_a_file_with_extra_bytes_at_the_end_is_refused(content, is_refused):
    assert is_refused(content + b"\0")


def test_no_changed_byte_in_the_header_gives_a_different_model(content, is_refused):
    size = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(8), *range(8, size, 19)]:
        changed = bytearray(content)
        changed[position] ^= 1 << (position % 8)
        is_refused(changed)


def test_every_changed_byte_in_the_weights_is_refused(content, is_refused):
    size = 8 + int.from_bytes(content[:8], "little")
    for position in range(size, len(content), 11):
        changed = bytearray(content)
        changed[position] ^= 0x10
        assert is_refused(changed), position


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(junk=st.binary(max_size=400), position=st.integers(0, 6000), length=st.integers(0, 400))
def test_no_insertion_of_random_bytes_gives_a_different_model(
    junk, position, length, content, is_refused
):
    is_refused(content[:position] + junk + content[position + length :])


def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("claimed", [10 * 2**30, 2**40, 2**63, 2**64 - 1, 99_000_000])
def test_a_header_that_claims_to_be_huge_does_not_need_memory(claimed, content, is_refused):
    before = peak_mb()
    assert is_refused(struct.pack("<Q", claimed) + content[8:])
    assert peak_mb() - before < 64


def test_a_tensor_that_claims_to_be_huge_does_not_need_memory(content, is_refused):
    size = int.from_bytes(content[:8], "little")
    before = peak_mb()
    for shape, end in (([2**31], 2**33), ([2**62], 2**64 - 4), ([1], 2**33), ([-1], 4)):
        header = json.loads(content[8 : 8 + size])
        header["module.linear.bias"] |= {"shape": shape, "data_offsets": [0, end]}
        text = json.dumps(header).encode()
        assert is_refused(struct.pack("<Q", len(text)) + text + content[8 + size :])
    assert peak_mb() - before < 64


# Files of other programs.


class Trap:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_with_the_name_of_a_model_is_not_unpickled(protocol, tmp_path):
    trap, path = tmp_path / "trap", tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps([Trap(trap), fit()], protocol))
    with pytest.raises(ModelFileError, match="model"):
        SensorLSTMClassifier.load(path)
    assert not trap.exists()


def test_reading_a_model_neither_unpickles_nor_evaluates(saved, monkeypatch):
    path, expected = saved
    loaded = SensorLSTMClassifier.load(path)  # all imports are done at this point

    def forbidden(*_, **__):
        raise AssertionError("a model file was executed")

    for name in (
        "pickle.loads",
        "pickle.load",
        "pickle.Unpickler",
        "builtins.eval",
        "builtins.exec",
    ):
        monkeypatch.setattr(name, forbidden)
    try:
        loaded = SensorLSTMClassifier.load(path)
    finally:
        monkeypatch.undo()
    np.testing.assert_array_equal(loaded.decision_function(X), expected)


# Descriptions with a correct checksum, as written by a program that knows the format.


def sealed(arrays, description):
    """The bytes of a model file with a correct checksum; a description may be any string."""
    is_text = isinstance(description, str)
    return pack(arrays, description if is_text else json.dumps(to_jsonable(description)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{",
        '{"parameters": {}}',
        "[" * 200_000,
        '{"a":' * 200_000,
        '{"n_channels": ' + "9" * 10_000 + "}",
        '{"tuple": 3}',
        '{"dict": [[1]]}',
        '{"dict": [[[], 1]]}',
        '{"dict": [[{"dict": []}, 1]]}',
        "\x00",
    ],
    ids=lambda text: f"{text[:20]!r}",
)
def test_a_description_of_anything_else_is_refused(text, read, is_refused):
    assert is_refused(sealed(read[0], text))


def test_nesting_of_any_depth_is_refused(read, is_refused):
    for depth in (50, 400, 900, 3000, 30_000):
        for opening, closing in (("[", "]"), ('{"tuple":[', "]}"), ('{"dict":[[1,', "]]}")):
            text = '{"parameters":' + opening * depth + "0" + closing * depth + "}"
            assert is_refused(sealed(read[0], text))


WRONG = [None, True, -1, 10**30, 1.5, float("nan"), float("inf"), "x", "", [], [1], ["x", "y"]]
WRONG += [{}, {"a": 1}, (1, 2)]
# a different value in one of these fields means a different model
DATA = ("parameters", "classes", "temperature", "sum")


def places(value, place=()):
    """The paths to all fields of a description, including nested fields."""
    if place:
        yield place
    parts = {}
    if isinstance(value, dict):
        parts = value
    elif isinstance(value, list):
        parts = dict(enumerate(value[:1] if place == ("history",) else value))
    for key, part in parts.items():
        yield from places(part, (*place, key))


def at(value, place):
    for key in place:
        value = value[key]
    return value


def replaced(value, place, new):
    if not place:
        return new
    changed = value.copy()
    changed[place[0]] = replaced(value[place[0]], place[1:], new)
    return changed


def type_of(value):
    if isinstance(value, list):
        return [type_of(part) for part in value]
    return float if type(value) is int else type(value)


@pytest.mark.long
def test_a_field_of_a_wrong_type_never_gives_another_error_or_model(read, is_refused):
    arrays, description = read
    n_tried = n_refused = 0
    for row, place in enumerate(places(description)):
        for column, wrong in enumerate(WRONG):
            is_same_type = type_of(wrong) == type_of(at(description, place))
            if (row + column) % 3 or (place[0] in DATA and is_same_type):
                continue
            n_tried += 1
            n_refused += is_refused(sealed(arrays, replaced(description, place, wrong)))
    assert n_refused > n_tried / 2 > 150


def test_a_description_without_one_of_its_fields_is_refused(read, is_refused):
    arrays, description = read
    # The versions are only for information. Older files lack fields that were added later: for the
    # report, adaptations, patches and lengths.
    later = {"fluctuation", "adaptation", "patch", "n_timesteps"}
    for name in set(description) - {"versions", *later}:
        rest = {key: value for key, value in description.items() if key != name}
        assert is_refused(sealed(arrays, rest)), name


def test_arrays_with_other_shapes_types_or_names_are_refused(read, is_refused):
    arrays, description = read
    for name, array in arrays.items():
        shapes = [array[:0], array[None], array.ravel()[:-1], np.concatenate([array, array])]
        others = {bool, np.int64, np.float16, np.float64} - {array.dtype.type}
        with np.errstate(invalid="ignore"):  # conversion of NaN to integers
            types = [array.astype(dtype) for dtype in others]
        if name.startswith("scaler."):  # the scaler's numbers may have any type
            types = []
        for changed in shapes + types:
            told = is_refused(sealed({**arrays, name: changed}, description))
            assert told or name == "scaler.kind", name  # `scaler.kind` may have any shape
        renamed = {key: value for key, value in arrays.items() if key != name}
        for changed in (renamed, {**renamed, f"{name}s": array}, {**renamed, "extra": array}):
            assert is_refused(sealed(changed, description)), name


@pytest.mark.parametrize(
    ("name", "exponent"),
    [
        ("hidden_size", 20),
        ("hidden_size", 40),
        ("num_layers", 30),
        ("n_channels", 40),
        ("n_channels", 70),
    ],
)
def test_a_network_that_claims_to_be_huge_does_not_need_memory(name, exponent, read, is_refused):
    arrays, description = read
    changed = {**description, "architecture": {**description["architecture"]}}
    (changed if name == "n_channels" else changed["architecture"])[name] = 2**exponent
    if name == "n_channels":
        changed["n_features_in"] = 2**exponent
    before = peak_mb()
    assert is_refused(sealed(arrays, changed))
    assert peak_mb() - before < 64


def test_labels_of_a_wide_type_do_not_need_memory(tmp_path):
    fit().save(tmp_path / "model")
    arrays, description = read_model(tmp_path / "model")
    wide = {"dtype": "<U99999", "values": ["a"] * 20_000}
    write_model(tmp_path / "model", arrays, {**description, "classes": wide})
    before = peak_mb()
    with pytest.raises(ModelFileError, match="20000 labels of type <U99999"):
        SensorLSTMClassifier.load(tmp_path / "model")
    assert peak_mb() - before < 64


ODD = {
    "versions": "1.0",
    "history": 0.5,
    "architecture": [],
}


@pytest.mark.parametrize("name", ODD)
def test_commands_refuse_a_model_with_an_odd_description(name, tmp_path, capsys):
    fit().save(tmp_path / "model")
    arrays, description = read_model(tmp_path / "model")
    write_model(tmp_path / "model", arrays, {**description, name: ODD[name]})
    assert run(["info", str(tmp_path / "model")]) == 3
    assert "is inconsistent" in capsys.readouterr().err
