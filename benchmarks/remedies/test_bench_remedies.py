"""Tests of the remedies benchmark: the values of a row, and the rows of an interrupted run."""

import json

import bench_remedies
import numpy as np
import pytest

pytestmark = pytest.mark.benchmarks


def test_a_row_summarizes_the_differences_within_pairs():
    row = bench_remedies.summarize(np.zeros(4), np.array([-1.0, -3.0, 1.0, 0.0]), -1)
    assert (row["median_without"], row["median_with"], row["difference"]) == (0.0, -0.5, -0.5)
    assert row["as_expected"] == 2
    assert row["mean"] == pytest.approx(-0.75)
    assert row["standard_error"] == pytest.approx((8.75 / 3 / 4) ** 0.5)


def test_a_run_that_is_stopped_keeps_its_rows_and_leaves_the_results(tmp_path, monkeypatch):
    measure, measured = bench_remedies.measure, []

    def stopped(row, n_seeds):
        if measured:
            raise KeyboardInterrupt
        measured.append(row)
        return measure(row._replace(common={**row.common, "max_epochs": 8}), n_seeds)

    monkeypatch.setattr(bench_remedies, "measure", stopped)
    monkeypatch.setattr(bench_remedies, "BUILD", tmp_path / "build")
    monkeypatch.setattr(bench_remedies, "RESULTS", tmp_path / "results")
    bench_remedies.main(["--seeds", "2"])
    (row,) = json.loads((tmp_path / "build" / "remedies.json").read_text())["rows"]
    assert row["seeds"] == 2
    assert not (tmp_path / "results").exists()
