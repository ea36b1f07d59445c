"""The benchmark of repairs: what counts as repaired, and that it resumes."""

import json

import bench_repair
import numpy as np
import pytest

pytestmark = pytest.mark.benchmarks


def row(level, after, best=0.9, changed=True, cost=0.5):
    repair = {"level": after, "changed": changed, "cost": cost}
    return {"draw": 100, "data": "a", "level": level, "best": best, "repairs": {"probe": repair}}


def test_the_table_counts_what_it_says():
    rows = [row(0.3, 0.88), row(0.3, 0.5), row(0.3, 0.2), row(0.88, 0.88, changed=False)]
    (line,) = bench_repair.summarise(rows)
    assert line["repaired"] == [1, 3]
    assert line["improved"] == [2, 3]
    assert line["harmed"] == [1, 4]
    assert line["well_changed"] == [0, 1]
    assert line["accuracy_after"] == pytest.approx(np.mean([0.88, 0.5, 0.2]))


def test_it_resumes_and_ignores_a_line_that_was_cut_off(tmp_path, monkeypatch, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps([row(0.3, 0.88)]) + '\n[{"draw": 1')
    monkeypatch.setattr(bench_repair, "available", lambda name, folder: "")
    monkeypatch.setattr(
        bench_repair, "measure_draw", lambda number, folder: [row(0.2, 0.9) | {"draw": number}]
    )
    assert bench_repair.main(["--work", str(path), "--draws", "2"]) == 0
    assert sorted(bench_repair.read(path)) == [100, 101]
    assert '"repaired": [2, 2]' in capsys.readouterr().out
