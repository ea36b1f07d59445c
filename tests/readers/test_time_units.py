"""Time stamps of any unit become the same seconds, and a unit that cannot be known is refused."""

import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import READERS, write_table

from sensorseq.errors import RecordingError
from sensorseq.prepare import prepare
from sensorseq.readers import join_sensors, read_csv, read_recordings
from sensorseq.readers.stamps import UNITS, odd_rates, seconds_of

EPOCH_S = int(datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC).timestamp())


def ticks_at(rate_hz, unit, *, start_s=0, n=200):
    return start_s * UNITS[unit] + np.arange(n) * UNITS[unit] // rate_hz


def write(path, stamps, name="time"):
    return write_table(path, {name: stamps, "a": np.arange(float(len(stamps)))})


each_format = pytest.mark.parametrize(
    ("file", "read"), [(f"one{suffix}", read) for suffix, read in READERS.items()], ids=READERS
)


@each_format
@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
@pytest.mark.parametrize("start_s", [0, EPOCH_S])
def test_whole_stamps_of_a_known_unit_are_the_same_seconds(tmp_path, file, read, unit, start_s):
    stamps = ticks_at(100, unit, start_s=start_s)
    for name, given_unit, how in (
        (f"stamp_{unit}", None, "name"),
        ("time", unit, "time_unit"),
        ("time", None, "data"),
    ):
        path = write(tmp_path / file, stamps, name)
        recording = read(path, time_column=name, time_unit=given_unit)
        np.testing.assert_array_equal(recording.timestamps_s, start_s + np.arange(200) / 100)
        assert recording.attributes["clock"] == {"column": name, "unit": unit, "unit_from": how}


@each_format
def test_nanoseconds_since_1970_keep_every_digit(tmp_path, file, read):
    stamps = EPOCH_S * 10**9 + np.arange(100) * 1_000_001 + 7
    recording = read(write(tmp_path / file, stamps, "t_ns"), time_column=None)
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(100) * 1_000_001 / 10**9)
    assert recording.attributes["clock"]["origin_ns"] == int(stamps[0])


@each_format
def test_seconds_with_fractions_stay_as_they_are(tmp_path, file, read):
    stamps = np.cumsum(np.random.default_rng(0).uniform(0.001, 3, 200))
    recording = read(write(tmp_path / file, stamps), time_column=None)
    np.testing.assert_array_equal(recording.timestamps_s, stamps)
    assert "clock" not in recording.attributes


@each_format
@pytest.mark.parametrize(
    ("rate_hz", "unit", "said"),
    [
        (1000, "ms", r"can be s \(1 Hz\) or ms \(1000 Hz\)"),
        (1, "s", r"can be s \(1 Hz\) or ms \(1000 Hz\)"),
        (10, "ms", r"can be ms \(10 Hz\) or us \(1e\+04 Hz\)"),
        (10_000, "us", r"can be ms \(10 Hz\) or us \(1e\+04 Hz\)"),
    ],
)
def test_a_unit_that_cannot_be_known_is_an_error_that_names_the_option(
    tmp_path, file, read, rate_hz, unit, said
):
    path = write(tmp_path / file, ticks_at(rate_hz, unit))
    with pytest.raises(RecordingError, match=f"{said}.*Give.* time_unit='{unit}'"):
        read(path, time_column="time")
    recording = read(path, time_column="time", time_unit=unit)
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(200) / rate_hz)


def test_a_date_decides_between_units(tmp_path):
    path = write(tmp_path / "one.csv", ticks_at(1000, "ms", start_s=EPOCH_S))
    assert read_csv(path, time_column="time").median_sample_rate_hz == pytest.approx(1000, rel=1e-3)
    path = write(tmp_path / "one.csv", ticks_at(1, "s", start_s=EPOCH_S))
    assert read_csv(path, time_column="time").median_sample_rate_hz == 1


