"""The count behind an accuracy, against counts that are known."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensorseq.diagnosis import metrics
from sensorseq.diagnosis.metrics import guess_count
from sensorseq.diagnosis.report import FluctuationReport


def counted(n, seed, n_epochs=40):
    p = np.linspace(0.5, 0.9, n_epochs)
    return np.random.default_rng(seed).binomial(n, p) / n


@pytest.mark.parametrize("n", [20, 25, 42, 97, 128, 300, 777])
@pytest.mark.parametrize("kept", ["all", "float32", "4 digits", "6 digits in per cent"])
def test_the_count_is_found_however_the_log_rounds(n, kept):
    for seed in range(10):
        values = counted(n, seed)
        seen = {
            "all": values,
            "float32": values.astype(np.float32).astype(float),
            "4 digits": np.round(values, 4),
            "6 digits in per cent": np.array([float(f"{100 * v:.6g}") for v in values]) / 100,
        }[kept]
        assert guess_count(seen) == n


@pytest.mark.parametrize("n", [42, 98, 120])
def test_three_digits_are_enough_for_small_sets(n):
    assert all(guess_count(np.round(counted(n, seed), 3)) == n for seed in range(10))


@given(n=st.integers(2, 2500), seed=st.integers(0, 99), digits=st.integers(1, 6))
def test_a_count_that_is_told_is_the_one_or_a_divisor_of_it(n, seed, digits):
    guess = guess_count(np.round(counted(n, seed), digits))
    assert guess is None or n % guess == 0


def test_values_that_were_never_counted_have_no_count():
    rng = np.random.default_rng(0)
    for _ in range(200):
        values = rng.uniform(0.3, 0.95, 40)
        for digits in (2, 3, 4, 16):
            assert guess_count(np.round(values, digits)) is None


@pytest.mark.parametrize("values", [[], [np.nan] * 9, [0.5] * 40, [0, 0.25, 0.5, 0.75, 1]])
def test_few_different_values_tell_nothing(values):
    assert guess_count(values) is None


def test_gaps_are_left_out():
    values = counted(42, 0)
    values[::3] = np.nan
    assert guess_count(values) == 42


def test_the_report_says_it_and_does_not_assume_it():
    curve = {"loss": 0.5 + np.exp(-np.arange(40) / 5), "val_accuracy": counted(42, 1)}
    report = FluctuationReport.from_history(curve)
    assert report.n_val is None
    assert [part.values for part in report.statements if part.kind == "size_guessed"] == [{"n": 42}]
    assert "n_val=42" in " ".join(report.explanation)
    told = FluctuationReport.from_history(curve, 42)
    assert "size_guessed" not in {part.kind for part in told.statements}


def test_the_example_in_the_docstring_is_true():
    outcome = doctest.testmod(metrics)
    assert (outcome.attempted, outcome.failed) == (1, 0)
