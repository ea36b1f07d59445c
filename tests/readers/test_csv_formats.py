"""Any encoding, separator and decimal mark of a CSV file gives the same recording."""

import gzip

import numpy as np
import pytest
from tables import write_table

from sensorseq import read_recordings
from sensorseq.cli import run
from sensorseq.errors import ArgumentError, RecordingError
from sensorseq.io.prepared import read_windows
from sensorseq.prediction.live import SampleParser
from sensorseq.readers import ReadOptions, find_recordings, read_source_rate
from sensorseq.readers.columns import read_timestamps
from sensorseq.readers.csv import CsvTable, read_csv

NAMES = ("Zeit", "Strom µA", "Geschwindigkeit", "Untergrund")
VALUES = [(0.0, 1.5, -2.0, "Kies"), (0.05, -0.25, 3e-3, "Kies"), (0.1, 1e3, 0.125, "Öl")]
FORMS = [
    ({}, "utf-8", ",", "."),
    ({}, "utf-8-sig", ",", "."),
    ({}, "utf-16", ",", "."),  # the text begins with a byte order mark
    ({"encoding": "latin-1"}, "latin-1", ",", "."),
    ({"encoding": "cp1252", "delimiter": ";"}, "cp1252", ";", "."),
    ({"encoding": "utf-16-le"}, "utf-16-le", ",", "."),
    ({"encoding": "UTF8"}, "utf-8-sig", ",", "."),
    ({"delimiter": "tab"}, "utf-8", "\t", "."),
    ({"delimiter": "\t"}, "utf-8", "\t", "."),
    ({"delimiter": "\\t", "decimal": ","}, "utf-8", "\t", ","),
    ({"delimiter": "|"}, "utf-8", "|", "."),
    ({"decimal": ","}, "utf-8", ";", ","),
    ({"decimal": ",", "encoding": "latin-1"}, "latin-1", ";", ","),
    ({"decimal": ",", "delimiter": ";"}, "utf-16", ";", ","),
]


def table(values=VALUES, names=NAMES, separator=",", decimal="."):
    rows = [[str(field).replace(".", decimal) for field in row] for row in values]
    return "\n".join(separator.join(row) for row in [names, *rows]) + "\n"


def write(path, text, encoding):
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize(("form", "encoding", "separator", "decimal"), FORMS)
def test_every_form_gives_the_same_recording(
    form, encoding, separator, decimal, name, stored, tmp_path, monkeypatch
):
    text = table(separator=separator, decimal=decimal)
    path = write(tmp_path / name, text, encoding)
    if stored:
        monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 1)
    at = tmp_path if stored else None
    given = {"time_column": "Zeit", "label_column": "Untergrund", "scratch": at}
    recording = read_csv(path, ReadOptions(**given, **form))
    assert recording.channel_names == NAMES[1:3]
    np.testing.assert_array_equal(recording.values, [row[1:3] for row in VALUES])
    np.testing.assert_array_equal(recording.timestamps_s, [row[0] for row in VALUES])
    assert [span.label for span in recording.label_spans] == ["Kies", "Öl"]
    del given["label_column"]
    options = ReadOptions(time_column="Zeit", scratch=at, **form)
    stamps = read_timestamps(CsvTable, path, options)
    np.testing.assert_array_equal(stamps, recording.timestamps_s)
    plain = read_csv(path, ReadOptions(**given, **form))  # also has a column of words
    np.testing.assert_array_equal(plain.values, recording.values)
    assert plain.attributes["dropped_columns"] == ["Untergrund"]


