"""The table of docs/adapt.md agrees with the results."""

import json
import re

from checkout import ROOT, page_of

PAGE = page_of("adapt.md")
ROWS = json.loads((ROOT / "benchmarks" / "results" / "adapt.json").read_text("utf-8"))["rows"]


def test_the_table_agrees_with_the_results():
    accuracies = {
        (r["task"], r["windows_per_class"], r["method"]): 100 * r["accuracy"] for r in ROWS
    }
    lines = re.findall(r"^\| ([\w ]+) \| (\d+) \| ([\d.]+ .*) \|$", PAGE, re.M)
    assert len(lines) == 9
    head = re.search(r"^\| set \| windows \| (.*) \|$", PAGE, re.M)[1].split(" | ")
    for task, n, cells in lines:
        wanted = [f"{accuracies[task, int(n), method]:.1f}" for method in head]
        assert cells.replace("**", "").split(" | ") == wanted


def test_the_worst_draw_of_the_page_agrees_with_the_results():
    worst = min(100 * row["worst_gain"] for row in ROWS if row["method"] == "adapt")
    assert f"`adapt` changes the accuracy by {worst:+.1f} points compared" in " ".join(PAGE.split())


def test_the_table_of_trained_models_agrees_with_the_results():
    gains = {(r["task"], r["method"]): r["gain"] for r in ROWS if r["windows_per_class"] == 5}
    lines = re.findall(r"^\| ([\w ]+) \| ([+-].*) \|$", PAGE, re.M)
    assert len(lines) == 3
    for task, cells in lines:
        methods = ("all layers", "few alone", "old and few")
        assert cells.split(" | ") == [f"{100 * gains[task, name]:+.1f}" for name in methods]
