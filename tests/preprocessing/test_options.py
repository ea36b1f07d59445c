"""Each option of preparation is a single field of PreparationOptions."""

import inspect
import re
import subprocess
import sys
from dataclasses import fields
from typing import get_type_hints

import pytest
from checkout import ROOT

from sensorseq.options import NAMES, ReadArguments
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparationOptions, PreparePipeline
from sensorseq.preprocessing.options import (
    OPTIONS,
    PIPELINE_OPTIONS,
    SECTIONS,
    PipelineArguments,
    PrepareArguments,
)
from sensorseq.readers import read_recordings

FIELDS = {each.name: each for each in fields(PreparationOptions)}


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (prepare, OPTIONS),
        (PreparePipeline, PIPELINE_OPTIONS),
        (read_recordings, [name for name in NAMES if name not in ("salvage", "scratch")]),
    ],
)
def test_a_function_shows_each_option_with_its_default_and_its_entry(function, names):
    parameters = inspect.signature(function).parameters
    assert {name for name in parameters if name in FIELDS} == set(names)
    shown = inspect.getdoc(function)
    for name in names:
        default = FIELDS[name].default
        if name != "window_s":
            assert parameters[name].default == default
        assert len(re.findall(rf"^(?:\w+, )*{name}(?:, \w+)* : ", shown, re.M)) == 1, name
    assert "**" not in re.sub(r"``.*?``", "", shown)
    said = "Longest gap, in seconds, across which samples are interpolated"
    assert (said in shown) == ("max_gap_s" in names)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (PrepareArguments, set()),
        (PipelineArguments, {*OPTIONS} - {*PIPELINE_OPTIONS} | {"window_s", "random_state"}),
        (ReadArguments, {*OPTIONS} - {*NAMES}),
    ],
)
def test_editors_and_mypy_read_the_names_and_types_of_the_tables(arguments, missing):
    read = get_type_hints(arguments)
    assert {*OPTIONS} - {*read} == missing
    for name, kind in read.items():
        text = str if name == "split" else FIELDS[name].type  # "none" is a text
        assert kind == FIELDS[name].type | text, name


@pytest.mark.parametrize(
    "call",
    [
        lambda **wrong: prepare("recordings", "windows.h5", window_s=1.0, **wrong),
        lambda **wrong: PreparePipeline(window_s=1.0, **wrong),
        lambda **wrong: PreparePipeline.from_configuration({"window": {"window_s": 1}}, **wrong),
        lambda **wrong: read_recordings("recordings", **wrong),
    ],
)
def test_an_unknown_option_is_refused_with_the_most_similar_name(call):
    said = r"has no argument 'sample_rate'\. Did you mean 'sample_rate_hz'\?"
    with pytest.raises(TypeError, match=said):
        call(sample_rate=10.0)


@pytest.mark.long
def test_mypy_checks_the_names_and_types_of_options(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        """
from sensorseq import PreparePipeline, read_recordings
from sensorseq.prepare import prepare

read_recordings("a", time_column="t")
prepare("a", "b.h5", window_s=1.0, split="none", time_column="t")
PreparePipeline(window_s=1.0, steps=[], scale=None)
read_recordings("a", time_colum="t")
prepare("a", "b.h5", window_s="1")
PreparePipeline(window_s=1.0, files=["a.csv"])
"""
    )
    command = [sys.executable, "-m", "mypy", "--follow-imports=silent", str(program)]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    wrong = [int(line.split(":")[1]) for line in said.splitlines() if ": error:" in line]
    assert wrong == [8, 9, 10]


def test_keys_are_unique_in_their_section_and_flags_everywhere():
    places = [(option.section, option.key) for option in OPTIONS.values()]
    assert len(set(places)) == len(places)
    assert {section for section, _ in places} == set(SECTIONS)
    flags = [option.flag for option in OPTIONS.values()]
    assert len(set(flags)) == len(flags)


def test_options_are_read_back_from_the_provenance():
    pipeline = PreparePipeline(
        window_s=2.0, train_hop_s=0.5, channels=["x"], scale=None, balance="undersample"
    )
    recorded = PreparationOptions.recorded({"configuration": pipeline.configuration})
    for name in OPTIONS:
        made, read = getattr(pipeline.options, name), getattr(recorded, name)
        assert (list(made) if name == "split" else made) == read or (not made and not read), name


def test_options_that_older_provenance_lacks_have_their_default():
    recorded = PreparationOptions.recorded({"configuration": {"window": {"window_s": 2.0}}})
    assert recorded == PreparationOptions(window_s=2.0)
    nothing = PreparationOptions.recorded({})
    assert nothing.window_s != nothing.window_s
    assert nothing.scale == "standard"
