"""One object has the options of all readers; each also takes those it uses by name."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest

from sensorseq import readers
from sensorseq.readers import ReadOptions, read_csv, read_recordings

READERS = [
    getattr(readers, name)
    for name in readers.__all__
    if inspect.isfunction(getattr(readers, name))
    and "options" in inspect.signature(getattr(readers, name)).parameters
]


def by_name(reader):
    known = {each.name for each in fields(ReadOptions)}
    return [name for name in inspect.signature(reader).parameters if name in known]


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_what_a_reader_has_no_use_for_is_refused_by_name(reader):
    for each in fields(ReadOptions):
        if each.name not in by_name(reader):
            with pytest.raises(TypeError, match=rf"{reader.__name__}.*'{each.name}'"):
                reader("nowhere", **{each.name: None})
    with pytest.raises(TypeError, match="options by name"):
        reader("nowhere", "time_s")


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_the_docstring_names_what_a_reader_uses(reader):
    (entry,) = re.findall(r"^options : .*\n((?:    .*\n)+)", inspect.getdoc(reader), re.M)
    said = set(re.findall(r"`(\w+)`", entry))
    if "all but" in entry:
        said = {each.name for each in fields(ReadOptions)} - said
    assert said - {"read_source", "find_recordings"} == set(by_name(reader))


def test_an_object_and_names_say_the_same_and_a_name_wins(tmp_path):
    path = tmp_path / "drive.csv"
    path.write_text("a;clock\n1,5;0\n2,5;1\n")
    said = {"delimiter": ";", "decimal": ",", "time_column": "clock"}
    for recording in (
        read_csv(path, **said),
        read_csv(path, ReadOptions(**said)),
        read_csv(path, ReadOptions(**said | {"decimal": "."}), decimal=","),
        *read_recordings(path, ReadOptions(**said)),
    ):
        np.testing.assert_array_equal(recording.values, [[1.5], [2.5]])