@pytest.mark.parametrize(
    ("text", "encoding", "form", "message"),
    [
        (table(separator=";"), "utf-8", {}, r"separated by ';'. Use delimiter=';'; if numbers"),
        (table(separator="\t"), "utf-8", {}, r"separated by 'tab'. Use delimiter='tab'"),
        (table(separator=";", decimal=","), "utf-8", {}, r"also use decimal=','"),
        (table(separator=";", decimal=","), "utf-8", {"delimiter": ";"}, r"'0,0' .* decimal=','"),
        (table(separator="|"), "utf-8", {}, r"separated by '\|'. Use delimiter='\|'"),
        (table(), "utf-8", {"decimal": ","}, "separated by ','. Use delimiter=','"),
        (table(), "utf-16-le", {}, r"encoding, for example encoding='utf-16-le'"),
        (table(), "utf-16-be", {}, r"encoding, for example encoding='utf-16-be'"),
        ("IMU: ok\n" + table(separator=";"), "utf-8", {}, r"line 2 seems .*; use delimiter=';'"),
        ("a\n" + table([("Kies", "", "x", "y"), *VALUES]), "utf-8", {}, "remove lines before"),
        ("ms,A,m/s,\n" + table(), "utf-8", {}, r"no column 'Zeit'; it has ms, A"),
        ("Zeit,a,\n0,1,2,3\n", "utf-8", {}, "first line has 3 column name.* remove lines"),
        ("Zeit\ta\n0\t\t1\n1\t\t2\n", "utf-8", {}, r"or tabs\. Use delimiter=' '"),
        ("Zeit\ta\n0\t\t1\n1\t\t2\n", "utf-8", {"delimiter": "tab"}, r"Use delimiter=' '"),
        (table([("f4", "f4", "f4", ""), *VALUES]), "utf-8", {}, "remove the row if it has units"),
        (table([("[min]", "[A]", "", ""), *VALUES]), "utf-8", {}, "'min', which is not a unit of"),
        ("Notes on, the drive\nof a robot\n", "utf-8", {}, "is not a table: none of its first 2"),
        (table([*VALUES, (0.2, 1.0, 1.0, '"Kies')]), "utf-8", {}, "line 5: a quote is not closed"),
        (table(), "latin-1", {}, r"header is not UTF-8 .* encoding='latin-1'"),
        (table(names=("t", "a", "b", "c")), "latin-1", {}, r"Give the encoding"),
        (table(), "latin-1", {"encoding": "utf-16"}, "is not text in utf-16"),
        (table(), "latin-1", {"encoding": "ascii"}, "is not text in ascii"),
        (table(), "utf-8", {"encoding": "latin1n"}, "encoding='latin1n' is not known"),
        (table(), "utf-8", {"encoding": "base64"}, "encoding='base64' is not known"),
        (table(), "utf-8", {"encoding": "undefined"}, "encoding='undefined' is not known"),
        (table(), "utf-8", {"delimiter": '"'}, "delimiter='\"' must be one character"),
        (table(), "utf-8", {"delimiter": "ab"}, "delimiter='ab' must be one character"),
        (table(), "utf-8", {"delimiter": ""}, "delimiter='' must be one character"),
        (table(), "utf-8", {"decimal": ";"}, r"decimal=';' must be '\.' or ','"),
    ],
)
def test_a_different_format_is_an_error_that_names_the_option(
    text, encoding, form, message, tmp_path
):
    path = write(tmp_path / "a.csv", text, encoding)
    time_column = text.partition(",")[0] if text.startswith("t,") else "Zeit"
    with pytest.raises((RecordingError, ArgumentError), match=message):
        read_csv(path, ReadOptions(time_column=time_column, **form))


PROPERTIES = "Device:,3\nRate:,50Hz\nStart:,2025-07-11\n\n"


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "txt", "tsv", "dat", "log"])
@pytest.mark.parametrize(
    ("before", "names", "units"),
    [
        ("", "time,a,b", ""),
        ("made by x\n\n", "time,a,b", ""),
        (PROPERTIES, "time,a,b", ""),
        (PROPERTIES + "Site:,a,hall\n", "time,a,b", ""),
        ("IMU,IMU,motor\n", "time,a,b", ""),
        ("Samples,Hz\n3,20\n\n", "time,a,b", ""),
        ("", "time,a,b", "[ms],[m/s^2],-"),
        (PROPERTIES, "time,a,b", "ms,m/s^2,"),
        ("# x\n", "# time,a,b", "ms,m/s^2,"),
    ],
)
def test_other_lines_around_the_names_are_not_samples(before, names, units, suffix, tmp_path):
    scale = 1000 if units else 1
    rows = "".join(f"{(i + 0.5) / 20 * scale},{i * i % 7},{i % 3}.5\n" for i in range(60))
    text = before + names + "\n" + units + "\n" * bool(units) + rows
    if suffix == "tsv":
        text = text.replace(",", "\t")
    (one,) = read_recordings(write(tmp_path / f"a.{suffix}", text, "utf-8"))
    np.testing.assert_allclose(one.timestamps_s, (np.arange(60) + 0.5) / 20)
    np.testing.assert_array_equal(one.values.T, [np.arange(60) ** 2 % 7, np.arange(60) % 3 + 0.5])
    assert [(c.name, c.unit) for c in one.channels] == [("a", "m/s^2" * bool(units)), ("b", "")]


