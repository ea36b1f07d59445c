"""One object contains the options of all readers; each reader also accepts its options by name."""

import inspect
import re
from dataclasses import fields

import numpy as np
import pytest
from tables import write_table

from sensorseq import readers
from sensorseq.cli import run
from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.options import NAMES
from sensorseq.prepare import prepare
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
def test_an_option_that_a_reader_does_not_use_is_refused_by_name(reader):
    for each in fields(ReadOptions):
        if each.name not in by_name(reader):
            with pytest.raises(TypeError, match=rf"{reader.__name__}.*'{each.name}'"):
                reader("nowhere", **{each.name: None})
    with pytest.raises(TypeError, match=r"are not ReadOptions; give options by name"):
        reader("nowhere", "time_s")


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.__name__)
def test_the_docstring_names_the_options_that_a_reader_uses(reader):
    (entry,) = re.findall(r"^options : .*\n((?:    .*\n)+)", inspect.getdoc(reader), re.M)
    said = set(re.findall(r"`(\w+)`", entry))
    if "all options except" in entry:
        said = {each.name for each in fields(ReadOptions)} - said
    said -= {"read_source", "find_recordings"}
    assert said == set(by_name(reader)) if by_name(reader) else said <= set(NAMES)


def test_an_object_and_keywords_are_equivalent_and_a_keyword_takes_precedence(tmp_path):
    path = tmp_path / "drive.csv"
    path.write_text("a;clock\n1,5;0\n2,5;1\n")
    said = {"delimiter": ";", "decimal": ",", "time_column": "clock"}
    for recording in (
        read_csv(path, ReadOptions(**said)),
        *read_recordings(path, ReadOptions(**said)),
        *read_recordings(path, ReadOptions(**said | {"decimal": "."}), decimal=","),
    ):
        np.testing.assert_array_equal(recording.values, [[1.5], [2.5]])


KINDS = ["csv", "parquet", "h5", "npz"]
T = np.arange(300) / 100
LABEL = np.repeat(["ice", "mud", "sand"], 100).tolist()


def write_one(folder, kind, **more):
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(list(folder.iterdir())))
    return write_table(folder / f"a.{kind}", {"a": rng.normal(size=300), "label": LABEL, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_rows_without_a_time_are_a_given_rate_apart_in_every_kind_of_file(kind, tmp_path, capsys):
    path = write_one(tmp_path, kind)
    (one,) = read_recordings(path, sample_rate_hz=50, label_column="label")
    np.testing.assert_allclose(one.timestamps_s, np.arange(300) / 50, rtol=1e-15)
    with pytest.raises(RecordingError, match="sample_rate_hz"):
        read_recordings(path)
    given = ["--sample-rate-hz", "50"]
    assert run(["inspect", str(path), *given]) == 0
    assert "no time column; rows are 1/50 s apart (--sample-rate-hz)" in capsys.readouterr().out
    assert run(["inspect", str(write_one(tmp_path, kind, time=T)), *given]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "--sample-rate-hz 50 is not used here, because all recordings have timestamps." in said


@pytest.mark.parametrize("kind", KINDS)
def test_an_unused_option_is_an_error_or_a_warning(kind, tmp_path):
    path = write_one(tmp_path, kind, time=T)
    form = {"encoding": "utf-8", "delimiter": ";", "no_header": True, "names": ["x"]}
    for name, value in {} if kind == "csv" else form.items():
        with pytest.raises(ArgumentError, match=rf"{name}=.* is for CSV files, but all files are"):
            read_recordings(path, **{name: value})
        with pytest.raises(ArgumentError, match="is for CSV files"):
            read_recordings(tmp_path, **{name: value})
    for name, value in {"files": "b*", "labels": ["rock"], "exclude": ["rock"]}.items():
        with pytest.raises(ArgumentError, match=rf"{name}='{value[0][:2]}.* "):
            read_recordings(path, **{name: value})
    with pytest.raises(ArgumentError, match="`pair` joins files of a folder"):
        read_recordings(path, pair="{sensor}_{recording}.*")
    with pytest.warns(UserWarning, match=r"sample_rate_hz=50 is not used.* PreparePipeline"):
        read_recordings(path, sample_rate_hz=50)
    read_recordings(path, files="a*")


def test_names_and_a_header_line_exclude_each_other(tmp_path):
    path = write_one(tmp_path, "csv", time=T)
    with pytest.raises(ArgumentError, match="`names` is for files without a header line"):
        read_csv(path, ReadOptions(names=["x", "y", "z"], no_header=False))


@pytest.mark.parametrize("kind", KINDS)
def test_classes_of_a_label_column_are_kept_and_left_out_by_name(kind, tmp_path, capsys):
    path = write_one(tmp_path, kind, time=T)
    given = {"label_column": "label"}
    for choice in ({"labels": ["ice", "sand"]}, {"exclude": ["mud"]}, {"exclude": "m*"}):
        (one,) = read_recordings(path, **given, **choice)
        assert one.labels == ("ice", "sand")
        assert one.n_samples == 300
    with pytest.raises(
        ArgumentError, match=r"labels='icy' .* Did you mean 'ice'.* Known: ice, mud, sand"
    ):
        read_recordings(path, **given, labels=["icy"])
    for i in range(3):
        write_one(tmp_path / "in" / f"{i}", kind, time=T)
    folder = tmp_path / "in"
    for i in range(3):
        (folder / f"{i}" / f"a.{kind}").rename(folder / f"{i}.{kind}")
        (folder / f"{i}").rmdir()
    out = tmp_path / "out.h5"
    summary = prepare(folder, out, window_s=0.5, **given, exclude=["mud"])
    assert {name for part in summary.counts.values() for name in part} == {"ice", "sand"}
    summary = prepare(folder, out, window_s=0.5, **given, labels=["mud", "ice"])
    assert {name for part in summary.counts.values() for name in part} == {"mud", "ice"}
    with pytest.raises(ArgumentError, match="'icy' is not a class"):
        prepare(folder, out, window_s=0.5, **given, labels=["icy", "mud"])
    typed = ["--label-column", "label", "--labels", "icy,mud"]
    assert run(["inspect", str(folder), *typed]) == 2
    assert "--labels icy is not a class of a recording." in capsys.readouterr().err
