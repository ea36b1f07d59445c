"""The same rows with stamps from 0, with dates, or in any unit since 1970 give the same windows."""

from fractions import Fraction

import numpy as np
import pytest
from tables import READERS, write_table

from sensorseq import PreparePipeline, Recording
from sensorseq.options import ReadOptions
from sensorseq.recording import LabelSpan
from sensorseq.stamps.names import UNITS

START_S = 1_709_283_600  # a day in 2024, as seconds since 1970
EXACT = [2, 25, 50, 64, 125]
"""Rates in Hz whose stamps are exact in whole microseconds."""
OTHER = [3, 6.5, 333]
SECONDS, LABEL_S = 16, 4


def ticks(rate_hz, unit, start_s):
    per_tick = Fraction(UNITS[unit]) / Fraction(rate_hz)
    n_samples = int(SECONDS * rate_hz)
    return np.array([start_s * UNITS[unit] + round(k * per_tick) for k in range(n_samples)])


def decimal(stamps):
    """Return whole microseconds as decimal seconds."""
    return [f"{stamp // 10**6}.{stamp % 10**6:06d}" for stamp in stamps.tolist()]


KINDS = {
    "since 1970 in s": lambda rate: ("time", decimal(ticks(rate, "us", START_S))),
    "since 1970 in ms": lambda rate: ("time_ms", ticks(rate, "ms", START_S)),
    "since 1970 in us": lambda rate: ("time_us", ticks(rate, "us", START_S)),
    "since 1970 in ns": lambda rate: ("time_ns", ticks(rate, "ns", START_S)),
    "dates": lambda rate: ("time", ticks(rate, "us", START_S).astype("M8[us]").astype(str)),
    "from 0 in ms": lambda rate: ("time_ms", ticks(rate, "ms", 0)),
}


def rows_of(rate_hz):
    n_samples = int(SECONDS * rate_hz)
    x = np.random.default_rng(n_samples).normal(size=n_samples)
    labels = np.array(["rest", "fist"])[(np.arange(n_samples) / rate_hz // LABEL_S).astype(int) % 2]
    return x, labels


def windows_of(path, name, stamps, rate_hz, **options):
    x, labels = rows_of(rate_hz)
    write_table(path, {name: stamps, "a": x, "gesture": labels.tolist()})
    recording = READERS[path.suffix](path, ReadOptions(time_column=name, label_column="gesture"))
    made = PreparePipeline(window_s=1.0, split=(1, 0, 0), **options).prepare([recording])
    return made, np.asarray(made.start_s) - recording.timestamps_s[0]


def assert_same(made, expected, *, bits):
    (windows, starts_s), (other, other_starts_s) = made, expected
    assert windows.sample_rate_hz == pytest.approx(other.sample_rate_hz, rel=0 if bits else 1e-3)
    np.testing.assert_array_equal(windows.y, other.y)
    np.testing.assert_allclose(starts_s, other_starts_s, rtol=0, atol=1e-6 if bits else 1e-3)
    assert windows.X.shape == other.X.shape
    if bits:
        np.testing.assert_array_equal(windows.X, other.X)


@pytest.mark.parametrize(
    ("rate_hz", "options"),
    [
        *((rate_hz, {}) for rate_hz in EXACT + OTHER),
        *((rate_hz, {"sample_rate_hz": 33.0}) for rate_hz in (50, 120)),
        (50, {"hop_s": 0.3}),
    ],
    ids=str,
)
def test_windows_are_those_of_stamps_from_0_to_the_bit_if_the_unit_is_fine_enough(
    tmp_path, rate_hz, options
):
    from_0 = "time", decimal(ticks(rate_hz, "us", 0))
    expected = windows_of(tmp_path / "one.csv", *from_0, rate_hz, **options)
    assert options or len(expected[0].y) == SECONDS
    if rate_hz in EXACT and not options:
        assert expected[0].X.shape == (SECONDS, rate_hz, 1)
        np.testing.assert_array_equal(expected[1], np.arange(SECONDS))
    for kind, stamps in KINDS.items():
        made = windows_of(tmp_path / "one.csv", *stamps(rate_hz), rate_hz, **options)
        is_exact = rate_hz in EXACT and (not kind.endswith(" ms") or 1000 % rate_hz == 0)
        assert_same(made, expected, bits=is_exact)


@pytest.mark.parametrize("suffix", [".parquet", ".h5"])
def test_windows_are_also_the_same_from_typed_columns(tmp_path, suffix):
    rate_hz = 50
    from_0 = "time", ticks(rate_hz, "us", 0) / 1e6
    expected = windows_of(tmp_path / f"one{suffix}", *from_0, rate_hz)
    assert expected[0].X.shape == (SECONDS, rate_hz, 1)
    kinds = {
        "seconds": ("time", ticks(rate_hz, "us", START_S) / 1e6),
        "ms": ("time_ms", ticks(rate_hz, "ms", START_S)),
        "dates": ("time", ticks(rate_hz, "us", START_S).astype("M8[us]").astype(str).tolist()),
    }
    if suffix == ".parquet":
        for unit in ("ms", "us", "ns"):
            kinds[f"typed {unit}"] = ("time", ticks(rate_hz, unit, START_S).astype(f"M8[{unit}]"))
    for name, stamps in kinds.values():
        made = windows_of(tmp_path / f"one{suffix}", name, stamps, rate_hz)
        assert_same(made, expected, bits=True)


def test_label_spans_of_recordings_made_in_memory_keep_their_ends():
    """Trials of 2 s and windows of 2 s: no window has samples of two trials."""
    x = np.random.default_rng(0).normal(size=(2000, 1))
    made = []
    for start_s in (0.0, START_S + 0.4):
        spans = [
            LabelSpan(start_s + 2 * k, start_s + 2 * k + 2, ("rest", "fist")[k % 2])
            for k in range(20)
        ]
        stamps = start_s + np.arange(2000) / 50
        recording = Recording(x, stamps, ("a",), "one", label_spans=spans)
        windows = PreparePipeline(window_s=2.0, split=(1, 0, 0)).prepare([recording])
        np.testing.assert_allclose(windows.start_s - start_s, 2 * np.arange(20), atol=1e-6)
        assert windows.y.tolist() == ["rest", "fist"] * 10
        made.append(windows)
    np.testing.assert_array_equal(made[0].X, made[1].X)