def test_names_below_properties_are_known_by_the_given_time(tmp_path):
    rows = "".join(f"{20000 * i},{i % 7}\n" for i in range(60))
    path = write(tmp_path / "a.csv", "Device:,3\n\nSampleTimeFine,a\n" + rows, "utf-8")
    recording = read_csv(path, ReadOptions(time_column="SampleTimeFine"))
    np.testing.assert_allclose(recording.timestamps_s, np.arange(60) / 50)
    with pytest.raises(RecordingError, match="no column time"):
        read_csv(path)


def test_units_below_the_names_of_a_long_table_are_refused(tmp_path):
    rows = "".join(f"{i * 20.5},{i % 7},r{i // 30}\n" for i in range(60))
    path = write(tmp_path / "a.csv", "time,a,run\n[ms],[A],-\n" + rows, "utf-8")
    with pytest.raises(RecordingError, match=r"must not have a line of units .* remove it"):
        read_recordings(path, recording_column="run")


@pytest.mark.parametrize("form", [{}, {"delimiter": ";"}, {"delimiter": ";", "decimal": ","}])
@pytest.mark.parametrize("rows", [{0, 1, 2}, {2}])
@pytest.mark.parametrize(
    "number", ["0,5", "1.234,5", "1,234.5", "1\u2009234", "1'234", "1.234", ' "5"', "\u22121"]
)
def test_a_column_of_numbers_in_a_different_format_is_never_left_out(number, rows, form, tmp_path):
    is_read = {"0,5": ",", "1.234": "."}.get(number) == form.get("decimal", ".")
    mark = form.get("delimiter", ",")
    field = number if mark not in number and '"' not in number else f'"{number}"'
    lines = [f"{i}{mark}{i}{mark}{field if i in rows else ''}" for i in range(3)]
    path = write(tmp_path / "a.csv", f"time_s{mark}n{mark}a\n" + "\n".join(lines), "utf-8")
    if is_read:
        assert read_csv(path, ReadOptions(**form)).values[2, 1] == float(number.replace(",", "."))
        return
    row = min(rows) + 1
    with pytest.raises(RecordingError, match=rf"row {row}, column 'a': .* in this notation"):
        read_csv(path, ReadOptions(**form))


def test_a_byte_order_mark_before_an_empty_line_is_not_a_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf\r\n" + table().encode())
    assert read_csv(path, ReadOptions(time_column="Zeit")).channel_names == NAMES[1:3]


def test_a_word_with_a_comma_between_semicolons_can_remain_a_word(tmp_path):
    text = table([(0.0, 1.0, 2.0, "1,5"), (0.1, 1.0, 2.0, "x")], separator=";")
    path = write(tmp_path / "a.csv", text, "utf-8")
    given = {"time_column": "Zeit", "delimiter": ";"}
    with pytest.raises(RecordingError, match="commas"):
        read_csv(path, ReadOptions(**given))
    assert read_csv(path, ReadOptions(decimal=".", **given)).attributes["dropped_columns"] == [
        "Untergrund"
    ]


def write_logs(root, separator, decimal, encoding):
    rng = np.random.default_rng(3)
    for label in ("Kies", "Öl"):
        (root / label).mkdir(parents=True)
        for i in range(3):
            values = [(k / 20, *rng.normal(size=2).tolist(), "ä") for k in range(60)]
            text = table(values, separator=separator, decimal=decimal)
            write(root / label / f"{i}.csv", text, encoding)
    return root


