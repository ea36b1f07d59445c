"""The tutorials run unchanged, block after block, and print the output that they show."""

import contextlib
import re
import shlex
from pathlib import Path

import matplotlib as mpl
import pytest
import sklearn

from sensorseq.cli import run
from sensorseq.errors import LeakWarning

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
PAGES = {page.stem: page for page in FOLDER.glob("*.md") if page.stem != "README"}
MASKED = 'title="your figures may differ"'


def cells(page):
    """Return the language, attributes and text of every fenced block."""
    return re.findall(r"^```(\w+) ?(.*?)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)


def commands(text):
    """Return the arguments of every `sensorseq` command of a shell block."""
    for line in text.replace("\\\n", " ").splitlines():
        program, *arguments = shlex.split(line)
        assert program == "sensorseq"
        yield arguments


def comparable(text, masked):
    """Return the text to compare; if `masked`, all numbers and all white space look the same."""
    return " ".join(re.sub(r"\d+(\.\d+)?", "#", text).split()) if masked else text.strip()


@pytest.mark.trains
@pytest.mark.parametrize("name", sorted(PAGES))
def test_a_tutorial_prints_the_output_that_it_shows(name, in_tmp_path, capsys):
    names, printed, n_compared = {}, "", 0
    warned = pytest.warns(LeakWarning) if name == "no_leaks" else contextlib.nullcontext()
    with sklearn.config_context(), mpl.rc_context({"backend": "agg"}), warned:
        for language, beside, text in cells(PAGES[name]):
            assert language in ("python", "sh", "text"), language
            if language == "text":
                masked = beside == MASKED
                assert comparable(printed, masked) == comparable(text, masked)
                n_compared += 1
                continue
            if language == "python":
                exec(compile(text, f"{name}.md", "exec"), names)
            else:
                for arguments in commands(text):
                    assert run(arguments) == 0, arguments
            printed = capsys.readouterr().out
    assert n_compared


def test_every_tutorial_is_in_the_index():
    index = (FOLDER / "README.md").read_text("utf-8")
    for page in PAGES.values():
        assert f"]({page.name})" in index
