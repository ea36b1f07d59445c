"""Docstrings and comments do not begin with "What ...", "Those of ..." or "That of ...".

Such a phrase hides the noun: "What `load` reads" is a file, and "Those of a group" are windows.
"""

import ast
import io
import re
import tokenize

import pytest
from checkout import ROOT, tree_of

HIDDEN_NOUN = re.compile(r"What(?! (is|are|do|does)\b[^.]*\?)\b|(Those|That) (of|in|with|for)\b")
DOCUMENTED = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
FOLDERS = ("sensorseq", "benchmarks", "scripts", "examples", "runtime", "data", "tests")


def texts(path):
    """Yield the line and text of each docstring and comment of a Python file."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, DOCUMENTED) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text
    for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string.lstrip("# ")


@pytest.mark.parametrize("folder", FOLDERS)
def test_texts_begin_with_a_noun_or_a_verb(folder):
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text.splitlines()[0]}"
        for path in files
        for line, text in texts(path)
        if HIDDEN_NOUN.match(text)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "is_hidden"),
    [
        ("What `load` reads.", True),
        ("Those of a group stay together.", True),
        ("That of the last epoch.", True),
        ("What is the cause? See below.", False),
        ("That the file is read twice is intended.", False),
    ],
)
def test_the_pattern(text, is_hidden):
    assert bool(HIDDEN_NOUN.match(text)) == is_hidden
