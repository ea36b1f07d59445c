import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tables import READERS, write_table

from sensorseq.errors import RecordingError
from sensorseq.options import ReadOptions
from sensorseq.prepare import prepare
from sensorseq.readers import find_recordings, read_hdf5, read_recordings
from sensorseq.readers.columns import as_label, spans_of_labels
from sensorseq.recording import LabelSpan

TIMES = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]
WORDS = ["ice", "ice", None, "mud", "mud", "ice"]
SPANS = (LabelSpan(0, 0.2, "ice"), LabelSpan(0.3, 0.5, "mud"), LabelSpan(0.5, 0.6, "ice"))


def write(path, labels=WORDS):
    return write_table(path, {"time": TIMES, "label": labels, "a": np.arange(6.0)})


def read_labels(path, labels):
    """Write a table in the format of the path's suffix, and read the table with its labels."""
    columns = {"time_column": "time", "label_column": "label"}
    return READERS[path.suffix](write(path, labels), ReadOptions(**columns))


NAMES = [f"run{suffix}" for suffix in READERS]


@pytest.mark.parametrize("name", NAMES)
def test_runs_of_equal_labels_become_label_spans(name, tmp_path):
    made = read_labels(tmp_path / name, WORDS)
    assert [span.label for span in made.label_spans] == [span.label for span in SPANS]
    for span, expected in zip(made.label_spans, SPANS, strict=True):
        assert span.start_s == pytest.approx(expected.start_s)
        assert span.end_s == pytest.approx(expected.end_s)
    assert made.channel_names == ("a",)
    assert "dropped_columns" not in made.attributes
    made.check_label_spans()


@pytest.mark.parametrize("name", NAMES)
def test_words_and_numbers_may_be_mixed_as_labels(name, tmp_path):
    made = read_labels(tmp_path / name, ["1", "1", "ice", "ice", "ice", "2"])
    assert [span.label for span in made.label_spans] == ["1", "ice", "2"]


@pytest.mark.parametrize("name", NAMES)
def test_an_invalid_label_column_is_an_error(name, tmp_path):
    path = write(tmp_path / name)
    read = READERS[path.suffix]
    with pytest.raises(RecordingError, match=r"no column 'labels'.*Did you mean .*'label'"):
        read(path, ReadOptions(time_column="time", label_column="labels"))
    with pytest.raises(RecordingError, match="is the time column"):
        read(path, ReadOptions(time_column="time", label_column="time"))
    with pytest.raises(RecordingError, match=r"its folder or manifest gives the label 'ice'"):
        read(path, ReadOptions(time_column="time", label_column="label"), label="ice")


def test_a_column_of_a_table_in_hdf5_may_be_the_labels(tmp_path):
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["log"] = np.column_stack([TIMES, np.arange(6.0), [1, 1, np.nan, 2, 2, 2]])
        file["log"].attrs["columns"] = ["time", "a", "label"]
    made = read_hdf5(tmp_path / "run.h5", ReadOptions(label_column="label"))
    assert [span.label for span in made.label_spans] == ["1", "2"]
    assert made.channel_names == ("a",)


def test_labels_of_samples_are_only_for_recordings_of_one_file(tmp_path):
    write(tmp_path / "pro_1.csv")
    write(tmp_path / "imu_1.csv")
    with pytest.raises(RecordingError, match=r"labels the samples of one file.* has 2"):
        read_recordings(tmp_path, pair="{sensor}_{recording}.*", label_column="label")
    rows = "path,start_s,end_s,label\npro_1.csv,0,0.2,ice\n"
    (tmp_path / "manifest.csv").write_text(rows)
    with pytest.raises(RecordingError, match="the manifest already labels parts of it"):
        read_recordings(tmp_path, label_column="label")


