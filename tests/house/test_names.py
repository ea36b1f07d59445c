"""Identifiers avoid the words that docs/development.md tells authors not to use."""

import functools
import io
import re
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SECTION = re.compile(r"^## Names\n(.*?)^## ", re.M | re.S)
TEXT = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)


@functools.cache
def listed():
    """Return a pattern of the banned words, and the identifiers in which they are allowed."""
    rules = SECTION.search((ROOT / "docs" / "development.md").read_text("utf-8"))[1]
    rows = [line.split("|") for line in rules.splitlines() if line.startswith("| `")]
    words = (word for row in rows for word in re.findall(r"`(\w+-?)`", row[2]))
    banned = re.compile("|".join(word.replace("-", r"\w*") for word in words))
    kept = set(re.findall(r"`(\w+)`", rules.rpartition("Exceptions:")[2]))
    return banned, kept


def identifiers(path, text):
    if path.suffix == ".py":
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        return {token.string for token in tokens if token.type == tokenize.NAME}
    return set(re.findall(r"[A-Za-z_]\w*", TEXT.sub(" ", text)))


@functools.cache
def is_wrong(name):
    banned, kept = listed()
    rest = re.sub("|".join(kept), "", name)
    words = re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", rest)
    return any(banned.fullmatch(word.lower()) for word in words)


def wrong_names(path, text):
    # Most files contain no banned word and need not be parsed.
    if any(map(is_wrong, set(re.findall(r"[^\W\d]\w*", text)))):
        yield from (f"{path.name}: {n}" for n in sorted(identifiers(path, text)) if is_wrong(n))


@pytest.mark.parametrize("folder", ["sensorseq", "csrc", "tests", "benchmarks"])
def test_no_identifier_has_a_word_that_is_not_used(folder):
    files = [
        p for p in (ROOT / folder).rglob("*") if p.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
    ]
    assert files
    assert [name for path in files for name in wrong_names(path, path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("file", "text", "found"),
    [
        ("a.py", "def fake_lab(): ...", ["fake_lab"]),
        ("a.py", "class FakeLab: ...", ["FakeLab"]),
        ("a.py", "rule = 'centre'  # centre", []),
        ("a.h", 'int colour_of(int x);  // "centre"', ["colour_of"]),
        ("a.py", "matlab.is_labelled = True", []),
        ("a.py", "initialised, labelling, optimal = 1, 2, 3", ["initialised", "labelling"]),
    ],
)
def test_words_are_found_in_names_and_not_in_texts(file, text, found):
    assert list(wrong_names(Path(file), text)) == [f"{file}: {name}" for name in found]
