"""Tests of the repair benchmark: the counts of repaired runs, and resuming."""

import json

import bench_repair
import numpy as np
import pytest

pytestmark = pytest.mark.benchmarks


def row(level, after, again=None, changed=True):
    repair = {"level": after, "changed": changed, "cost": 0.5}
    again = level if again is None else again
    facts = {"draw": 300, "data": "a", "level": level, "again": again, "best": 0.9}
    search = {"level": level, "changed": False, "cost": 0.5}
    return {**facts, "repairs": {"probe": repair, "random search": search}}


def test_the_table_counts_repaired_and_harmed_runs():
    rows = [row(0.3, 0.88), row(0.3, 0.5), row(0.3, 0.2), row(0.88, 0.84, again=0.86)]
    rows += [row(0.88, 0.86, changed=False), row(0.88, 0.87, again=0.91)]
    line, search = bench_repair.summarize(rows)
    assert line["repaired"] == [1, 3]
    assert search["repaired"] == [0, 3]
    assert (line["p"], search["p"]) == (1.0, 1.0)
    assert line["improved"] == [2, 3]
    assert line["bad_harmed"] == [1, 3]
    assert line["good_harmed"] == [1, 3]  # one is less accurate than a new fit of the old settings
    assert line["good_changed"] == [2, 3]
    assert line["good_gain"] == pytest.approx(-0.02 / 3 - 0.04 / 3 - 0.02 / 3)
    assert line["accuracy_after"] == pytest.approx(np.mean([0.88, 0.5, 0.2]))


def test_it_resumes_and_ignores_a_truncated_line(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps([row(0.3, 0.88)]) + '\n[{"draw": 1')
    monkeypatch.setattr(bench_repair, "available", lambda name, folder: "")
    monkeypatch.setattr(
        bench_repair, "measure_draw", lambda number, folder: [row(0.2, 0.9) | {"draw": number}]
    )
    assert bench_repair.main(["--work", str(path), "--draws", "2"]) == 0
    assert sorted(bench_repair.read(path)) == [300, 301]
    assert '"repaired": [2, 2]' in capsys.readouterr().out
