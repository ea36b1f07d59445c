"""An option of preparation is one field of PreparationOptions."""

import re
from pathlib import Path

import pytest

from sensorseq.preprocessing import PreparationOptions, PreparePipeline
from sensorseq.preprocessing.options import OPTIONS, SECTIONS

PACKAGE = Path(__file__).resolve().parents[2] / "sensorseq"


@pytest.mark.parametrize("name", ["train_hop_s", "train_phase", "split_by", "embargo_s"])
def test_an_option_is_declared_in_one_file(name):
    declared = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(rf"^ +{name}: [a-z]", path.read_text("utf-8"), re.M)
    ]
    assert set(declared) - {"fold_windows.py", "parts.py", "splitters.py"} == {"options.py"}


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


def test_what_older_provenance_lacks_has_its_default():
    recorded = PreparationOptions.recorded({"configuration": {"window": {"window_s": 2.0}}})
    assert recorded == PreparationOptions(window_s=2.0)
    nothing = PreparationOptions.recorded({})
    assert nothing.window_s != nothing.window_s
    assert nothing.scale == "standard"
