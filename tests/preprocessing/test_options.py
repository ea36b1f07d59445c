"""Each option of preparation is a single field of PreparationOptions."""

import importlib.util
import inspect
import re
from dataclasses import MISSING, fields
from pathlib import Path

import pytest

from sensorseq.options import NAMES
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparationOptions, PreparePipeline
from sensorseq.preprocessing.options import (
    OPTIONS,
    PIPELINE_OPTIONS,
    SECTIONS,
)
from sensorseq.readers import read_recordings

ROOT = Path(__file__).resolve().parents[2]
PACKAGE, SCRIPT = ROOT / "sensorseq", ROOT / "scripts" / "write_signatures.py"
FIELDS = {each.name: each for each in fields(PreparationOptions)}


def test_signatures_docstrings_and_commands_have_the_options_of_the_tables():
    spec = importlib.util.spec_from_file_location("write_signatures", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert not script.stale(), f"run `python {SCRIPT.relative_to(ROOT)}`"


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (prepare, OPTIONS),
        (PreparePipeline, PIPELINE_OPTIONS),
        (read_recordings, [name for name in NAMES if name not in ("salvage", "scratch")]),
    ],
)
def test_a_function_has_each_option_with_its_default_and_its_entry(function, names):
    parameters = inspect.signature(function).parameters
    assert [name for name in parameters if name in names] == list(names)
    for name in names:
        default = FIELDS[name].default if function is PreparePipeline else None
        assert parameters[name].default == (
            inspect.Parameter.empty if default is MISSING else default
        )
        assert re.search(rf"^(\w+, )?{name}(, \w+)? : ", inspect.getdoc(function), re.M), name


def test_only_commands_have_signatures_made_at_run_time():
    made = re.compile(r"__signature__|__doc__ \+?= ")
    found = [path for path in PACKAGE.rglob("*.py") if made.search(path.read_text("utf-8"))]
    assert found == [PACKAGE / "cli" / "options.py"]


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
