"""The page docs/adapt.md agrees with the results and with the settings of `adapt`."""

import json
import re

import pytest
from checkout import ROOT, page_of

from sensorseq.estimator.adapt import LEAST_GAIN, SHARES

PAGE = page_of("adapt.md")
TEXT = " ".join(PAGE.split())
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
    assert f"`adapt` changes the accuracy by {worst:+.1f} points compared" in TEXT
    (n_draws,) = {row["n_draws"] for row in ROWS}
    assert f"mean of {n_draws} draws" in TEXT


@pytest.mark.parametrize("task", ["same fleet", "terrain"])
def test_the_changes_by_training_on_both_agree_with_the_results(task):
    (row,) = (
        row
        for row in ROWS
        if row["method"] == "old and few windows"
        and (row["task"], row["windows_per_class"]) == (task, 5)
    )
    mean, worst, best = (100 * row[name] for name in ("gain", "worst_gain", "best_gain"))
    assert f"{mean:+.1f} points on `{task}` ({worst:+.1f} to {best:+.1f})" in TEXT


def test_the_ranges_of_the_page_agree_with_the_results():
    def gains(task, method):
        rows = (row for row in ROWS if (row["task"], row["method"]) == (task, method))
        return sorted(round(100 * row["gain"]) for row in rows)

    of_adapt, of_both = (gains("other kind", name) for name in ("adapt", "old and few windows"))
    assert f"`adapt` gains {of_adapt[0]} to {of_adapt[-1]} points" in TEXT
    assert of_both[-1] < of_adapt[0]
    lost = gains("terrain", "own mean and deviation")
    assert f"costs {-lost[-1]} to {-lost[0]} points" in TEXT


def test_the_few_windows_alone_are_worse_in_every_row():
    of = {(r["task"], r["windows_per_class"], r["method"]): r["accuracy"] for r in ROWS}
    sets = {key[:2] for key in of}
    assert all(of[*each, "few windows alone"] < of[*each, "adapt"] for each in sets)


def test_the_page_describes_the_criterion():
    shares = [f"{100 * share:g}" for share in SHARES]
    assert f"by {', '.join(shares[:-1])} or {shares[-1]} % toward" in TEXT
    assert f"fall by more than {LEAST_GAIN:g} nats" in TEXT
