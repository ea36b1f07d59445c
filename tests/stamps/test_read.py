"""Timestamps in any unit become the same seconds; an ambiguous unit is refused."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import READERS, write_table

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import join_sensors, read_csv, read_parquet, read_recordings
from sensorseq.readers.columns import find_clocks, without_counters
from sensorseq.stamps.dates import DateTexts
from sensorseq.stamps.names import unit_in_name, usual_time_names
from sensorseq.stamps.read import UNITS, seconds_of

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
def test_whole_number_stamps_in_a_known_unit_are_the_same_seconds(
    tmp_path, file, read, unit, start_s
):
    stamps = ticks_at(100, unit, start_s=start_s)
    for name, given_unit, how in (
        (f"stamp_{unit}", None, "name"),
        ("time", unit, "time_unit"),
        ("time", None, "data"),
    ):
        path = write(tmp_path / file, stamps, name)
        recording = read(path, ReadOptions(time_column=name, time_unit=given_unit))
        np.testing.assert_array_equal(recording.timestamps_s, start_s + np.arange(200) / 100)
        assert recording.attributes["clock"] == {"column": name, "unit": unit, "unit_from": how}


@each_format
def test_nanoseconds_since_1970_keep_every_digit(tmp_path, file, read):
    stamps = EPOCH_S * 10**9 + np.arange(100) * 1_000_001 + 7
    recording = read(write(tmp_path / file, stamps, "t_ns"), ReadOptions(time_column=None))
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(100) * 1_000_001 / 10**9)
    assert recording.attributes["clock"]["origin_ns"] == int(stamps[0])


@each_format
def test_seconds_with_fractions_are_not_changed(tmp_path, file, read):
    stamps = np.cumsum(np.random.default_rng(0).uniform(0.001, 3, 200))
    recording = read(write(tmp_path / file, stamps), ReadOptions(time_column=None))
    np.testing.assert_array_equal(recording.timestamps_s, stamps)
    assert "clock" not in recording.attributes


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_the_time_may_be_in_a_column_without_a_name(tmp_path, suffix, place):
    t, names = np.arange(200) / 50, ["Unnamed: 0", "a"]
    names.insert(place, "")
    table = {name: np.sin(t) if name == "a" else t if not name else t * 50 for name in names}
    path = write_table(tmp_path / f"one{suffix}", table)
    with pytest.raises(RecordingError, match=rf"\(columns: .*Unnamed: {place + 1}.* number\)"):
        READERS[suffix](path)
    for time_column in (f"{place + 1}", f"{place - 3}", f"Unnamed: {place + 1}"):
        (recording,) = read_recordings(path, time_column=time_column)
        np.testing.assert_array_equal(recording.timestamps_s, t)
        assert without_counters(recording).channel_names == ("a",)


@each_format
@pytest.mark.parametrize(
    ("rate_hz", "unit", "said"),
    [
        (1000, "ms", r"can be in s \(1 Hz\) or ms \(1000 Hz\)"),
        (1, "s", r"can be in s \(1 Hz\) or ms \(1000 Hz\)"),
        (10, "ms", r"can be in ms \(10 Hz\) or us \(1e\+04 Hz\)"),
        (10_000, "us", r"can be in ms \(10 Hz\) or us \(1e\+04 Hz\)"),
    ],
)
def test_a_unit_that_cannot_be_known_is_an_error_that_names_the_option(
    tmp_path, file, read, rate_hz, unit, said
):
    path = write(tmp_path / file, ticks_at(rate_hz, unit))
    with pytest.raises(RecordingError, match=f"{said}.*Give.* time_unit='{unit}'"):
        read(path, ReadOptions(time_column="time"))
    recording = read(path, ReadOptions(time_column="time", time_unit=unit))
    np.testing.assert_array_equal(recording.timestamps_s, np.arange(200) / rate_hz)


@each_format
@pytest.mark.parametrize("first", [0, 1])
def test_a_column_that_counts_the_rows_is_refused_with_a_remedy(tmp_path, file, read, first):
    rows = first + np.arange(400)
    with pytest.raises(RecordingError, match=r"if the column counts rows .*, rename it"):
        read(write(tmp_path / file, rows))
    path = write_table(tmp_path / file, {"index": rows, "a": np.sin(rows)})
    (recording,) = read_recordings(path, sample_rate_hz=100)
    assert without_counters(recording).channel_names == ("a",)
    assert recording.median_sample_rate_hz == 100


@each_format
@pytest.mark.parametrize("per_s", [10_000, 32_768])
def test_a_column_of_other_ticks_is_refused_with_a_remedy(tmp_path, file, read, per_s):
    ticks = 123_457 + np.arange(200) * per_s // 50
    path = write(tmp_path / file, ticks, "clk")
    with pytest.raises(RecordingError, match=r"other ticks, leave out `time_column`"):
        read(path, ReadOptions(time_column="clk"))
    (recording,) = read_recordings(path, channels="a", sample_rate_hz=50)
    np.testing.assert_allclose(recording.timestamps_s, np.arange(200) / 50)


@each_format
def test_only_a_column_that_increases_is_an_index(tmp_path, file, read):
    rows = np.arange(400)
    columns = {"time": rows / 100, "frame": rows, "battery": 10_000 - rows, "a": np.sin(rows)}
    (recording,) = read_recordings(write_table(tmp_path / file, columns))
    assert set(without_counters(recording).channel_names) == {"battery", "a"}


def test_a_date_decides_between_units(tmp_path):
    path = write(tmp_path / "one.csv", ticks_at(1000, "ms", start_s=EPOCH_S))
    assert read_csv(path, ReadOptions(time_column="time")).median_sample_rate_hz == pytest.approx(
        1000, rel=1e-3
    )
    path = write(tmp_path / "one.csv", ticks_at(1, "s", start_s=EPOCH_S))
    assert read_csv(path, ReadOptions(time_column="time")).median_sample_rate_hz == 1


@pytest.mark.parametrize(
    ("start", "step_s"), [(45352.1, 5), (739312.1, 60), (2460370.6, 300), (19783.3, 2)]
)
def test_times_in_days_are_doubtful_until_the_unit_is_given(start, step_s):
    days = np.round(start + np.arange(200) * step_s / 86_400, 9)
    with pytest.raises(RecordingError, match=f"in days one row every {step_s} s.*time_unit='s'"):
        seconds_of("file", "time", days)
    for known in ({"time_unit": "s"}, {"stored_unit": "s"}):
        np.testing.assert_array_equal(seconds_of("file", "time", days, **known).seconds, days)


@pytest.mark.parametrize("rate_hz", [24, 25.6, 50, 59.94, 60, 100, 125, 128, 200, 250, 256])
@pytest.mark.parametrize("factor", [1, 4, 16, 40])
@pytest.mark.parametrize("start", [100.5, 45352.1, 739312.1])
def test_seconds_that_could_be_dates_in_days_are_seconds(start, rate_hz, factor):
    t = start + np.arange(2000) / (rate_hz * factor)
    np.testing.assert_array_equal(seconds_of("file", "time", t).seconds, t)


@given(
    rate_hz=st.integers(21, 499),
    unit=st.sampled_from(["ms", "us", "ns"]),
    uptime_s=st.integers(0, 10**6),
    jitter=st.floats(0, 0.3),
)
def test_whole_number_stamps_at_usual_rates_are_never_mistaken(rate_hz, unit, uptime_s, jitter):
    steps = np.random.default_rng(1).uniform(1 - jitter, 1 + jitter, 400) / rate_hz
    stamps = np.rint((uptime_s + np.cumsum(steps)) * UNITS[unit]).astype(np.int64)
    try:
        found = seconds_of("file", "t", stamps).facts["unit"]
    except RecordingError:
        found = unit  # rounding may move a rate near the limits out of the range
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
    recording = read(path, ReadOptions(time_column=None))
    np.testing.assert_array_equal(recording.timestamps_s, EPOCH_S + np.arange(50) / 100)
    assert recording.attributes["clock"]["unit"] == "date"


def test_a_string_that_is_not_a_date_is_named_with_its_row(tmp_path):
    dates = ["2026-03-01T12:00:00Z", "2026-03-01T12:00:01Z", "2026-03-01T12:00:02", "yesterday"]
    with pytest.raises(RecordingError, match=r"row 3, time column 'time': '2026-03-01T12:00:02'"):
        read_csv(write(tmp_path / "one.csv", dates), ReadOptions(time_column="time"))
    with pytest.raises(RecordingError, match="has no numbers; timestamps must be"):
        read_csv(write(tmp_path / "one.csv", ["12:00", "12:01"]), ReadOptions(time_column="time"))
    with pytest.raises(RecordingError, match="row 2: no timestamp"):
        read_csv(
            write(tmp_path / "one.csv", [dates[0], "", dates[1]]), ReadOptions(time_column="time")
        )
    with pytest.raises(RecordingError, match="too large to be times"):
        read_csv(write(tmp_path / "one.csv", [0, 2**63 - 1]), ReadOptions(time_column="time"))


PARTS = {  # names and nanoseconds of the parts of a time
    "ros": {"stamp.secs": 10**9, "stamp.nsecs": 1},
    "capture": {"tv_sec": 10**9, "tv_usec": 1000},
    "phone": {"TIME_STAMP_s": 10**9, "TIME_STAMP_ms": 10**6},
    "watch": {"hour": 3600 * 10**9, "minute": 60 * 10**9, "second": 10**9, "ms": 10**6},
}


def table_of_parts(parts, ticks):
    largest = [None, *parts.values()]
    columns = {
        name: (ticks if larger is None else ticks % larger) // ns
        for (name, ns), larger in zip(parts.items(), largest, strict=False)
    }
    return columns | {"a": np.arange(float(len(ticks)))}


@each_format
@pytest.mark.parametrize("kind", PARTS)
@pytest.mark.parametrize("rate_hz", [2, 50])
def test_a_time_whose_parts_are_in_several_columns_is_joined(tmp_path, file, read, kind, rate_hz):
    start_s = EPOCH_S + 43_198  # two seconds before midnight
    columns = table_of_parts(PARTS[kind], start_s * 10**9 + np.arange(200) * 10**9 // rate_hz)
    if kind == "watch":
        columns["hour"] %= 24
        start_s = 86_398
    path = write_table(tmp_path / file, columns)
    for name in PARTS[kind]:
        recording = read(path, ReadOptions(time_column=name))
        np.testing.assert_array_equal(recording.timestamps_s, start_s + np.arange(200) / rate_hz)
        assert recording.channel_names == ("a",)


def test_columns_with_units_in_their_names_are_not_always_parts_of_one_time(tmp_path):
    t, a = np.arange(200) / 50, np.arange(200.0)
    for other in (1000 * t, 20 + np.sin(a), t % 1 * 1000):  # another unit, periods, other seconds
        path = write_table(tmp_path / "one.csv", {"time_s": t, "time_ms": other, "a": a})
        recording = read_csv(path)
        np.testing.assert_array_equal(recording.timestamps_s, t)
        assert recording.channel_names == ("time_ms", "a")
    with pytest.raises(RecordingError, match="has no column time or time_s"):
        read_csv(write_table(tmp_path / "one.csv", {"lat_min": 0 * a, "lat_s": a / 9, "y": a}))


def test_a_part_of_the_time_does_not_name_sensors_or_recordings(tmp_path):
    ticks = EPOCH_S * 10**9 + np.arange(200) * 10**9 // 50
    write_table(tmp_path / "ice/one.csv", table_of_parts(PARTS["ros"], ticks))
    with pytest.raises(RecordingError, match=r"does not name sensors; together, stamp\.secs and"):
        read_recordings(tmp_path, time_column="stamp.nsecs", sensor_column="stamp.secs")


CLOCK = datetime.datetime(2026, 3, 1, 23, 59, 58)


def clock_texts(form, n=200, start=CLOCK):
    return [(start + datetime.timedelta(milliseconds=20 * i)).strftime(form) for i in range(n)]


@each_format
@pytest.mark.parametrize("day", ["%d.%m.%Y", "%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y", "%Y%m%d"])
def test_a_date_and_a_time_of_day_are_joined(tmp_path, file, read, day):
    columns = {"Date": clock_texts(day), "Time": clock_texts("%H:%M:%S.%f"), "a": np.arange(200.0)}
    path = write_table(tmp_path / file, columns)
    start_s = CLOCK.replace(tzinfo=datetime.UTC).timestamp()
    for name in (None, "Date", "Time"):
        recording = read(path, ReadOptions(time_column=name))
        np.testing.assert_allclose(recording.timestamps_s, start_s + np.arange(200) / 50)
        assert recording.channel_names == ("a",)
        assert "dropped_columns" not in recording.attributes


@each_format
@pytest.mark.parametrize("form", ["%H:%M:%S.%f", "%I:%M:%S.%f %p", "%H:%M:%S:%f"])
def test_times_of_day_continue_after_midnight(tmp_path, file, read, form):
    for start, start_s in ((CLOCK, 86_398), (CLOCK.replace(hour=12), 46_798)):
        path = write(tmp_path / file, clock_texts(form, start=start))
        recording = read(path, ReadOptions(time_column=None))
        np.testing.assert_allclose(recording.timestamps_s, start_s + np.arange(200) / 50)
        assert recording.attributes["clock"]["unit"] == "time of day"


def test_times_of_day_that_arrive_in_blocks_continue_after_midnight(tmp_path):
    texts = pa.array(clock_texts("%H:%M:%S.%f"))
    dates = DateTexts(tmp_path, "time")
    ticks = [dates.ticks(texts[at : at + 30]) for at in range(0, 200, 30)]
    assert set(np.diff(np.concatenate(ticks)).astype(int)) == {20_000_000}


def test_typed_dates_and_times_of_day_are_joined(tmp_path):
    rows = [CLOCK + datetime.timedelta(milliseconds=20 * i) for i in range(200)]
    columns = {"date": [r.date() for r in rows], "time": [r.time() for r in rows]}
    path = write_table(tmp_path / "one.parquet", columns | {"a": np.arange(200.0)})
    np.testing.assert_allclose(np.diff(read_parquet(path).timestamps_s), 0.02, atol=1e-6)


def test_dates_whose_month_is_unknown_are_refused_unless_there_is_only_one(tmp_path):
    noon = datetime.datetime(2026, 3, 4, 12)
    times, a = clock_texts("%H:%M:%S.%f", start=noon), np.arange(200.0)
    path = tmp_path / "one.csv"
    for later, n_days in ((noon, 1), (noon.replace(month=4), 2)):
        dates = clock_texts("%m/%d/%Y", 100, noon) + clock_texts("%m/%d/%Y", 100, later)
        write_table(path, {"Date": dates, "Time": times, "a": a})
        if n_days == 1:
            assert read_csv(path).timestamps_s[0] == 43_200
        else:
            with pytest.raises(RecordingError, match="either number in '03/04/2026' in column"):
                read_csv(path)


def test_sensors_that_count_from_their_own_first_stamp_stay_aligned(tmp_path):
    start = EPOCH_S * 10**9 + 1
    paths = [
        write(tmp_path / f"{name}.csv", start + late + np.arange(100) * 10**7, "t_ns")
        for name, late in (("imu", 0), ("motor", 250_000_000))
    ]
    recordings = [read_csv(path, ReadOptions(time_column=None)) for path in paths]
    joined = join_sensors(recordings, ["imu", "motor"])
    assert joined.timestamps_s[0] == 0
    assert joined.timestamps_s[np.isfinite(joined.values[:, 1])][0] == 0.25
    assert joined.attributes["clock"]["origin_ns"] == start


def test_the_unit_of_short_recordings_is_found_from_their_rate(tmp_path):
    jitter = np.random.default_rng(0).integers(-3, 4, 25)
    write(tmp_path / "short.csv", 393_221 + 40 * np.arange(25) + jitter)
    (read,) = read_recordings(tmp_path / "short.csv")
    assert read.median_sample_rate_hz == pytest.approx(25, rel=0.05)
    assert read.attributes["clock"]["unit"] == "ms"


def test_prepare_reports_what_it_found_and_what_looks_wrong(tmp_path):
    for i in range(3):
        write(tmp_path / "in" / "a" / f"{i}.csv", ticks_at(100, "ms", n=1000))
        write(tmp_path / "in" / "b" / f"{i}.csv", np.arange(1000) / 100 + 0.003)
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1)
    said = "time column 'time' is in ms (found from its rate and date) in 3 recordings"
    assert said in " ".join(str(summary).split())
    assert summary.odd_rates_hz == {}
    write(tmp_path / "in" / "b" / "slow.csv", np.arange(9) * 10 + 0.3)
    odd = {"max_gap_s": 60, "allow_scales": True}
    with pytest.raises(RecordingError, match=r"b/slow\.csv: its timestamps give 0\.1 Hz"):
        prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, max_gap_s=60)
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, **odd)
    assert summary.odd_rates_hz == {"b/slow": 0.1}
    # `time_unit` applies to all files, so all of them have odd rates
    given_all = {"time_unit": "s", "sample_rate_hz": 9, **odd}
    summary = prepare(tmp_path / "in", tmp_path / "out.h5", window_s=1, **given_all)
    assert set(summary.odd_rates_hz) == {"a/0", "a/1", "a/2", "b/slow"}
    (read,) = read_recordings(tmp_path / "in" / "b" / "0.csv", time_unit="ms")
    assert read.median_sample_rate_hz == pytest.approx(100_000)


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        ("s", "time_s|seconds_elapsed|Time (s)|Time, sec|Time/s|tS|time (in s)|Time (s, UTC)|secs"),
        ("ms", "timeMs|Time (milliseconds)|TIME_MSEC|timestampMS|millis()|runMs|Time [ms]|timems"),
        ("ms", "timestamp_ms_utc|milliseconds since start|msSinceBoot|MilliSeconds|Zeit (ms)|mSec"),
        ("us", "TimeUS|time_usec|t µs|Time (\u03bcs)|micros|time_uSec|imu2_time_us|Microseconds"),
        ("ns", "t_ns|Time(ns)|nanoseconds|epoch_nanos|unixNano|#timestamp [ns]|stamp.nsec"),
        ("", "time|ts|times|timestamps|t|status|radius|time[0]|data[1]|Time (UTC)|header.stamp"),
        ("", "SampleTimeFine|time (GPS)|columns|uptime"),
    ],
)
def test_units_in_names_are_read_as_people_write_them(unit, names):
    assert {name: unit_in_name(name) for name in names.split("|")} == dict.fromkeys(
        names.split("|"), unit
    )


@pytest.mark.parametrize(
    "name",
    [
        *("Time (min)", "elapsed-minutes", "timeHours", "time_ticks", "time (0.1 ms)"),
        *("time_100ns", "Time [jiffies]", "t / 10us", "time (hh:mm:ss)"),
    ],
)
def test_an_unknown_unit_in_a_name_is_refused_and_never_read_as_seconds(tmp_path, name):
    path = write(tmp_path / "one.csv", np.arange(100) / 100, name)
    with pytest.raises(RecordingError, match=r"not a unit of timestamps.*give time_unit"):
        read_csv(path, ReadOptions(time_column=name))
    assert read_csv(
        path, ReadOptions(time_column=name, time_unit="s")
    ).median_sample_rate_hz == pytest.approx(100)


@each_format
@pytest.mark.parametrize("name", ["timeMs", "Time (milliseconds)", "TIME_MSEC"])
def test_fractions_in_a_named_unit_have_the_right_rate_and_the_column_is_found(
    tmp_path, file, read, name
):
    recording = read(
        write(tmp_path / file, np.arange(3000) / 2, name), ReadOptions(time_column=None)
    )
    assert recording.median_sample_rate_hz == pytest.approx(2000)
    assert recording.duration_s == pytest.approx(1.4995)


def test_a_plain_name_of_time_is_preferred_to_one_with_a_long_unit():
    assert usual_time_names(["timestamp", "time_sec"]) == ["timestamp"]
    assert usual_time_names(["Time (milliseconds)", "t_min"]) == ["Time (milliseconds)"]
    assert find_clocks(["log.timeMs", "x"], None, ".") == ["log.timeMs"]


def in_digits(rate_hz, digits, n=3000):
    start = np.datetime64("2024-03-01T23:59:30")
    dates = start + (np.arange(n) * 10**9 // rate_hz).astype("m8[ns]")
    return [int("".join(c for c in str(date) if c.isdigit())[:digits]) for date in dates]


@each_format
@pytest.mark.parametrize(("digits", "rate_hz"), [(14, 1), (16, 50), (17, 50), (17, 1000), (18, 50)])
def test_dates_in_digits_are_read_without_gaps_at_midnight(tmp_path, file, read, digits, rate_hz):
    recording = read(
        write(tmp_path / file, in_digits(rate_hz, digits)), ReadOptions(time_column="time")
    )
    np.testing.assert_allclose(np.diff(recording.timestamps_s), 1 / rate_hz, atol=1e-6)
    assert recording.attributes["clock"]["unit"] == "date"
    assert recording.timestamps_s[0] == 1709337570
    few = read(
        write(tmp_path / file, in_digits(rate_hz, digits, 5)), ReadOptions(time_column="time")
    )
    assert few.duration_s == pytest.approx(4 / rate_hz, abs=1e-6)


def test_dates_that_lost_digits_and_times_of_day_are_refused(tmp_path):
    dates = np.array(in_digits(50, 17), float)
    with pytest.raises(RecordingError, match="dates in digits, stored as floats"):
        seconds_of(tmp_path, "time", dates)
    with pytest.raises(RecordingError, match="dates in digits, stored as floats"):
        seconds_of(tmp_path, "time", np.array(in_digits(50, 17)) / 1000)
    for digits, per in ((9, 1), (9, 1000), (6, 1)):
        times = np.array(in_digits(50, 17)) % 10**9 // 10 ** (9 - digits) / per
        with pytest.raises(RecordingError, match=r"are times of day in digits.*time_unit"):
            seconds_of(tmp_path, "time", times)
        seconds_of(tmp_path, "time", times, "s")
    # counts of nanoseconds, and plain seconds and milliseconds, are not dates
    counts = seconds_of(tmp_path, "time", 20240301115840 + np.arange(3000) * 10**7)
    assert counts.facts["unit"] == "ns"
    for rate_hz, per_s in ((10, 1000), (20, 1000), (50, 1), (20, 1)):
        ticks = np.arange(55) * per_s / rate_hz
        seconds_of(tmp_path, "time", ticks, None if per_s == 1 else "ms")


@pytest.mark.parametrize(
    ("name", "stamps", "said"),
    [
        ("time_s", EPOCH_S * 1000 + np.arange(99) * 20, r"0\.05 Hz .* in ms 50 Hz in 2026"),
        ("time_s", EPOCH_S * 1000 + np.arange(99), r"1 Hz after the year 2100, in ms 1000 Hz"),
        ("time_s", np.arange(99) * 200, r"0\.005 Hz, in ms 5 Hz, .*Use time_unit='ms', or"),
        ("time_s", np.arange(99) * 1e-5, r"1e\+05 Hz\. Convert them to seconds, or use"),
        ("time_us", np.arange(99) * 10, r"In us, the unit in its name, that is 1e\+05 Hz, in ms"),
        ("t_ns", np.arange(99) * 5, r"In ns, the unit in its name, that is 2e\+08 Hz"),
        ("time_ms", EPOCH_S + np.arange(99) * 0.02, r"5e\+04 Hz, in s 50 Hz in 2026"),
        ("time", EPOCH_S + np.arange(99) * 20, r"In ms, that is 50 Hz, in s 0\.05 Hz in 2026"),
        ("time", 45352.4 + np.arange(99) * 2.3e-7, r"4\.348e\+06 Hz, in days .* 0.0199 s\. Conv"),
        ("time", (EPOCH_S * 1000 + np.arange(99) * 20).astype("M8[ns]"), r"5e\+07 Hz\. Were they"),
    ],
)
def test_a_unit_is_refused_if_rate_or_date_contradicts_it(tmp_path, name, stamps, said):
    with pytest.raises(RecordingError, match=said + ".*time_unit='"):
        seconds_of(tmp_path, name, stamps)
    for unit in UNITS:
        assert len(seconds_of(tmp_path, name, stamps, unit).seconds) == 99


@pytest.mark.parametrize(
    ("name", "stamps", "rate_hz"),
    [
        ("time_s", np.arange(99) * 20, 0.05),  # a slow log, read in the unit that the name contains
        ("time_ms", 2 * 10**9 + np.arange(99), 1000),  # a clock that has been running for 23 days
        ("time", EPOCH_S + np.arange(9900) / 100, 100),
        ("time", np.repeat(np.arange(400) * 0.2, 5) + np.tile(np.arange(5) * 1e-5, 400), 25),
        ("time", np.r_[np.arange(99), 3e5 + np.arange(99)] / 100, None),  # a gap of days
        ("t_us", np.arange(99) * 25, 40_000),
        # Stamps from two clocks.
        ("time", (np.arange(3000) // 2) * 0.01 - np.arange(3000) % 2 * 50, None),
    ],
    ids=["slow", "uptime", "epoch", "bursts", "gap", "fast", "turns"],
)
def test_a_plausible_clock_is_not_refused(tmp_path, name, stamps, rate_hz):
    seconds = seconds_of(tmp_path, name, stamps).seconds
    if rate_hz is not None:
        assert (len(seconds) - 1) / np.ptp(seconds) == pytest.approx(rate_hz, rel=0.01)


@each_format
@pytest.mark.parametrize("length", [4, 16, 100, 1000])
def test_a_counter_that_begins_again_is_no_channel_whatever_its_length(
    tmp_path, file, read, length
):
    rows = np.random.default_rng(0).random(3000) > 0.03  # lost packets
    count = (1 + (7 + np.arange(3000)) % length)[rows]
    columns = {"time": np.flatnonzero(rows) / 250, "n": count, "a": np.sin(np.arange(3000))[rows]}
    (recording,) = read_recordings(write_table(tmp_path / file, columns))
    kept = without_counters(recording)
    assert kept.channel_names == ("a",)
    assert kept.attributes["counters"] == ["n"]


@pytest.mark.parametrize("kind", ["bit", "gear", "triangle", "ramp", "angle", "halves", "noise"])
def test_whole_numbers_that_do_not_count_the_rows_are_a_channel(tmp_path, kind):
    n, rng = np.arange(3000), np.random.default_rng(0)
    columns = {
        "bit": n % 2,
        "gear": n // 40 % 6,
        "triangle": np.abs(n % 100 - 50),
        "ramp": np.minimum(n % 200, 100),
        "angle": 7 * n % 360,
        "halves": n % 16 / 2,
        "noise": rng.integers(0, 16, 3000),
    }
    table = {"time": n / 250, kind: columns[kind], "a": np.sin(n)}
    (recording,) = read_recordings(write_table(tmp_path / "a.csv", table))
    assert without_counters(recording).channel_names == (kind, "a")
