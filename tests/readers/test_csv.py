import gzip
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import write_csv

from sensorseq._signal import read_numbers
from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.readers import read_recordings
from sensorseq.readers.csv import read_csv


def write(folder, text, name="drive.csv"):
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["drive.csv", "drive.csv.gz"])
def test_a_table_of_numbers_becomes_a_recording(tmp_path, name):
    path = write(tmp_path, "speed,time_s,current_a\n1,0.5,-2.25\n2,0.75,3e-3\n", name)
    recording = read_csv(path, ReadOptions(units={"current_a": "A"}), group="robot_1", label="ice")
    np.testing.assert_array_equal(recording.timestamps_s, [0.5, 0.75])
    np.testing.assert_array_equal(recording.values, [[1.0, -2.25], [2.0, 0.003]])
    assert [(c.name, c.unit) for c in recording.channels] == [("speed", ""), ("current_a", "A")]
    assert (recording.recording_id, recording.group, recording.label) == ("drive", "robot_1", "ice")


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
def test_numbers_written_with_all_their_digits_are_read_back_to_the_last(tmp_path_factory, values):
    lines = ["time_s,x", *(f"{row},{value!r}" for row, value in enumerate(values))]
    path = write(tmp_path_factory.mktemp("csv"), "\n".join(lines))
    np.testing.assert_array_equal(read_csv(path).values[:, 0], values)


def test_a_column_without_numbers_is_not_a_channel_but_named_in_the_recording(tmp_path):
    path = write(tmp_path, "time_s,note,a,empty\n0,start,1,\n1,,2,\n2,end,3,\n")
    recording = read_csv(path)
    assert recording.channel_names == ("a",)
    assert recording.attributes == {"dropped_columns": ["note", "empty"]}
    np.testing.assert_array_equal(recording.values[:, 0], [1, 2, 3])


@pytest.mark.parametrize("word", ["", "NA", "nan", "NaN", "-nan", "null", "#N/A", " ", "  nan"])
def test_words_for_a_missing_sample_are_missing_samples(tmp_path, word):
    path = write(tmp_path, f"time_s,a,b\n0,1,{word}\n1,{word},{word}\n2,3,{word}\n")
    recording = read_csv(path)
    assert recording.channel_names == ("a",)
    np.testing.assert_array_equal(recording.values, [[1], [np.nan], [3]])


def test_blank_lines_before_the_header_are_ignored(tmp_path):
    recording = read_csv(write(tmp_path, "\n  \n\r\ntime_s,a\n0,1\n1,2\n"))
    np.testing.assert_array_equal(recording.values, [[1], [2]])


def test_a_fraction_after_a_megabyte_of_whole_numbers_is_read(tmp_path):
    n_rows = 200_000
    lines = ["time_s,a", *(f"{row},7" for row in range(n_rows)), f"{n_rows},7.5"]
    recording = read_csv(write(tmp_path, "\n".join(lines)))
    assert recording.n_samples == n_rows + 1
    assert recording.values[-1, 0] == 7.5


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        (" \n\n", "empty"),
        ("time_s,a\n0,1\n1,1_000\n", "row 2, column 'a': '1_000'"),
        ("time_s,a,a,a[1]\n0,1,2,3\n", "'a[1]' appears more than once"),
        ("time_s,a\n0,1\n1,2,3\n", "Expected 2 columns, got 3"),
        (b"time_s,a\n0,\xff\xfe\n", "not a table"),
        (b"\xff\xff,a\n0,1\n", "not UTF-8"),
        (b"\xff\xfe\x00,a\n0,1\n", "no samples"),  # UTF-16, according to the first bytes
    ],
)
def test_a_file_that_cannot_be_read_is_one_error_that_names_the_file(tmp_path, text, said):
    path = write(tmp_path, text)
    with pytest.raises(RecordingError) as caught:
        read_csv(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_unit_for_an_unknown_channel_is_an_error(tmp_path):
    path = write(tmp_path, "time_s,a\n0,1\n")
    with pytest.raises(RecordingError, match="unit is given for 'b'"):
        read_csv(path, ReadOptions(units={"b": "A"}))


def test_usual_names_of_time_are_found_and_two_of_them_are_refused(tmp_path):
    for name in ("time", "time_s"):
        path = write(tmp_path, f"{name},a\n0,1\n1,2\n")
        np.testing.assert_array_equal(
            read_csv(path, ReadOptions(time_column=None)).timestamps_s, [0, 1]
        )
    path = write(tmp_path, "time,time_s,a\n0,0,1\n")
    with pytest.raises(RecordingError, match=r"both columns time and time_s .* time_column"):
        read_csv(path, ReadOptions(time_column=None))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0,1.5\n0.1,1.6\n", "first line contains numbers"),
        ("time;a\n0;1\n", "columns are separated by ';'. Use delimiter=';'"),
        ('time_s,"a\n1,x"\n2,3\n', "column names cannot be separated; check the quotes"),
    ],
)
def test_a_table_without_header_or_commas_is_explained(tmp_path, text, said):
    with pytest.raises(RecordingError, match=said):
        read_csv(write(tmp_path, text))