def test_commands_read_these_folders_and_store_the_format(tmp_path, capsys):
    plain = write_logs(tmp_path / "plain", ",", ".", "utf-8")
    other = write_logs(tmp_path / "other", ";", ",", "latin-1")
    typed = ["--time-column", "Zeit"]
    form = ["--encoding", "latin-1", "--decimal", ","]
    made = []
    for root, options in ((plain, []), (other, form)):
        out = tmp_path / f"{root.name}.h5"
        wanted = ["prepare", str(root), "--window-s", "1", "-o", str(out), *typed, *options]
        assert run(wanted) == 0
        made.append(read_windows(out))
        capsys.readouterr()
        assert run(wanted) == 0
        assert "nothing to do" in " ".join(capsys.readouterr().out.split())
    np.testing.assert_array_equal(made[0].X, made[1].X)
    recorded = made[1].provenance["configuration"]["input"]
    expected = {"encoding": "latin-1", "decimal": ",", "delimiter": None}
    assert {name: recorded[name] for name in expected} == expected
    # with a different format, nothing from the earlier preparation is reused
    out = tmp_path / "other.h5"
    again = ["prepare", str(other), "--window-s", "1", "-o", str(out), *typed, "--resume"]
    assert run([*again, "--encoding", "cp1252", "--decimal", ","]) == 2
    error = capsys.readouterr().err
    assert "`encoding`" not in error
    assert "--encoding was latin-1, now cp1252" in error
    assert run(["inspect", str(other), *typed, *form]) == 0
    assert run(["inspect", str(other), *typed]) == 3
    said = " ".join(capsys.readouterr().out.split())
    assert "--encoding latin-1" in said
    model = tmp_path / "model"
    quick = ["--max-epochs", "1", "--no-compare", "--set", "features=none", "--set", "refit=none"]
    assert run(["train", str(out), "-o", str(model), *quick, "-q"]) == 0
    assert run(["predict", str(model), str(other / "Kies" / "0.csv")]) == 0
    replay = ["stream", str(model), "--replay", str(other / "Kies" / "0.csv")]
    assert run(replay) == 0
    usual = ["--encoding", "utf-8", "--delimiter", ",", "--decimal", "."]
    assert run(["predict", str(model), str(plain / "Kies" / "0.csv"), *usual]) == 0


def test_a_manifest_may_have_the_default_format_or_that_of_the_recordings(tmp_path):
    root = write_logs(tmp_path / "logs", ";", ",", "latin-1")
    rows = [("path", "label", "group"), ("Öl/0.csv", "Öl", "r1"), ("Kies/1.csv", "Kies", "r2")]
    form = {"decimal": ",", "encoding": "latin-1"}
    for encoding, mark in (("utf-8", ","), ("latin-1", ";"), ("utf-8-sig", ";"), ("utf-16", ";")):
        write(root / "manifest.csv", "\r\n".join(mark.join(row) for row in rows), encoding)
        recordings = read_recordings(root, time_column="Zeit", **form)
        for found in (recordings, find_recordings(root / "manifest.csv", ReadOptions(**form))):
            assert [one.label for one in found] == ["Öl", "Kies"]
        rates = [
            read_source_rate(one, ReadOptions(time_column="Zeit"))
            for one in find_recordings(root, ReadOptions(**form))
        ]
        assert rates == pytest.approx([20, 20])


def test_the_times_of_a_manifest_may_have_decimal_commas(tmp_path):
    write(tmp_path / "a.csv", table(names=("time", *"abc")), "utf-8")
    text = "\npath;label;start_s;end_s\na.csv;Öl;0,5;1,25\n"
    write(tmp_path / "manifest.csv", text, "utf-8")
    (found,) = find_recordings(tmp_path, ReadOptions(decimal=","))
    assert [(span.start_s, span.end_s) for span in found.label_spans] == [(0.5, 1.25)]
    with pytest.raises(RecordingError, match=r"start_s '0,5' is not .* Use decimal=','"):
        find_recordings(tmp_path)
    write(tmp_path / "manifest.csv", text, "latin-1")
    with pytest.raises(RecordingError, match="for example encoding='latin-1'"):
        find_recordings(tmp_path)


@pytest.mark.parametrize(("form", "number"), [({}, '"0,5"'), ({"decimal": ","}, "1.234")])
def test_numbers_in_a_different_format_are_an_error_in_a_long_table(form, number, tmp_path):
    mark = ";" if form else ","
    rows = [f"{i / 10}{mark}{number}{mark}{i}{mark}run {i // 4}\n" for i in range(8)]
    path = write(tmp_path / "a.csv", f"time{mark}a{mark}b{mark}run\n" + "".join(rows), "utf-8")
    with pytest.raises(RecordingError, match=r"row 1, column 'a': .* in this notation"):
        read_recordings(path, recording_column="run", **form)