@given(
    rate_hz=st.integers(21, 499),
    unit=st.sampled_from(["ms", "us", "ns"]),
    uptime_s=st.integers(0, 10**6),
    jitter=st.floats(0, 0.3),
)
def test_whole_stamps_of_usual_rates_are_never_mistaken(rate_hz, unit, uptime_s, jitter):
    steps = np.random.default_rng(1).uniform(1 - jitter, 1 + jitter, 400) / rate_hz
    stamps = np.rint((uptime_s + np.cumsum(steps)) * UNITS[unit]).astype(np.int64)
    try:
        found = seconds_of("file", "t", stamps).facts["unit"]
    except RecordingError:
        found = unit  # refused, not mistaken: a rate near the limits, rounded to whole steps
    assert found == unit


@pytest.mark.parametrize(
    "form",
    [
        "2026-03-01T12:00:{:06.3f}Z",
        "2026-03-01 12:00:{:09.6f}+00:00",
        "2026-03-01T13:00:{:06.3f}+01:00",
        "2026-03-01T12:00:{:06.3f}",
    ],
)
@each_format
def test_iso_dates_are_seconds_since_1970(tmp_path, file, read, form):
    path = write(tmp_path / file, [form.format(i / 100) for i in range(50)])
    recording = read(path, time_column=None)
    np.testing.assert_array_equal(recording.timestamps_s, EPOCH_S + np.arange(50) / 100)
    assert recording.attributes["clock"]["unit"] == "date"


def test_a_text_that_is_no_date_is_named_with_its_row(tmp_path):
    dates = ["2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z", "2026-03-01T12:00:02", "yesterday"]
    with pytest.raises(RecordingError, match=r"row 3, time column 'time': '2026-03-01T12:00:02'"):
        read_csv(write(tmp_path / "one.csv", dates), time_column="time")
    with pytest.raises(RecordingError, match="holds no numbers; time stamps are"):
        read_csv(write(tmp_path / "one.csv", ["12:00", "12:01"]), time_column="time")
    with pytest.raises(RecordingError, match="row 2: no time stamp"):
        read_csv(write(tmp_path / "one.csv", [dates[0], "", dates[1]]), time_column="time")
    with pytest.raises(RecordingError, match="too large to be times"):
        read_csv(write(tmp_path / "one.csv", [0, 2**63 - 1]), time_column="time")


def test_sensors_that_count_from_their_own_first_stamp_stay_aligned(tmp_path):
    start = EPOCH_S * 10**9 + 1
    paths = [
        write(tmp_path / f"{name}.csv", start + late + np.arange(100) * 10**7, "t_ns")
        for name, late in (("imu", 0), ("motor", 250_000_000))
    ]
    recordings = [read_csv(path, time_column=None) for path in paths]
    joined = join_sensors(recordings, ["imu", "motor"])
    assert joined.timestamps_s[0] == 0
    assert joined.timestamps_s[np.isfinite(joined.values[:, 1])][0] == 0.25
    assert joined.attributes["clock"]["origin_ns"] == start


def test_prepare_says_what_it_found_and_what_looks_wrong(tmp_path):
    for i in range(3):
        write(tmp_path / "in" / "a" / f"{i}.csv", ticks_at(100, "ms", n=1000))
        write(tmp_path / "in" / "b" / f"{i}.csv", np.arange(1000) / 100 + 0.003)
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1)
    said = "time column 'time' is in ms (found from its rate and date) in 3 recording(s)"
    assert said in str(summary)
    assert summary.odd_rates_hz == {}
    write(tmp_path / "in" / "b" / "slow.csv", np.arange(25) * 10 + 0.3)
    odd = {"max_gap_s": 60, "allow_scales": True}
    with pytest.raises(RecordingError, match=r"b/slow\.csv: its time stamps give 0\.1 Hz"):
        prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, max_gap_s=60)
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, **odd)
    assert summary.odd_rates_hz == {"b/slow": 0.1}
    # the option is for all, and is kept for prediction
    given_all = {"time_unit": "s", "sample_rate_hz": 9, **odd}
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, **given_all)
    assert set(summary.odd_rates_hz) == {"a/0", "a/1", "a/2", "b/slow"}
    (read,) = read_recordings(tmp_path / "in" / "b" / "0.csv", time_unit="ms")
    assert read.median_sample_rate_hz == pytest.approx(100_000)
    assert odd_rates({"fast": 1000.0, "other": 1100.0, "slow": 1.0, "none": None}) == {"slow": 1.0}
