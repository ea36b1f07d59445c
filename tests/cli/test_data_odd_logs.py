"""Logs in unusual formats are prepared, and the model predicts another file."""

import re

import numpy as np
import pytest
from commands import answer, said

FAST = [
    "--no-compare",
    "--max-epochs",
    "2",
    "--set",
    "features=none",
    "--set",
    "hidden_size=8",
    "-q",
]
RATE = 20


CLASSES, NAMES = ("A 1", "B 2"), ("m 1", "m 2")
SIZE, START = 40.0, 1760000123


def signals(seconds=20.0, rate=RATE):
    """Yield the class, name, times and values of six recordings."""
    rng = np.random.default_rng(3)
    for number, label in enumerate(CLASSES):
        for i in range(3):
            t = np.arange(int(seconds * rate)) / rate
            wave = np.sin(2 * np.pi * (1 + 3 * number) * t[:, None] + np.arange(2))
            values = SIZE * (wave + 0.1 * rng.standard_normal(wave.shape))
            yield label, f"run_{i}", t, values


def write(path, columns, header):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [] if header is None else [",".join(header)]
    lines += [
        ",".join("" if v != v else f"{v:.15g}" for v in row) for row in np.column_stack(columns)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def write_logs(folder, columns=lambda t, x: [t, x], header=("time",), **drawn):
    """Write six recordings; return the last file, with its times and values."""
    for label, name, t, x in signals(**drawn):
        path = folder / label / f"{name}.csv"
        write(path, columns(t, x), [*header, *NAMES])
    return path, t, x


def told_by(*words, code=0):
    """Run a command that must end with this exit code; return its output as one line."""
    ended, out, err = said(*words)
    assert ended == code, out + err
    return re.sub(r"\s+", " ", out + err)


def told_by_prepare(folder, *options, window_s=1, code=0):
    written = ["-o", folder.parent / "w.h5"]
    return told_by("prepare", folder, "--window-s", window_s, *written, *options, code=code)


def predicted(folder, recording, *options, predict=()):
    """Prepare, train and predict; return the output of `prepare` and the JSON of `predict`."""
    windows, model = folder.parent / "w.h5", folder.parent / "m.safetensors"
    told = told_by_prepare(folder, "-q", *options)
    told_by("train", windows, "-o", model, *FAST)
    (found,) = answer("predict", model, recording, *predict)["recordings"]
    assert len(found["windows"]) >= 15
    return told, found


def test_a_file_without_header_is_reported_and_read_with_names_or_positions(tmp_path):
    for label, name, t, x in signals():
        stamps = 1000 * START + np.rint(1000 * t)
        lines = [
            ",".join([*(f"{v:.5f}" for v in row), f"{ms:.0f}"])
            for row, ms in zip(x, stamps, strict=True)
        ]
        path = tmp_path / "logs" / label / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    logs = tmp_path / "logs"
    told = told_by_prepare(logs, code=3)
    assert "first line contains numbers" in told
    assert all(word in told for word in ("--names", "--no-header", "column_3", str(logs)))
    told = told_by("inspect", logs, code=3)
    assert told.count("first line contains numbers") == 1  # not once for each file
    assert "5 more" in told
    names = [*NAMES, "stamp"]
    told = told_by_prepare(logs, "--names", ",".join(names), "--time-column", "stamp")
    assert ", ".join(names[:2]) in told
    assert "is in ms" in told
    told, found = predicted(logs, path, "--no-header", "--time-column", "-1")
    assert "column_1, column_2" in told
    # These are the same samples, with a header that has the names used in training.
    headed = write(
        tmp_path / "headed.csv",
        [x, 1000 * START + np.rint(1000 * t)],
        ["column_1", "column_2", "column_3"],
    )
    _, same = predicted(logs, headed, "--no-header", "--time-column", "3", predict=["--header"])
    assert len(same["windows"]) == len(found["windows"])
    told = told_by_prepare(logs, "--names", "a,b", code=3)
    assert "2 name(s)" in told
    assert "3 field(s)" in told


def test_names_given_for_a_file_with_a_header_are_refused(tmp_path):
    write_logs(tmp_path / "logs")
    told = told_by_prepare(tmp_path / "logs", "--names", "time,a,b", code=3)
    assert NAMES[0] in told
    assert "--header" in told


def test_the_rate_is_the_clock_of_files_without_a_time_column(tmp_path):
    logs = tmp_path / "logs"
    path, _, x = write_logs(logs, lambda t, x: [x], header=())
    told = told_by_prepare(logs, code=3)
    assert "--sample-rate-hz" in told
    assert "--time-column" in told
    told, found = predicted(logs, path, "--sample-rate-hz", RATE)
    assert f"1/{RATE} s" in told
    assert any(f"1/{RATE} s" in note for note in found["notes"])  # `predict` also notes the rate
    starts = [window["start_s"] for window in found["windows"]]
    assert np.diff(starts) == pytest.approx(1)
    bare = write(tmp_path / "bare.csv", [x], None)
    names = ["--names", ",".join(NAMES)]
    told, other = predicted(logs, bare, "--sample-rate-hz", RATE, predict=names)
    assert other["windows"] == found["windows"]


def merged(seconds=25.0, each_hz=68):
    """Yield the class, name, times and values of tables that join two topics at unrelated times."""
    rng = np.random.default_rng(8)
    for number, label in enumerate(CLASSES):
        for i in range(3):
            first = np.sort(rng.uniform(0, seconds, int(seconds * each_hz)))
            t = np.sort(np.concatenate([first, first + rng.uniform(0.001, 0.004, len(first))]))
            t = t[np.append(True, np.diff(t) > 1e-5)]
            x = np.sin(2 * np.pi * (1 + 3 * number) * t[:, None] + np.arange(2))
            yield label, f"run_{i}", START + t, SIZE * x


def test_the_rate_of_merged_topics_is_that_of_their_samples(tmp_path):
    for label, name, t, x in merged():
        path = write(
            tmp_path / "logs" / label / f"{name}.csv",
            [np.arange(len(t)), t, x],
            ["", "time", *NAMES],
        )
    told, found = predicted(path.parent.parent, path)
    rate = float(re.search(r"at ([\d.]+) Hz", told)[1])
    assert rate == pytest.approx(len(t) / 25, rel=0.03)
    assert f"channels {NAMES[0]}, {NAMES[1]}" in told  # without the index
    assert "column without a name" in told
    assert found["label"] == CLASSES[1]


def test_a_rate_of_stamps_in_whole_milliseconds_is_not_rounded(tmp_path):
    def columns(t, x):  # the stamps are 12 or 13 ms apart
        return [1000 * START + np.rint(1000 * t), x]

    write_logs(tmp_path / "logs", columns, ["time_ms"], rate=80)
    told = told_by_prepare(tmp_path / "logs")
    assert float(re.search(r"at ([\d.]+) Hz", told)[1]) == pytest.approx(80, rel=1e-3)


def test_the_message_about_gaps_that_cut_recordings_has_the_value_that_bridges_them(tmp_path):
    def stamps(t):  # with a pause after every 0.6 s
        return t + 1.7 * np.floor(t / 0.6)

    logs = tmp_path / "logs"
    _, t, _ = write_logs(logs, lambda t, x: [stamps(t), x], seconds=25, rate=40)
    told = told_by_prepare(logs, window_s=2, code=3)
    gap_s = float(re.search(r"--max-gap-s ([\d.]+)", told)[1])
    assert gap_s == pytest.approx(1.725, rel=0.06)
    assert f"lasts {stamps(t)[-1]:g} s" in told
    told = told_by_prepare(logs, "--max-gap-s", gap_s, window_s=2)
    assert "windows of" in told
    assert "max-gap-s" not in told


def test_counters_are_left_out_and_reported_unless_they_are_named(tmp_path):
    def columns(t, x):
        n = np.arange(len(t))
        return [n, t, 7 + 3 * n, 1e3 * (t + 4.01), x]

    logs = tmp_path / "logs"
    path, t, x = write_logs(logs, columns, ["", "time", "seq", "device"])
    told, _ = predicted(logs, path)
    assert f"channels {', '.join(NAMES)} " in told
    assert "left out column 'seq'" in told
    assert "left out column 'device'" in told
    assert "without a name" in told
    assert "'seq'" in told_by("inspect", logs)
    other = write(tmp_path / "other.csv", [t, x], ["t", *NAMES])
    told_by("predict", tmp_path / "m.safetensors", other)  # prediction does not need these columns
    told = told_by_prepare(logs, "--channels", f"seq,{NAMES[0]}")
    assert f"channels seq, {NAMES[0]}" in told


def test_a_time_column_with_an_unknown_name_is_refused_before_a_rate_is_the_clock(tmp_path):
    write_logs(tmp_path / "logs", lambda t, x: [1000 * t, x], ["tick"])
    told = told_by_prepare(tmp_path / "logs", "--sample-rate-hz", RATE, code=3)
    assert "--time-column tick" in told
    assert "--channels" in told


@pytest.mark.parametrize("start", [0.0, 1645150995123.25])
def test_fractions_of_milliseconds_are_refused_with_a_question(start, tmp_path):
    def columns(t, x):
        return [start + 1000 * t + 0.125 * (np.arange(len(t)) % 8 == 7), x]

    logs = tmp_path / "logs"
    write_logs(logs, columns)
    told = told_by_prepare(logs, code=3)
    assert "--time-unit ms" in told
    assert f"{RATE} Hz" in told
    told = told_by_prepare(logs, "--time-unit", "ms")
    assert float(re.search(r"at ([\d.]+) Hz", told)[1]) == pytest.approx(RATE, rel=1e-3)


def test_a_hundred_times_the_rate_is_refused(tmp_path):
    write_logs(tmp_path / "logs")
    told = told_by_prepare(tmp_path / "logs", "--sample-rate-hz", 50_000, code=3)
    assert "2500 times" in told
    assert f"--sample-rate-hz {RATE}" in told


def test_a_recording_of_zeros_is_refused_and_windows_of_zeros_are_reported(tmp_path):
    logs = tmp_path / "logs"
    path, t, x = write_logs(logs, lambda t, x: [t, x * ((t <= 5) | (t >= 9))[:, None]])
    told = told_by_prepare(logs)
    assert "zero in 18 windows, 3 of them" in told
    write(path, [t, 0 * x], ["time", *NAMES])
    told = told_by_prepare(logs, code=3)
    assert path.name in told
    assert "zero" in told
    assert "--exclude" in told
    told_by_prepare(logs, "--allow-scales")


@pytest.mark.parametrize(
    "given", ["path,class", "path;label", "path,surface --label-column surface"]
)
def test_a_manifest_names_its_classes_as_people_do(given, tmp_path):
    header, *options = given.split(" ")
    rows = []
    for label, name, t, x in signals():
        path = write(tmp_path / "all" / f"{label}_{name}.csv", [t, x], ["time", *NAMES])
        rows.append(header.replace(header[:4], path.name).replace(header[5:], label))
    manifest = tmp_path / "all" / "list.csv"
    manifest.write_text("\n".join([header, *rows]) + "\n")
    told = told_by_prepare(manifest, *options)
    assert all(label in told for label in CLASSES)


@pytest.mark.parametrize(
    ("header", "option", "meant"),
    [
        ("paht,label", "", "'path'"),
        ("path,lable", "", "'label'"),
        ("path,clas", "", "'label'"),
        ("path,surface", "surfac", "--label-column surface"),
        ("path,label", "lable", "--label-column label"),
    ],
)
def test_a_misspelled_column_of_a_manifest_is_named(header, option, meant, tmp_path):
    for _, name, t, x in signals(seconds=2):
        path = write(tmp_path / f"{name}.csv", [t, x], ["time", *NAMES])
    manifest = tmp_path / "list.csv"
    manifest.write_text(f"{header}\n{path.name},{CLASSES[0]}\n")
    options = ["--label-column", option] if option else []
    told = told_by_prepare(manifest, *options, code=3)
    assert meant in told
    assert manifest.name in told


def test_a_recording_to_exclude_that_is_misspelled_does_not_suggest_its_class(tmp_path):
    label = CLASSES[1]
    for name in ("pro_12", "pro_3"):
        write(tmp_path / label / f"{name}.csv", [np.arange(9.0), np.ones(9)], ["time", "a"])
    told = told_by_prepare(tmp_path, "--exclude", f"{label}/12", code=2)
    assert f"{label}/pro_12" in told


def test_times_are_seconds_from_the_start_of_a_recording_and_its_date_is_said_once(tmp_path):
    path, t, x = write_logs(tmp_path / "logs", lambda t, x: [START + t, x])
    _, found = predicted(tmp_path / "logs", path)
    told = told_by("predict", tmp_path / "m.safetensors", path)
    assert str(START)[:6] not in told
    assert "0.0 to 20.0" in told
    assert told.count(found["date"]) == 1
    assert re.fullmatch(r"2025-\d\d-\d\d \d\d:\d\d:\d\d UTC", found["date"])
    stamps = START + t
    stamps[100] -= 3
    write(path, [stamps, x], ["time", *NAMES])
    told = told_by("inspect", path, code=3)
    assert f"back {3 - 1 / RATE:.6g} s" in told
    assert f"{99 / RATE:.6g} s from the start" in told


def test_samples_lost_by_the_clock_are_missing_in_the_table_too(tmp_path):
    def columns(t, x):
        return [column[np.arange(len(t)) % 20 != 7] for column in (t, x)]

    path, *_ = write_logs(tmp_path, columns)
    told = told_by("inspect", path)
    assert re.search(r"380 40 0", told)  # 20 samples are missing in each of two channels


def test_a_stream_without_one_good_line_fails(tmp_path):
    path, *_ = write_logs(tmp_path / "logs")
    predicted(tmp_path / "logs", path)
    words = tmp_path / "words.txt"
    words.write_text("speed=1\nspeed=2\n")
    told = told_by("stream", tmp_path / "m.safetensors", "--input", words, code=3)
    assert "none of 2" in told
    assert NAMES[1] in told
