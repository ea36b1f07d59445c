"""`sensorseq run` makes a model and its page, asks before it begins, and overwrites nothing."""

import json
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from checkout import ROOT
from commands import answer, refused, said, succeed, write_logs

import sensorseq
from sensorseq.errors import ArgumentError, OpenQuestionsError, OutputError, RecordingError
from sensorseq.first_model import lengths, steps
from sensorseq.io.atomic import locking
from sensorseq.options import ReadOptions

FILES = ["commands.txt", "model.safetensors", "page.html", "run.json", "windows.h5"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_logs(folder / "logs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return folder, answer("run", "logs", "-o", "out")


def test_a_folder_of_logs_becomes_a_model_and_a_page(place):
    folder, made = place
    assert sorted(contents(folder / "out")) == FILES
    assert made["evaluation"]["accuracy"] > 0.8
    assert made["on_the_robot"].endswith("sensorseq stream out/model.safetensors")
    page = (folder / "out" / "page.html").read_text()
    for title in ("help most", "decided", "On the robot", "Confusions", "over time", "Irregular"):
        assert title in page


def test_the_listed_commands_give_the_same_model(place, tmp_path, monkeypatch):
    folder, made = place
    monkeypatch.chdir(folder)
    lines = (folder / "out" / "commands.txt").read_text().splitlines()[1:]
    shutil.copytree(folder / "logs", tmp_path / "logs")
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    for line in lines[:-1]:
        succeed(*shlex.split(line)[1:], "-q")
    same = answer(*shlex.split(lines[-1])[1:])
    assert same["accuracy"] == made["evaluation"]["accuracy"]
    first, second = contents(folder / "out"), contents(tmp_path / "out")
    assert first["windows.h5"] == second["windows.h5"]


def test_a_second_call_does_only_what_changed(place, tmp_path, monkeypatch):
    folder, made = place
    shutil.copytree(folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    out = tmp_path / "copy" / "out"
    state = json.loads((out / "run.json").read_text())
    state["request"]["logs"] = str(tmp_path / "copy" / "logs")
    (out / "run.json").write_text(json.dumps(state))
    (out / "page.html").unlink()
    before = contents(out)
    with monkeypatch.context() as patch:
        patch.setattr(steps, "SensorLSTMClassifier", None)  # nothing is trained
        patch.setattr(steps, "isinstance", lambda *_: True, raising=False)
        again = answer("run", "logs", "-o", "out")
    assert not again["is_new"]
    assert again["evaluation"]["accuracy"] == made["evaluation"]["accuracy"]
    assert {**contents(out), "page.html": b""} == {**before, "page.html": b""}
    assert contents(out)["page.html"] == contents(folder / "out")["page.html"]


def test_a_folder_of_another_run_or_with_other_files_is_not_overwritten(place, monkeypatch):
    folder, _ = place
    monkeypatch.chdir(folder)
    before = contents(folder / "out")
    assert "belongs to another run" in refused(3, "run", "logs", "--window-s", "1", "-o", "out")
    (folder / "mine").mkdir(exist_ok=True)
    (folder / "mine" / "notes.txt").write_text("mine")
    assert "contains files of others" in refused(3, "run", "logs", "-o", "mine")
    assert "is a file" in refused(3, "run", "logs", "-o", "mine/notes.txt")
    assert contents(folder / "out") == before
    assert sorted(contents(folder / "mine")) == ["notes.txt"]


def test_test_recordings_do_not_affect_the_length(tmp_path):
    """Files of all lengths are changed in the recordings that any split tests on."""
    logs, choices = write_logs(tmp_path / "logs", n=8), []
    candidates = (1.0, 2.0)

    def choose(name):
        files = {w: tmp_path / f"{name}_{w:g}.h5" for w in candidates}
        for window_s, file in files.items():
            steps._prepare(str(logs), {}, window_s, file, lambda *_: None)
        choices.append(lengths.choose_length(files, lambda *_: None))
        return files

    files = choose("before")
    kept = set(lengths._never_tested(list(files.values())))
    every = sorted(logs.glob("*/*.csv"))
    tested = [p for p in every if f"{p.parent.name}/{p.stem}" not in kept]
    assert 0 < len(tested) < len(every)
    rng = np.random.default_rng(1)
    for path in tested:
        header, *rows = path.read_text().splitlines()
        times = [row.split(",")[0] for row in rows]
        noise = rng.normal(size=(len(rows), 2))
        rows = [f"{t},{a:.3f},{b:.3f}" for t, (a, b) in zip(times, noise, strict=True)]
        path.write_text("\n".join([header, *rows]) + "\n")
    choose("after")
    assert choices[0].tried == choices[1].tried
    assert choices[0] == choices[1]


def test_a_longer_window_must_gain_more_than_one_standard_error(monkeypatch, tmp_path):
    accuracy = {1.0: [0.5, 0.6, 0.7], 2.0: [0.9, 0.2, 0.8], 5.0: [0.7, 0.8, 0.8]}
    scored = iter(accuracy.values())

    class File:
        def __init__(self, *_):
            self.stored = self
            self.recording_id = np.array(["a"])

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def take(self, rows):
            return rows

    monkeypatch.setattr(lengths, "PreparedFile", File)
    monkeypatch.setattr(lengths, "_never_tested", lambda paths: ["a"])
    monkeypatch.setattr(
        lengths, "score_groups", lambda _: dict(zip("xyz", next(scored), strict=True))
    )
    choice = lengths.choose_length(dict.fromkeys(accuracy, tmp_path), lambda *_: None)
    assert choice.window_s == 5.0
    assert [row[0] for row in choice.tried] == [1.0, 2.0, 5.0]


def test_all_questions_come_at_once_with_a_command_that_answers_them(tmp_path):
    logs, out = write_logs(tmp_path / "logs"), tmp_path / "out"
    write_logs(tmp_path / "more", n=1, labels=("rare",))
    (tmp_path / "more" / "rare").rename(logs / "rare")
    for path in logs.glob("*/*.csv"):
        _header, *rows = path.read_text().splitlines()
        rows = [",".join([*row.split(",")[1:], row.split(",")[0]]) for row in rows]
        rows = rows[::2] if path.parent.name == "calm" else rows
        path.write_text("\n".join(rows) + "\n")
    (logs / "calm" / "empty.csv").write_text("")
    code, _, error = said("run", logs, "-o", out)
    assert code == 2
    assert "5 questions are open" in error
    command = shlex.split(error.splitlines()[-1])
    options = command[3:-2]
    assert options[:4] == ["--no-header", "--time-column", "-1", "--exclude"]
    assert options[4:] == ["calm/empty,rare", "--sample-rate-hz", "10"]
    assert not out.exists()
    assert answer(*command[1:], "--window-s", "2")["window_s"] == 2
    with pytest.raises(OpenQuestionsError, match="calm/empty"):
        sensorseq.run(logs, tmp_path / "new", ReadOptions(no_header=True, time_column="-1"))


def test_recordings_that_others_contain_are_left_out_before_anything_is_trained(tmp_path):
    logs, out = write_logs(tmp_path / "logs"), tmp_path / "out"
    calm = sorted((logs / "calm").iterdir())
    shutil.copy(calm[0], logs / "calm" / "run_x.csv")
    lines = calm[1].read_text().splitlines(keepends=True)
    (logs / "calm" / "a_part.csv").write_text("".join(lines[: len(lines) * 2 // 3]))
    code, _, error = said("run", logs, "-o", out)
    assert code == 2
    assert "leave out 2 recordings that share samples with others?" in error
    command = shlex.split(error.splitlines()[-1])
    assert sorted(command[4].split(",")) == ["calm/a_part", "calm/run_x"]
    assert not out.exists()
    assert answer(*command[1:], "--window-s", "2")["evaluation"]["n_windows"] > 0


def test_recordings_without_a_channel_are_left_out_by_name_if_no_pattern_tells_them(tmp_path):
    logs = write_logs(tmp_path / "logs")
    path = sorted((logs / "calm").iterdir())[1]
    rows = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    path.write_text("\n".join(rows))
    error = said("run", logs, "-o", tmp_path / "out")[2]
    assert f"--exclude calm/{path.stem} -o" in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("names", "first_s", "is_asked"),
    [
        ({"current": "motor_{}", "speed": "wheel_{}"}, 0, True),
        ({"current": "{}-motor", "speed": "{}-wheel"}, 0, True),
        ({"current": "{}/motor", "speed": "{}/wheel"}, 0, True),
        ({"current": "{}_motor_10Hz", "speed": "{}_encoder_25Hz"}, 0, True),
        ({"current": "motor_{}", "speed": "wheel_{}"}, 9, False),  # other times
        ({"current": "north_{}", "current ": "south_{}"}, 0, False),  # the same channel
    ],
)
def test_files_of_several_sensors_are_joined(tmp_path, names, first_s, is_asked):
    logs = write_logs(tmp_path / "logs")
    for path in logs.glob("*/*.csv"):
        rows = [line.split(",") for line in path.read_text().splitlines()]
        for column, (channel, name) in enumerate(names.items(), 1):
            later = (column - 1) * first_s
            lines = [f"{float(row[0]) + later:.3f},{column}{row[1][-5:]}" for row in rows[1:]]
            file = path.parent / (name.format(path.stem) + ".csv")
            file.parent.mkdir(exist_ok=True)
            file.write_text("\n".join([f"time,{channel.strip()}", *lines]))
        path.unlink()
    code, _, error = said("run", logs, "-o", tmp_path / "out", "--window-s", "2")
    assert ("join the files of several sensors" in error) == is_asked
    if is_asked:
        assert code == 2
        command = shlex.split(error.splitlines()[-1])[2:-1]
        prepared = answer("prepare", *command, tmp_path / "windows.h5")
        assert sorted(prepared["channels"]) == ["current", "speed"]


@pytest.mark.trains
@pytest.mark.filterwarnings("default")  # the recording also stands out
def test_a_wrong_label_is_named(tmp_path):
    logs, out = write_logs(tmp_path / "logs", n=10), tmp_path / "out"
    (logs / "calm" / "run_3.csv").rename(logs / "rough" / "wrong.csv")
    made = answer("run", logs, "--window-s", "2", "-o", out)
    assert made["evaluation"]["accuracy"] > 0.8
    page = (out / "page.html").read_text()
    assert "Check the label of rough/wrong" in page
    assert "windows left out of training are right" in page
    assert f"sensorseq evaluate {out}/model.safetensors {out}/windows.h5 --folds 5" in page
    assert "4 groups, too few for an interval" in page


def test_recordings_that_stand_out_are_named_before_anything_is_trained(tmp_path, monkeypatch):
    logs = write_logs(tmp_path / "logs", n=8)
    path = logs / "calm" / "run_3.csv"
    head, *rows = (line.split(",") for line in path.read_text().splitlines())
    moved = [",".join([row[0], f"{float(row[1]) + 5:.4f}", row[2]]) for row in rows]
    path.write_text("\n".join([",".join(head), *moved]))
    monkeypatch.setattr(steps, "_make", lambda *_: None)
    with pytest.warns(UserWarning, match="calm/run_3"):
        sensorseq.run(logs, tmp_path / "out")


def test_a_column_that_repeats_the_time_of_a_short_recording_is_no_channel(tmp_path):
    logs = write_logs(tmp_path / "logs", seconds=1.25)
    for path in logs.glob("*/*.csv"):
        head, *rows = path.read_text().splitlines()
        rows = [f"{row},{1000 * float(row.split(',')[0]) + 7:g}" for row in rows]
        path.write_text("\n".join([f"{head},since", *rows]))
    assert all(row["counters"] == ["since"] for row in answer("inspect", logs)["recordings"])


def test_a_channel_that_labels_the_samples_in_every_folder_is_no_channel(tmp_path):
    logs = write_logs(tmp_path / "logs")
    for path in logs.glob("*/*.csv"):
        head, *rows = path.read_text().splitlines()
        number = path.stem[-1]
        rows = [f"{row},{number if at > 110 else 0}" for at, row in enumerate(rows)]
        path.write_text("\n".join([f"{head},motion", *rows]))
    why = refused(3, "run", logs, "-o", tmp_path / "out")
    assert "channel 'motion' looks like the label of the samples" in why


def test_a_rate_that_no_recording_can_have_is_a_question_about_the_unit(tmp_path):
    logs = write_logs(tmp_path / "logs")
    for path in logs.glob("*/*.csv"):
        head, *rows = (line.split(",") for line in path.read_text().splitlines())
        slow = [",".join([f"{100 * float(row[0]) + 0.5:.3f}", *row[1:]]) for row in rows[:9]]
        path.write_text("\n".join([",".join(head), *slow]))
    error = said("run", logs, "-o", tmp_path / "out")[2]
    assert "in which UNIT" in error
    assert "--time-unit UNIT" in error.splitlines()[-1]
    assert "--exclude" not in error.splitlines()[-1]


def test_short_recordings_are_windows_of_their_own(tmp_path):
    logs = write_logs(tmp_path / "logs", n=20, seconds=1.25)
    made = answer("run", logs, "-o", tmp_path / "out")
    assert made["window_s"] == pytest.approx(1.2)
    assert made["evaluation"]["n_windows"] == 8


def test_a_label_column_is_asked_for_and_has_few_classes(tmp_path):
    for number in range(60):
        rows = [f"{i / 20},{i % 7},s{number},{number % 2}" for i in range(100)]
        text = "\n".join(["time,current,session,label", *rows])
        (tmp_path / f"run_{number}.csv").write_text(text)
    error = said("run", tmp_path, "-o", tmp_path / "out")[2]
    assert "which column has the label of each sample? label may." in error
    assert "--label-column label" in error.splitlines()[-1]


def one_class(logs):
    shutil.rmtree(logs / "calm")


def one_recording_each(logs):
    for path in logs.glob("*/run_[1-9].csv"):
        path.unlink()


def no_labels(logs):
    for path in logs.glob("*/*.csv"):
        path.rename(logs / f"{path.parent.name}_{path.name}")
    for folder in ("calm", "rough"):
        (logs / folder).rmdir()


def no_files(logs):
    for path in logs.glob("*/*.csv"):
        path.unlink()


def few_windows(logs):
    for path in logs.glob("*/*.csv"):
        path.write_text("\n".join(path.read_text().splitlines()[:25]) + "\n")


def three_short_recordings_each(logs):
    for path in logs.glob("*/run_[3-9].csv"):
        path.unlink()
    for path in logs.glob("*/*.csv"):
        path.write_text("\n".join(path.read_text().splitlines()[:101]) + "\n")


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (one_class, [], "at least two classes"),
        (one_recording_each, [], "needs at least 3"),
        (no_labels, [], "have no labels"),
        (no_files, [], "contains no file"),
        (few_windows, [], "give only 10 windows"),
        (three_short_recordings_each, ["--window-s", "4"], "only 6 windows of 4 s"),
    ],
)
def test_recordings_that_cannot_be_used_are_one_sentence(tmp_path, spoil, options, said):
    logs = write_logs(tmp_path / "logs")
    spoil(logs)
    assert said in refused(3, "run", logs, *options, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["data", "data/logs/calm"])
def test_a_folder_above_or_below_the_classes_is_answered_with_the_right_one(tmp_path, given):
    logs = write_logs(tmp_path / "data" / "logs")
    error = refused(3, "run", tmp_path / given, "-o", tmp_path / "out")
    assert f"Did you mean {logs}? It has 2 folders." in error
    missing = refused(3, "run", tmp_path / "data" / "log", "-o", tmp_path / "out")
    assert "no such folder or file. Did you mean 'logs'?" in missing


def test_ctrl_c_leaves_whole_files_and_the_next_call_goes_on(tmp_path):
    logs, out = write_logs(tmp_path / "logs"), tmp_path / "out"
    command = [sys.executable, "-m", "sensorseq", "run", str(logs), "-o", str(out), "-q"]
    first = subprocess.Popen(
        command,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (out / "windows.h5").exists():
        assert first.poll() is None, first.stderr.read()
        time.sleep(0.01)
    windows = (out / "windows.h5").read_bytes()
    time.sleep(0.3)  # Python loses an interrupt in callbacks of weak references, as h5py has them
    first.send_signal(signal.SIGINT)
    said = first.communicate()[1]
    assert said == f"interrupted. (complete in {out}: windows.h5; the same command goes on)\n"
    assert first.returncode == 130
    assert not (out / "page.html").exists()
    assert answer("run", logs, "-o", out)["is_new"]
    assert (out / "windows.h5").read_bytes() == windows
    assert sorted(path.name for path in out.iterdir()) == FILES


def test_options_that_no_command_has_are_refused(tmp_path):
    for options in (ReadOptions(units={"current": "A"}), ReadOptions(salvage=True)):
        with pytest.raises(ArgumentError, match="use `prepare`"):
            sensorseq.run(tmp_path, tmp_path / "out", options)


def test_a_folder_in_use_is_refused(tmp_path):
    logs, out = write_logs(tmp_path / "logs"), tmp_path / "out"
    out.mkdir()
    with (
        locking(out / "run.json", run=True),
        pytest.raises(OutputError, match="another run"),
    ):
        sensorseq.run(logs, out)
    with pytest.raises(RecordingError):
        sensorseq.run(tmp_path / "nothing", out)


def test_an_error_names_the_recordings_that_cannot_be_read_if_too_few_are_left(tmp_path):
    logs = write_logs(tmp_path / "logs")
    for path in (logs / "calm").iterdir():
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, *rows[100:], *rows[:100]]))
    error = refused(3, "run", logs, "-o", tmp_path / "out")
    assert "5 of 10 recordings cannot be read. The first: " in error
    assert "Without these recordings, all recordings have the label rough" in error


def test_a_column_that_never_changes_within_a_recording_is_asked_for(tmp_path):
    logs = write_logs(tmp_path / "logs", channels=("current", "speed"))
    for number, path in enumerate(sorted(logs.glob("*/*.csv"))):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([f"{head},run", *(f"{row},{number}" for row in rows)]))
    error = said("run", logs, "-o", tmp_path / "out")[2]
    assert "leave out channels that never change within a recording (run)?" in error
    assert "--channels current,speed" in error.splitlines()[-1]
    chosen = ReadOptions(channels=["current", "speed", "run"])
    made = sensorseq.run(logs, tmp_path / "out", chosen, window_s=2)
    assert made.summary.channels == ("current", "speed", "run")
