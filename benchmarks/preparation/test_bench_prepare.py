"""Tests of the `prepare` benchmark: the files that its sides read and write, and their timing."""

import bench_prepare
import numpy as np
import pytest

from sensorseq.readers import read_recordings

pytestmark = pytest.mark.benchmarks


@pytest.mark.parametrize("kind", ["CSV/a/x.csv", "Parquet/a/x.parquet", "gzipped HDF5/a/x.h5"])
def test_every_format_contains_the_same_recording(tmp_path, kind):
    table = bench_prepare.make_table(3, 100.0, 2.0)
    bench_prepare.write_table(table, tmp_path / kind)
    bench_prepare.read_only([tmp_path / kind])
    (recording,) = read_recordings(tmp_path / kind)
    expected = np.column_stack([table[f"ch{i}"] for i in range(4)])
    np.testing.assert_array_equal(recording.values, expected)


def test_a_small_run_has_all_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bench_prepare.py", "--quick"])
    bench_prepare.main()
    shown = capsys.readouterr().out
    for what in (
        "CSV",
        "CSV, rate unknown",
        "Parquet",
        "gzipped HDF5",
        "two processes, small",
        "command, CSV, rate unknown",
        "start",
    ):
        assert f"\n{what} " in shown
    assert "24 small recordings" in shown