def test_a_long_table_may_have_a_different_format(tmp_path):
    values = [(k / 20, k + 0.5, f"Lauf/{run}", "ä") for run in (1, 2) for k in range(4)]
    names = ("Zeit", "Strom", "Läufe", "Gruppe")
    found = []
    for name, encoding, separator, decimal, form in (
        ("plain.csv", "utf-8", ",", ".", {}),
        ("other.csv", "latin-1", ";", ",", {"encoding": "latin-1", "decimal": ","}),
    ):
        path = write(tmp_path / name, table(values, names, separator, decimal), encoding)
        columns = {"recording_column": "Läufe", "group_column": "Gruppe", "time_column": "Zeit"}
        recordings = read_recordings(path, **columns, **form)
        found.append([(one.recording_id, one.group, one.values.tolist()) for one in recordings])
    assert found[0] == found[1]
    assert len(found[0]) == 2


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("%OpenBCI Raw EEG Data\n%Sample Rate = 20 Hz\ntime, a, b\n", {}),
        ("# made by x, with 3 fields, in 2024\ntime,a,b\n", {}),
        ("sep=,\r\ntime,a,b\r\n", {}),
        ("// x\n\n// y\n time , a ,\tb\n", {}),
        ("# time, a, b\n", {}),
        ("\ufeff# units: s, A\n# time,a,b\n", {}),
        ("%time,a,b\n", {}),
        ("#\n", {"names": ["time", "a ", " b"]}),
        ("# time a b\n", {"delimiter": " "}),
        ('time, "a", "b"\n', {}),
        ("time\ta\tb\n", {"delimiter": " "}),
        ("# x\n  time   a b  \r\n", {"delimiter": " "}),
        ('"time"  "a" b\n', {"delimiter": " "}),
    ],
)
def test_comments_and_blanks_around_names_are_not_part_of_the_table(
    text, form, stored, tmp_path, monkeypatch
):
    if stored:
        monkeypatch.setattr("sensorseq.options.LARGE_BYTES", 1)
    mark = "\t \t" if form.get("delimiter") else ", "
    rows = [(0, 1.5, -2), (0.05, 2, 3), (0.1, 2.5, 4)]
    path = tmp_path / "a.csv"
    path.write_text(text + "".join(mark.join(map(str, row)) + " \n" for row in rows))
    recording = read_csv(path, ReadOptions(scratch=tmp_path if stored else None, **form))
    assert recording.channel_names == ("a", "b")
    np.testing.assert_array_equal(recording.values, [row[1:] for row in rows])
    np.testing.assert_array_equal(recording.timestamps_s, [row[0] for row in rows])


def test_columns_with_the_same_name_are_numbered(tmp_path):
    path = tmp_path / "a.csv"
    rows = "".join(f"{i / 10},{i % 3},{i % 5},{i % 7},{i % 2}\n" for i in range(40))
    path.write_text("time, Other, x, Other, label\n" + rows)
    recording = read_csv(path)
    assert recording.channel_names == ("Other[0]", "x", "Other[1]", "label")
    np.testing.assert_array_equal(recording.values[:3, 2], [0, 1, 2])
    (one,) = read_recordings(path, channels=["Other[1] ", " x"], label_column=" label")
    assert one.channel_names == ("Other[1]", "x")
    with pytest.raises(RecordingError, match=r"no channel 'Other'; .* Did you mean 'Other\["):
        read_recordings(path, channels=["Other"])


@pytest.mark.parametrize("kind", ["csv", "parquet", "npz", "h5"])
def test_names_are_matched_without_blanks_around_them(kind, tmp_path):
    columns = {" t": np.arange(40) / 20, " gyro[0]": np.arange(40.0) % 3, "label ": ["a"] * 40}
    path = write_table(tmp_path / f"a.{kind}", columns)
    for blank in ("", " "):
        given = {"time_column": blank + "t", "label_column": blank + "label"}
        (one,) = read_recordings(path, **given, channels=[f"{blank}gyro[0]"])
        assert one.channel_names == ("gyro[0]",)
        assert [span.label for span in one.label_spans] == ["a"]
        (one,) = read_recordings(path, **given, units={f"gyro[0]{blank}": "rad/s"})
        assert one.channels[0].unit == "rad/s"


@pytest.mark.parametrize("n_separators", [1, 2, 3])
def test_separators_at_the_ends_of_lines_do_not_become_channels(n_separators, tmp_path):
    more = "," * n_separators
    path = tmp_path / "a.csv"
    path.write_text(f"time,a{more}\n" + "".join(f"{i / 10},{i % 3}{more}\n" for i in range(9)))
    (one,) = read_recordings(path)
    assert one.channel_names == ("a",)


