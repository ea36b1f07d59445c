"""An option of preparation is one field of PreparationOptions; see the recipe in CONTRIBUTING."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sensorseq.preprocessing import PreparationOptions, PreparePipeline
from sensorseq.preprocessing.options import OPTIONS, SECTIONS

PACKAGE = Path(__file__).resolve().parents[2] / "sensorseq"
PROGRAM = """
import inspect, tomllib
from sensorseq.cli import run
from sensorseq.prepare import prepare
from sensorseq.preprocessing import PreparePipeline
from sensorseq.preprocessing.configuration import make_configuration

pipeline = PreparePipeline(window_s=1, taper_s=0.25)
assert pipeline.options.taper_s == 0.25
for function in (prepare, PreparePipeline):
    assert inspect.signature(function).parameters["taper_s"].default is None
assert pipeline.configuration["window"]["taper_s"] == 0.25
again = PreparePipeline.from_configuration(make_configuration(tomllib.loads(pipeline.to_toml())))
assert again.configuration == pipeline.configuration
assert run(["prepare", "--help"]) == 0
"""


@pytest.mark.long
def test_a_new_option_is_one_field_in_one_file(tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "sensorseq", ignore=shutil.ignore_patterns("__pycache__"))
    file = tmp_path / "sensorseq" / "preprocessing" / "options.py"
    before = '    train_phase: str = _option("window", "grid")\n'
    added = '    taper_s: float | None = _option("window", metavar="S", help="Fade both ends.")\n'
    text = file.read_text("utf-8")
    assert before in text
    file.write_text(text.replace(before, before + added), "utf-8")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"--taper-s S +Fade both ends\.", done.stdout)


@pytest.mark.parametrize("name", ["train_hop_s", "train_phase", "split_by", "embargo_s"])
def test_an_option_is_declared_in_one_file(name):
    declared = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if re.search(rf"^ +{name}: [a-z]", path.read_text("utf-8"), re.M)
    ]
    assert set(declared) - {"fold_windows.py", "split.py", "splitters.py"} == {"options.py"}


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