@given(
    labels=st.lists(st.sampled_from(["a", "b", "", None, " "]), max_size=30),
    step=st.sampled_from([0.1, 1.0, 7.3]),
)
def test_each_sample_gets_its_label_back_from_the_spans(labels, step):
    times = np.arange(len(labels)) * step
    spans = spans_of_labels(labels, times)
    for t, label in zip(times, labels, strict=True):
        found = [span.label for span in spans if span.start_s <= t < span.end_s]
        assert found == ([label] if (label or "").strip() else [])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "labels",
    [
        ["1", "1.0", "2", "2.00", "2e0", " 1"],
        [1, 1, 2, 2, 2, 1],
        [1.0, 1.0, 2.0, 2.0, 2.0, 1.0],
    ],
)
def test_equal_numbers_are_one_class(name, labels, tmp_path):
    made = read_labels(tmp_path / name, labels)
    assert [(span.label, span.start_s) for span in made.label_spans] == [
        ("1", 0.0),
        ("2", pytest.approx(0.2)),
        ("1", pytest.approx(0.5)),
    ]


def test_names_that_only_look_like_numbers_are_different_classes():
    same = {"1": "1", "+1.": "1", "1.000000000000000000e+00": "1", "-0.0": "0", ".50": "0.5"}
    same |= {"1234567": "1234567", "1234567.0": "1234567", "1e15": "1000000000000000"}
    for text, label in same.items():
        assert as_label(text) == label
    for text in ("01", "1.0.0", "1_0", "0x1", "1,5", "1 0", "nan", "12345678901234567890", "v1.0"):
        assert as_label(text) == text
    assert as_label(" ice ") == "ice"
    assert as_label(" ") is None
    assert as_label(None) is None


def test_large_numbers_are_different_classes(tmp_path):
    for name in NAMES:
        made = read_labels(tmp_path / name, [1234567, 1234567, 1234568, 1234568, 1234568, 1234567])
        assert [span.label for span in made.label_spans] == ["1234567", "1234568", "1234567"]


@pytest.mark.parametrize("one", ["1", "01"])
def test_numbers_in_manifests_and_long_tables(one, tmp_path):
    rows = ["path,label"]
    for number in range(4):
        write_table(tmp_path / f"r{number}.csv", {"time": TIMES, "a": np.arange(6.0)})
        rows.append(f"r{number}.csv,{one if number % 2 else '1.0'}")
    (tmp_path / "manifest.csv").write_text("\n".join(rows) + "\n")
    found = find_recordings(tmp_path)
    assert {source.label for source in found} == ({"1"} if one == "1" else {"1", "01"})
    runs = ["r0"] * 6 + ["r1"] * 6
    labels = [one] * 6 + ["1.0"] * 5 + [one]
    write_table(
        tmp_path / "all.csv",
        {"time": TIMES * 2, "run": runs, "label": labels, "a": np.arange(12.0)},
    )
    table = find_recordings(
        tmp_path / "all.csv", ReadOptions(recording_column="run", label_column="label")
    )
    assert [source.label for source in table] == (["1", "1"] if one == "1" else ["01", None])


def test_words_that_differ_only_in_case_or_blanks_are_a_warning(tmp_path):
    t = np.arange(400) / 20
    for number in range(8):
        names = [("walk", "hill_up"), ("Walk", "hill up")][number % 2]
        labels = [names[(number // 2 + at // 200) % 2] for at in range(400)]
        write_table(
            tmp_path / f"r{number}.csv",
            {"time": t, "a": np.random.default_rng(number).normal(size=400), "ground": labels},
        )
    with pytest.warns(UserWarning, match="nearly the same") as caught:
        prepare(tmp_path, tmp_path / "w.h5", label_column="ground", window_s=2, split="none")
    said = sorted(str(one.message).partition(" are nearly")[0] for one in caught)
    assert said == [
        "The names of the classes 'hill_up' (4 recordings) and 'hill up' (4 recordings)",
        "The names of the classes 'walk' (4 recordings) and 'Walk' (4 recordings)",
    ]