@pytest.mark.parametrize("before", ["", "# robot 1, 2024\n%more\n", "\ufeff// x\n"])
def test_a_stream_also_skips_comments_and_blanks(before):
    parser = SampleParser("csv", ("a", "Other[1]"), " time ")
    text = before + "Other, time , a, Other\n" + "7, 0.5, 1, 2\n"
    values, stamps = parser.feed(text.encode(), whole=True)
    np.testing.assert_array_equal(values, [[1, 2]])
    np.testing.assert_array_equal(stamps, [0.5])
    assert parser.n_unreadable == 0


def table_of_rows(kind):
    """Return rows of windows, or rows of samples of many channels, some of them alike."""
    rng, t = np.random.default_rng(0), np.arange(64 * 130) / 50
    signal = np.sin(2 * np.pi * 1.3 * t) + 0.1 * rng.normal(size=len(t))
    place, rows = np.linspace(0, 3, 40), np.arange(100)[:, None]
    whole = signal[:6400].reshape(100, 64)
    together, noise = rng.normal(size=(100, 1)), rng.normal(size=(100, 40))
    return {
        "overlapping": np.stack([signal[32 * j : 32 * j + 64] for j in range(100)]),
        "overlapping noise": np.lib.stride_tricks.sliding_window_view(noise.ravel(), 64)[::16],
        "one after the other": whole,
        "in any order": rng.permutation(whole),
        "with a label": np.c_[rows // 40, whole],
        "channels of noise": noise,
        "channels that share noise": together + 0.1 * noise,
        "distances": 2 + np.sin(place) + np.sin(rows / 30) + 0.02 * noise,
        "moving distances": np.sin(place + rows / 20) + 0.02 * noise,
        "spectrum": np.exp(-place + 0.2 * together) + 0.01 * noise,
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["overlapping", "overlapping noise", "one after the other", "in any order", "with a label"],
)
def test_a_window_in_each_row_is_refused(tmp_path, kind):
    x = table_of_rows(kind)
    np.savetxt(tmp_path / "a.csv", x, "%.9g", ",")
    with pytest.raises(RecordingError, match=rf"{x.shape[1]} columns and no timestamps.* fit\("):
        read_recordings(tmp_path / "a.csv", no_header=True, sample_rate_hz=50)
    names = [f"column_{i}" for i in (3, 2, 9)]
    (one,) = read_recordings(tmp_path / "a.csv", no_header=True, sample_rate_hz=50, channels=names)
    np.testing.assert_allclose(one.values, x[:, [2, 1, 8]], rtol=1e-8)


@pytest.mark.parametrize(
    "kind",
    ["channels of noise", "channels that share noise", "distances", "moving distances", "spectrum"],
)
def test_many_channels_are_not_windows(tmp_path, kind):
    x = table_of_rows(kind)
    np.savetxt(tmp_path / "a.csv", x, "%.9g", ",")
    (one,) = read_recordings(tmp_path / "a.csv", no_header=True, sample_rate_hz=50)
    np.testing.assert_allclose(one.values, x, rtol=1e-8)


@pytest.mark.parametrize("mark", [";", " A", "%", " m/s²", "rpm", " °C"])
def test_numbers_with_a_mark_in_every_row_are_refused(tmp_path, mark):
    path = tmp_path / "a.csv"
    rows = [f"{i / 50},{i % 7},{np.sin(i):.3f}{mark}" for i in range(60)]
    path.write_text("\n".join(["time,a,b", *rows]))
    with pytest.raises(RecordingError, match=rf"column 'b' is followed by '{mark.strip()}'"):
        read_recordings(path)
    assert read_recordings(path, decimal=".")[0].channel_names == ("a",)


@pytest.mark.parametrize("text", ["{0}A", "run {0}", "{0}-0{1}", "{1}:0{0} h", "0x{1}F", "{1}{2}"])
def test_names_with_numbers_are_not_measurements(tmp_path, text):
    path = tmp_path / "a.csv"
    rows = [f"{i / 50},{i},{text.format(i % 9, i, 'abc'[i % 3])}" for i in range(60)]
    path.write_text("\n".join(["time,a,b", *rows]))
    (one,) = read_recordings(path)
    assert one.attributes["dropped_columns"] == ["b"]