@pytest.mark.parametrize("name", ["Fahrt 1, Kies größer.csv", "路面 冰.csv.gz"])
def test_a_path_may_contain_unicode_and_spaces(tmp_path, name):
    folder = tmp_path / "müde Räder"
    folder.mkdir()
    recording = read_csv(write(folder, "time_s,a\n0,1\n1,2\n", name))
    assert recording.recording_id == name.removesuffix(".gz").removesuffix(".csv")


def test_repairing_stamps_also_moves_the_labels(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("time,x,ground\n0,1,ice\n3,4,mud\n1,2,ice\n2,3,mud\n2,5,mud\n4,6,\n")
    recording = read_csv(
        path, ReadOptions(time_column="time", stamps="merge", label_column="ground")
    )
    np.testing.assert_array_equal(recording.values[:, 0], [1, 2, 4, 4, 6])
    assert [(s.start_s, s.end_s, s.label) for s in recording.label_spans] == [
        (0.0, 2.0, "ice"),
        (2.0, 4.0, "mud"),
    ]
    path.write_text("time,x,ground\n0,1,ice\n1,2,ice\n1,2,mud\n")
    with pytest.raises(RecordingError, match="row 3: has label 'mud', but row 2 has label 'ice'"):
        read_csv(path, ReadOptions(time_column="time", stamps="merge", label_column="ground"))


SPELLINGS = st.one_of(
    st.floats().map(repr),
    st.floats(-1000, 1000).map(lambda number: f"{number:.6f}"),
    st.from_regex(r"-?[0-9]{0,22}(\.[0-9]{0,22})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
    st.sampled_from(
        ["", "nan", "NaN", "-nan", "NA", "+1", " 1", "1\t", "1_0", "0x1", '"1"', "1 2"]
    ),
)


@settings(max_examples=120)
@given(
    rows=st.lists(st.tuples(SPELLINGS, SPELLINGS), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_plain_numbers_are_read_bit_for_bit_as_arrow_reads_them(rows, end):
    text = ("a,b\n" + end.join(",".join(row) for row in rows)).encode()
    convert = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys("ab", pa.float64()))
    read = read_numbers(text, 4, [True, True])
    if read is None:  # spellings of numbers that only arrow can parse
        return
    table = pyarrow.csv.read_csv(pa.py_buffer(text), convert_options=convert)
    for name, values in zip("ab", read, strict=True):
        expected = table[name].to_numpy().astype(np.float64)
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(values), ~known)
        assert values[known].tobytes() == expected[known].tobytes()
    np.testing.assert_array_equal(read_numbers(text, 4, [False, True]), read[1:])
    np.testing.assert_array_equal(read_numbers(text, 4, [True, False]), read[:1])


def test_usual_spellings_are_not_left_to_arrow():
    text = b"1,-2.5,3e-05\r\n,nan,0.2755905511811024\n\n 7 ,1e22,-0\n9007199254740993,-.5,5.\n"
    expected = [[1, np.nan, 7, 2**53], [-2.5, np.nan, 1e22, -0.5]]
    expected += [[3e-05, 0.2755905511811024, -0.0, 5]]
    np.testing.assert_array_equal(read_numbers(text, 0, [True] * 3), expected)


@pytest.mark.parametrize(
    "text",
    ["1,2\n3\n", "1,2\n3,4,5\n", "1,2\n3,x\n", '1,"2"\n', "1,2\r3,4\n", "1,2\n\0,1\n", "1, \n"],
)
def test_only_a_table_of_plain_numbers_is_read_as_one(text):
    assert read_numbers(text.encode(), 0, [True, True]) is None


@pytest.mark.parametrize("word", ["null", "NULL", "NA", "N/A", "nan", "None", "#N/A"])
def test_a_class_may_be_named_like_a_missing_number(tmp_path, word):
    """Gesture data have a class `null` for rest; only an empty field is a missing label."""
    words = [word, "", "wave", word]
    labels = [words[at // 50 % 4] for at in range(400)]
    t = np.arange(400) / 50
    path = write_csv(tmp_path / "a.csv", {"time": t, "a": range(400), "l": labels})
    spans = read_csv(path, ReadOptions(label_column="l")).label_spans
    assert [span.label for span in spans] == [word, "wave", word, "wave", word]
    columns = {"run": ["one"] * 200 + ["two"] * 200, "time": t, "a": range(400)}
    whole = [word] * 200 + ["wave"] * 200
    path = write_csv(tmp_path / "t.csv", columns | {"l": whole})
    table = read_recordings(path, recording_column="run", label_column="l")
    assert [one.labels for one in table] == [(word,), ("wave",)]


HEADER = "time_s,a,state\n"
ROWS = "".join(f"{row / 50},{row % 7}.5,on\n" for row in range(40))
DATES = "".join(f"2026-03-01T12:00:{row:02d},{row % 7}.5,on\n" for row in range(40))
AGAIN = r"row {}: the header is repeated, with '(time_s|a)' in column '\1', perhaps"


@pytest.mark.parametrize("name", ["drive.csv", "drive.csv.gz"])
@pytest.mark.parametrize("rows", [ROWS, DATES])
@pytest.mark.parametrize("n_before", [0, 1, 25])
@pytest.mark.parametrize("blank", ["", " "])
def test_a_repeated_header_is_named_with_its_row(tmp_path, name, rows, n_before, blank):
    lines = rows.splitlines(keepends=True)
    again = HEADER.replace(",", blank + ",")
    text = HEADER + "".join([*lines[:n_before], again, *lines[n_before:]])
    with pytest.raises(RecordingError, match=AGAIN.format(n_before + 1)):
        read_csv(write(tmp_path, text, name))


def test_a_repeated_header_is_named_in_a_table_of_recordings(tmp_path):
    text = "run,time_s,a\n" + "".join(f"r1,{row / 50},{row}.5\n" for row in range(9))
    path = write(tmp_path, text + "run,time_s,a\n" + "r2,0,1.5\nr2,0.02,2.5\n")
    with pytest.raises(RecordingError, match="row 10: the header is repeated, with 'run'"):
        read_recordings(path, recording_column="run")
    path.write_text(path.read_text().replace("\nrun,time_s,a\n", "\n").replace("r2,", "run,"))
    found = read_recordings(path, recording_column="run")
    assert [(one.recording_id, one.n_samples) for one in found] == [("r1", 9), ("run", 2)]


def test_another_word_among_numbers_is_not_a_header(tmp_path):
    text = HEADER + ROWS.replace("0.2,3.5,on", "0.2,lost,on")
    with pytest.raises(RecordingError, match="row 11, column 'a': 'lost' is not a number; leave"):
        read_csv(write(tmp_path, text))
    path = write(tmp_path, HEADER + ROWS.replace("0.2,3.5,on", "0.2,3.5,state"))
    assert read_csv(path).n_samples == 40


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (HEADER + ROWS + "\0" * 300, "line 42"),
        (HEADER + ROWS + "\0" * 300 + "\n", "line 42"),
        (HEADER + ROWS[:-1] + "\0" * 300, "line 41"),
        (HEADER + ROWS + "0.8,1.5" + "\0" * 9 + ",on\n", "row 41, column 'a'"),
        (HEADER + DATES + "2026-03-01T12\0\0\0,1.5,on\n", "row 41, column 'time_s'"),
        (HEADER + ROWS + "\0" * 64 + "\n" + ROWS.replace("0.", "9."), "line 42"),
    ],
)
@pytest.mark.parametrize("name", ["drive.csv", "drive.csv.gz"])
def test_nul_bytes_are_named_with_a_remedy(tmp_path, name, text, place):
    path = write(tmp_path, text, name)
    with pytest.raises(RecordingError, match=f"{place}: contains NUL bytes") as caught:
        read_csv(path)
    assert "\0" not in str(caught.value)
    assert "x00" not in str(caught.value)
    if "12\0" in text or "9." in text:
        return  # the text is invalid even without the NUL bytes
    command = str(caught.value).partition("in a shell: ")[2].removesuffix(".")
    command = command.replace("FILE", str(path)).replace("NEW", str(tmp_path / "new.csv"))
    subprocess.run(command, shell=True, check=True)
    assert read_csv(tmp_path / "new.csv").n_samples == 40 + text.count("0.8,1.5")


@pytest.mark.parametrize("text", ["\0" * 4096, "\n\0\0"])
def test_a_file_of_nul_bytes_is_empty(tmp_path, text):
    with pytest.raises(RecordingError, match="empty except for NUL bytes"):
        read_csv(write(tmp_path, text))
    with pytest.raises(RecordingError, match="has a header but no samples"):
        read_csv(write(tmp_path, HEADER + text))
