"""The text of a finding comes from the table of messages, which contains every kind in use."""

import re
from pathlib import Path

import pytest

import sensorseq
from sensorseq.inspection.finding import Finding
from sensorseq.messages import MESSAGES, Message

PACKAGE = Path(sensorseq.__file__).parent
MAKERS = "Finding|finding|_in_both|_add|_add_pairs|_add_each|_alike"
MADE = re.compile(rf'(?:{MAKERS})\(\s*"(\w+)"')


@pytest.fixture
def said(monkeypatch):
    def said(template, values, **where):
        monkeypatch.setitem(MESSAGES, "a_kind", Message(template))
        return Finding("a_kind", values, where).text

    return said


def test_every_kind_that_is_used_has_a_message():
    files = (PACKAGE / "inspection").glob("*.py")
    made = {kind for path in files for kind in MADE.findall(path.read_text("utf-8"))}
    assert len(made) > 40
    assert made <= MESSAGES.keys()
    assert all(part.text and "\n" not in part.text + part.advice for part in MESSAGES.values())
    assert not any("(s)" in part.text for part in MESSAGES.values())


def test_singular_and_plural_have_different_words(said):
    words = "{rows} {rows:changes|change}, {n} window{n:|s}"
    assert said(words, {"n": 1}, rows=[7]) == "7 changes, 1 window"
    assert (
        said(words, {"n": 0}, rows=list(range(7))) == "0, 1, 2, 3, 4 and 2 more change, 0 windows"
    )


def test_empty_and_unknown_values_are_left_out(said):
    words = "So.{far:? {far} {n:.2f} away.}"
    assert said(words, {"n": 0.125}, far=["x"]) == "So. x 0.12 away."
    assert said(words, {"n": 0.125}, far=[]) == said(words, {"n": 0.125}) == "So."


def test_ratios_and_fractions_are_easy_to_read(said):
    ratios = {1219.6: "1,220 times as much as", 0.0774: "13 times less than", 1.5: "1.5 times as"}
    for ratio, words in ratios.items():
        assert said("{r:times as much as/less than} usual", {"r": ratio}).startswith(words)
    assert said("{r:.0%} of it, {r:.1%}", {"r": 0.97}) == "97 % of it, 97.0 %"


def test_names_are_never_read_as_templates(said):
    assert said("{channels} {all:every|{channels}}", {"all": 0}, channels=["a|b {n}"]) == (
        "a|b {n} a|b {n}"
    )


def test_recordings_are_left_out_by_name_unless_none_would_remain():
    where = {"channels": ["x"], "recordings": ["a b", "c", "d", "e"], "places": ["a b"]}
    advice = "Choose other channels with --channels, or leave them out with --exclude"
    advice += " 'a b,c,d',...."
    assert Finding("empty", {}, where, {"exclude": where["recordings"]}).advice == advice
    everywhere = Finding("empty", {"everywhere": True}, where)
    assert everywhere.advice == "Choose other channels with --channels."
    assert everywhere.to_dict()["values"]["recordings"] == where["recordings"]
