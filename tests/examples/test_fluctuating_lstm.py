"""A worked example: a network whose loss fluctuates, the cause, and the result of a repair."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from checkout import ROOT, code_in, run_process, script
from fits import learn_few_features

from sensorseq.nn import LSTMLinear

EXAMPLE = ROOT / "examples" / "fluctuating_lstm.py"
PAGE = ROOT / "docs" / "fluctuating_lstm.md"


@pytest.fixture(scope="module")
def example():
    return script(EXAMPLE)


@pytest.fixture(scope="module")
def story(tmp_path_factory):
    """Return the output of the quick example, and the page that it writes."""
    folder = tmp_path_factory.mktemp("story")
    ran = run_process(sys.executable, EXAMPLE, "--quick", "--output", folder, OMP_NUM_THREADS="1")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout, (folder / "fluctuating_lstm.html").read_text("utf-8")


def test_windows_are_like_those_of_the_question(example):
    windows = example.draw_case()
    assert windows.X.shape == (98, 100, 1)
    assert windows.y.shape == (98, 6)
    np.testing.assert_array_equal(windows.y.sum(axis=1), 1)
    counts = windows.y.sum(axis=0)
    assert counts.max() - counts.min() <= 1
    module = LSTMLinear(1, example.N_UNITS, 6)
    assert sum(parameter.numel() for parameter in module.parameters()) > 200_000


def test_two_of_the_families_differ_by_less_than_the_noise(example):
    waves = [example.wave(family, 0.7, 3.0) for family in range(len(example.FAMILIES))]
    apart = [np.sqrt(np.mean((a - b) ** 2)) for a in waves for b in waves if a is not b]
    pair = np.sqrt(np.mean((waves[0] - waves[1]) ** 2))
    assert pair == min(apart) < example.NOISE / 2
    assert sorted(apart)[2] > 2 * pair


def test_flipped_labels_are_of_another_class(example):
    _, y = example.draw_windows(100, 5)
    flipped, rows = example.flip_labels(y, 0.15)
    differ = np.flatnonzero((y != flipped).any(axis=1))
    np.testing.assert_array_equal(differ, rows)
    assert len(rows) == 15


def numbers_after(text, label):
    """Return the noise and the accuracy on fresh windows in each line with this label."""
    pattern = rf"  {label} +loss \+-([\d.]+) nats.*?([\d.]+) \(fresh"
    return [tuple(map(float, found)) for found in re.findall(pattern, text)]


@pytest.mark.long
def test_the_run_fluctuates_and_the_defaults_repair_it_with_both_seeds(story):
    text, _ = story
    assert re.search(r"Verdict +FLUCTUATING", text)
    original, defaults = (numbers_after(text, label) for label in ("original", "the defaults"))
    assert len(original) == len(defaults) == 2
    assert max(noise for noise, _ in defaults) < min(noise for noise, _ in original) / 1.5
    assert min(fresh for _, fresh in defaults) > max(fresh for _, fresh in original)


@pytest.mark.long
def test_the_page_needs_no_network(story):
    _, page = story
    assert page.startswith("<!DOCTYPE html>")
    assert "learning_rate" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//|@import|fetch\(|XMLHttpRequest", page)


def test_the_page_of_docs_runs_unchanged(example, in_tmp_path, monkeypatch):
    learn_few_features(monkeypatch)
    (code,) = code_in(PAGE.read_text("utf-8"))
    windows = example.draw_case()
    names = windows.fitted_on
    short = code.replace("hidden_size=48", "hidden_size=4").replace(
        "max_epochs=200", "max_epochs=20"
    )
    exec(short, names)
    assert names["better"].score(windows.X, windows.y) > 0.5
    assert Path("fluctuating_lstm.html").exists()


def test_pictures_of_the_page_of_docs_exist():
    for target in re.findall(r"\]\(([^)]+)\)", PAGE.read_text("utf-8")):
        assert (PAGE.parent / target).exists(), target
