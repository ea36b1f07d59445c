"""The benchmark of `prepare`: what its sides read and write, and how they are timed."""

import bench_prepare
import numpy as np
import pytest

from sensorseq.readers import read_recordings

pytestmark = pytest.mark.benchmarks


@pytest.mark.parametrize("kind", ["CSV/a/x.csv", "Parquet/a/x.parquet", "gzipped HDF5/a/x.h5"])
def test_every_format_holds_the_same_recording(tmp_path, kind):
    table = bench_prepare.make_table(3, 100.0, 2.0)
    bench_prepare.write_table(table, tmp_path / kind)
    bench_prepare.read_only([tmp_path / kind])
    (recording,) = read_recordings(tmp_path / kind)
    expected = np.column_stack([table[f"ch{i}"] for i in range(4)])
    np.testing.assert_array_equal(recording.values, expected)


def test_sides_take_turns_and_the_first_round_is_not_counted():
    calls, clock = [], iter(np.cumsum([0, 9, 9, 1, 9, 2, 9, 3, 9, 4]))
    times = bench_prepare.in_turns(
        lambda: calls.append("theirs"), lambda: calls.append("ours"), 2, lambda: next(clock)
    )
    assert calls == ["theirs", "ours"] * 3
    np.testing.assert_array_equal(times, [[1, 3], [2, 4]])


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
        "start",
    ):
        assert f"\n{what} " in shown
    assert "24 small recordings" in shown
