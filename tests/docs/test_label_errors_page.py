"""The example of docs/label_errors.md runs, and its table agrees with the results."""

import json
import re

import numpy as np
import pytest
from checkout import ROOT, code_in, page_of

from sensorseq.inspection.label_errors import find_label_errors

PAGE = page_of("label_errors.md")


@pytest.mark.trains
def test_the_examples_run(capsys):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    X = rng.normal(size=(60, 10, 1)) + 3 * y[:, None, None]
    y[7] = 0
    names = {"X": X, "y": y, "recording": np.arange(60) // 6}
    first, second = code_in(PAGE)
    exec(first, names)
    printed = capsys.readouterr().out.splitlines()
    shown = code_in(PAGE, "text")[0].splitlines()
    assert printed[0] == "About 1 of 60 labels look wrong. Likeliest first:"
    assert printed[1] == shown[1]
    assert printed[2].split()[0] == "7"
    exec(second, names)
    assert 7 not in names["keep"]


def test_the_table_agrees_with_the_results():
    results = json.loads((ROOT / "benchmarks" / "results" / "labels.json").read_text("utf-8"))
    table = re.findall(r"^\| ([\w-]+) \| (random|confused) \| (.*) \|$", PAGE, re.M)
    assert len(table) == 10
    for name, kind, text in table:
        rows = [
            row["precision"] for row in results["rows"] if (row["set"], row["kind"]) == (name, kind)
        ]
        assert len(rows) == 2
        names = [n for n in rows[0] if n != "group alone"]
        means = [f"{100 * np.mean([row[n] for row in rows]):.1f}" for n in names]
        assert re.split(r" [|/] ", text) == means


def test_the_numbers_of_the_page_agree_with_the_code():
    assert f"(`n_seeds={find_label_errors.__kwdefaults__['n_seeds']}`)" in PAGE
