import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from checkout import ROOT, run_process, tree_of
from commands import answer, refused, said, succeed, write_logs
from fits import plain_classifier
from limited_files import run_limited
from page_reader import Reader, in_notebook

from sensorseq import SensorLSTMClassifier
from sensorseq.cli import main, self_check
from sensorseq.cli.app import CODES, GROUPS, app
from sensorseq.cli.models import rerun_command
from sensorseq.diagnosis.report_text import banner_words, list_steps, settings_as_options
from sensorseq.errors import RecordingError
from sensorseq.evaluation import inspect
from sensorseq.io.model_file import read_model, write_model
from sensorseq.io.prepared import read_windows, write_windows
from sensorseq.learners.all_windows import N_FOLDS
from sensorseq.ops import choice, cuda_kernels
from sensorseq.ops.cuda_kernels import ALL_KERNELS, NOT_PASSED, Permission

COMMANDS = [name for names in GROUPS.values() for name in names]
FAST = ("--set", "hidden_size=8", "--max-epochs", "12", "--set", "learning_rate=0.02", "-q")
PLAIN = (*FAST, "--set", "features=none", "--set", "refit=none")
ALONE = (*PLAIN, "--no-compare")


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return write_logs(tmp_path_factory.mktemp("robot logs") / "Läufe")


@pytest.fixture(scope="module")
def prepared(logs, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "windows.h5"
    succeed("prepare", logs, "--window-s", "1", "-o", path, "-q")
    return path


@pytest.fixture(scope="module")
def model(prepared, tmp_path_factory):
    """Train a model with features and a refit, which are the defaults."""
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    succeed("train", prepared, "-o", path, *FAST)
    return path


@pytest.fixture(scope="module")
def plain(prepared, tmp_path_factory):
    """Train a single network for three epochs, for tests that train it again in folds."""
    path = tmp_path_factory.mktemp("plain") / "model.safetensors"
    succeed("train", prepared, "-o", path, *ALONE, "--max-epochs", "3")
    return path


# The commands from recordings to predictions.


def test_prepare_train_evaluate_predict(logs, prepared, model):
    found = answer("evaluate", model, prepared)
    assert {"balanced_accuracy", "macro_f1"} <= found.keys()
    assert found["classes"] == ["calm", "rough"]
    assert found["accuracy"] > 0.9
    baselines = {"majority", "ridge", "gradient_boosting", "rocket_ridge"}
    assert set(found["baselines"]) == baselines
    assert all(0 < b["difference"]["accuracy"]["p_value"] <= 1 for b in found["baselines"].values())
    test = read_windows(prepared).part("test")
    assert np.sum(found["confusion_matrix"]) == len(test)
    assert found["accuracy"] == SensorLSTMClassifier.load(model).score(test)

    predicted = answer("predict", model, logs / "rough" / "run_1.csv", logs / "calm")
    first, *others = predicted["recordings"]
    assert (first["label"], first["n_windows"]) == ("rough", 12)
    assert [one["label"] for one in others] == ["calm"] * 5
    assert len(first["windows"]) == 12
    assert sum(first["probability"].values()) == pytest.approx(1)


def write_drive(logs, path, parts=(("calm", 1), ("rough", 1))):
    """Write one recording that joins several drives of 12 s each, with a column for the surface."""
    lines = ["time,current,speed,ground"]
    for number, (label, i) in enumerate(parts):
        for line in (logs / label / f"run_{i}.csv").read_text().splitlines()[1:]:
            time_s, rest = line.split(",", 1)
            lines.append(f"{float(time_s) + 12 * number:.2f},{rest},{label}")
    path.write_text("\n".join(lines))
    return path


def test_predict_prints_stretches_and_writes_them_as_a_table(logs, model, tmp_path):
    drive = write_drive(logs, tmp_path / "drive.csv")
    spans, page = tmp_path / "spans.csv", tmp_path / "drive.html"
    asked = ["predict", model, drive, "--mean-dwell-s", 8, "--csv", spans, "--html", page]
    (found,) = answer(*asked)["recordings"]
    shown = [(s["label"], s["start_s"], s["end_s"]) for s in found["spans"]]
    assert shown == [("calm", 0, 12), ("rough", 12, 24)]
    rows = list(csv.DictReader(spans.read_text().splitlines()))
    written = [(row["recording"], row["label"], row["runner_up"]) for row in rows]
    assert written == [("drive", "calm", "rough"), ("drive", "rough", "calm")]
    late = tmp_path / "late.csv"
    head, *lines = drive.read_text().splitlines()
    moved = (line.split(",", 1) for line in lines)
    late.write_text("\n".join([head, *(f"{float(t) + 1e9:.2f},{rest}" for t, rest in moved)]))
    answer(*asked[:2], late, *asked[3:], "--absolute-time")
    stamped = list(csv.DictReader(spans.read_text().splitlines()))
    assert [float(row["start_s"]) for row in stamped] == [1e9, 1e9 + 12]
    assert "--absolute-time" in refused(2, *asked[:3], "--absolute-time")
    answer(*asked)
    assert 'aria-label="predicted classes of drive"' in page.read_text("utf-8")
    assert "true classes" not in page.read_text("utf-8")
    answer(*asked, "--label-column", "ground", "--hop-s", 0.5)
    assert 'aria-label="true classes of drive"' in page.read_text("utf-8")
    halves = answer(*asked, "--hop-s", 0.5)["recordings"][0]
    assert halves["n_windows"] == 47
    assert halves["spans"][0]["start_s"] == 0
    assert "--hop-s" in refused(2, *asked[:3], "--hop-s", 0)
    summary = "calm 50.0 % of the time, rough 50.0 % of the time, in 2 segments"
    shown = succeed(*asked, "--label-column", "ground", drive, "-q")
    assert summary in shown
    assert "  24 of 24 windows agree with the labels (100.0 %); 24 without smoothing\n" in shown
    assert "2 recordings with labels: 48 of 48 windows agree" in shown
    assert shown.endswith(
        f"page written to {page}, replacing the earlier file\n"
        f"segments written to {spans}, replacing the earlier file\n"
    )
    alone = answer("predict", model, drive, "--smooth", "none")["recordings"][0]
    own = [max(window["probability"], key=window["probability"].get) for window in alone["windows"]]
    assert sum(span["n_windows"] for span in alone["spans"]) == len(own) == 24
    assert "--mean-dwell-s" in refused(2, *asked[:4], 0.5)
    lagging = ["--smooth", "lag", "--mean-dwell-s", "8"]
    code, out, err = said("stream", model, "--replay", drive, *lagging)
    assert code == 0
    assert "decisions come 3 s after their windows end" in err
    labels = [json.loads(line)["label"] for line in out.splitlines()]
    assert labels == ["calm"] * 12 + ["rough"] * 12


def test_evaluate_scores_drives_over_time(logs, model, tmp_path):
    (tmp_path / "drives").mkdir()
    for i in (1, 2, 3):
        write_drive(logs, tmp_path / "drives" / f"drive_{i}.csv", (("calm", i), ("rough", i)))
    made, page = tmp_path / "drives.h5", tmp_path / "page.html"
    given = ["--label-column", "ground", "--window-s", "1", "--split", "none", "-q"]
    succeed("prepare", tmp_path / "drives", "-o", made, *given)
    asked = ["evaluate", model, made, "--include-seen", "--mean-dwell-s", 8, "--report", page]
    found = answer(*asked)["drives"]
    assert (found["n_recordings"], found["smooth"]) == (3, "marginals")
    scores = found["scores"]["smoothed"]
    assert scores["accuracy"]["value"] == scores["f1"]["value"] == 1
    assert scores["false_switches_per_h"] == {"value": 0, "interval": None}
    assert page.read_text("utf-8").count('class="strip"') == 6
    assert "--smooth" in refused(2, *asked[:3], "--smooth", "much")


def test_folds_cover_every_window(prepared, plain):
    found = answer("evaluate", plain, prepared, "--folds", "3", "--no-baselines")
    assert np.sum(found["confusion_matrix"]) == len(read_windows(prepared))
    assert len(found["fold_accuracy"]) == 3
    assert found["fold_accuracy_mean"] == pytest.approx(np.mean(found["fold_accuracy"]))
    assert found["fold_accuracy_sd"] == pytest.approx(np.std(found["fold_accuracy"], ddof=1))


def test_steps_are_repeated_in_prediction(logs, tmp_path):
    prepared, model = tmp_path / "derived.h5", tmp_path / "derived.safetensors"
    config = tmp_path / "steps.toml"
    product = '[[steps]]\nkind = "product"\nleft = "current"\nright = "speed"\n'
    config.write_text('[[steps]]\nkind = "difference"\n' + product, "utf-8")
    words = ["--window-s", 2, "--config", config, "--split", "0.5,0.25,0.25", "--train-hop-s", 0.5]
    text = succeed("prepare", logs, "-o", prepared, "-q", *words)
    assert "current_times_speed" in text
    assert max(map(len, text.replace(str(tmp_path), "").splitlines())) <= 80
    succeed("train", prepared, "-o", model, *ALONE)
    found = answer("predict", model, logs / "calm" / "run_0.csv")
    windows = read_windows(prepared)
    own = windows.take(windows.recording_id == "calm/run_0")
    named = {w["start_s"]: w["probability"]["calm"] for w in found["recordings"][0]["windows"]}
    expected = SensorLSTMClassifier.load(model).predict_proba(own)[:, 0]
    both = [(named[s], p) for s, p in zip(own.start_s, expected, strict=True) if s in named]
    assert len(both) == 6
    np.testing.assert_array_equal(*np.transpose(both))
    text = succeed("evaluate", model, prepared, "--folds", "2", "--no-baselines", "-q")
    assert "tested on windows every 2 s" in " ".join(text.split())
    assert "are not in the train part of this file" in " ".join(text.split())
    assert "mean of the fold accuracies: " in text
    assert "60 windows" in text  # 10 recordings of 12 s
    assert max(map(len, text.splitlines())) <= 80


def test_text_output_fits_eighty_columns(logs, prepared, model, in_tmp_path):
    for source, name in ((prepared, "w.h5"), (model, "m.safetensors")):
        Path(name).write_bytes(source.read_bytes())
    Path("logs").symlink_to(logs)
    for arguments in (
        ["evaluate", "m.safetensors", "w.h5"],
        ["predict", "m.safetensors", "logs/calm/run_0.csv"],
        ["predict", "m.safetensors", "logs/calm/run_0.csv", "--windows"],
        ["info", "m.safetensors"],
        ["info", "w.h5"],
        ["info"],
        ["inspect", "logs"],
        ["prepare", "logs", "--window-s", "1", "-o", "again.h5"],
        ["train", "w.h5", "-o", "n.safetensors", *FAST, "--max-epochs", "2"],
    ):
        lines = succeed(*arguments).splitlines()
        assert lines
        assert max(map(len, lines)) <= 80, (arguments, lines)


@pytest.mark.parametrize(
    ("capability", "verified", "served"),
    [
        ((9, 0), ALL_KERNELS, ["native", "native", "framework"]),
        ((9, 0), {("fp16x3", 128)}, ["framework", "native", "framework", "framework"]),
        ((12, 0), ALL_KERNELS, ["native", "framework"]),
        (None, ALL_KERNELS, ["framework"]),
    ],
)
def test_info_lists_which_implementation_serves_each_case(
    capability, verified, served, monkeypatch
):
    monkeypatch.setattr(choice, "_capability", lambda index: capability)
    monkeypatch.setattr(choice, "_is_built", lambda version: True)
    permission = Permission(frozenset(verified), NOT_PASSED)
    monkeypatch.setattr(cuda_kernels, "permission", lambda index: permission)
    with choice.allowing_tf32(False):
        rows, text = json.loads(succeed("info", "--json"))["served"], succeed("info")
    on_cpu = [(row["dtype"], row["served_by"]) for row in rows if row["device"] == "cpu"]
    assert on_cpu == [("float32", "native"), ("float64", "native"), ("half", "framework")]
    of_float32 = [r for r in rows if r["device"] != "cpu" and r["dtype"] == "float32"]
    assert [row["served_by"] for row in of_float32] == served
    assert max(map(len, text.splitlines())) <= 80
    for row in rows:
        assert any(all(str(v) in line for v in row.values()) for line in text.splitlines())


def test_training_never_reads_the_test_part(prepared, tmp_path):
    windows = read_windows(prepared)
    X = windows.X.copy()
    X[windows.split == "test"] = np.nan
    file, out, found = tmp_path / "w.h5", tmp_path / "m", []
    for given in (windows, replace(windows, X=X)):
        write_windows(file, given)
        succeed("train", file, "-o", out, *FAST, "--no-compare", "--max-epochs", "1")
        found.append(SensorLSTMClassifier.load(out).predict_proba(windows))
    np.testing.assert_array_equal(*found)


def test_settings_reach_the_classifier(prepared, tmp_path):
    path = tmp_path / "m"
    settings = "pooling=last dropout=0.25 bidirectional=true batch_size=none"
    settings += " optimizer_params={eps=1e-6}"
    typed = (word for setting in settings.split() for word in ("--set", setting))
    succeed("train", prepared, "-o", path, *ALONE, "--max-epochs", "1", "--patience", "3", *typed)
    got = SensorLSTMClassifier.load(path).get_params()
    assert (got["pooling"], got["dropout"], got["bidirectional"]) == ("last", 0.25, True)
    assert (got["batch_size"], got["optimizer_params"]) == (None, {"eps": 1e-6})
    assert (got["early_stopping"], got["patience"], got["random_state"]) == (True, 3, 0)


def test_every_option_of_prepare_reaches_it(logs, tmp_path, monkeypatch):
    import sensorseq.prepare

    given = {}

    def fake(source, output, **arguments):
        typed = {name: value for name, value in arguments.items() if value is not None}
        given.update(typed, source=source, output=output)
        raise RecordingError("that was all")

    monkeypatch.setattr(sensorseq.prepare, "prepare", fake)
    line = (
        "--time-column clock --files pro_*.csv --files imu_*.csv --labels A,B --labels C"
        " --exclude D,E --channels x,y --sample-rate-hz 6.5 --window-s 5 --hop-s 2.5"
        " --max-gap-s 0.4 --split 0.5,0.2,0.3 --jobs 3 --resume --on-error skip --allow-scales"
        " --allow-constant"
        " --config file.toml --pair {sensor}_{recording}.* --scale robust --balance undersample"
        " --seed 7 --train-hop-s 0.5 --short pad --stamps merge --label-column ground"
        " --label-rule majority --min-purity 0.8 --split-by recording --normalize recording"
        " -o out.h5 --engine dask --scheduler tcp://host:8786"
    )
    assert "that was all" in refused(3, "prepare", logs, *line.split())
    assert callable(given.pop("progress"))
    assert given == {
        "source": str(logs),
        "output": "out.h5",
        "engine": "dask",
        "scheduler": "tcp://host:8786",
        "time_column": "clock",
        "files": ["pro_*.csv", "imu_*.csv"],
        "labels": ["A", "B", "C"],
        "exclude": ["D", "E"],
        "channels": ["x", "y"],
        "sample_rate_hz": 6.5,
        "window_s": 5.0,
        "hop_s": 2.5,
        "max_gap_s": 0.4,
        "split": [0.5, 0.2, 0.3],
        "jobs": 3,
        "resume": True,
        "on_error": "skip",
        "allow_scales": True,
        "allow_constant": True,
        "config": Path("file.toml"),
        "pair": "{sensor}_{recording}.*",
        "scale": "robust",
        "balance": "undersample",
        "random_state": 7,
        "train_hop_s": 0.5,
        "short": "pad",
        "stamps": "merge",
        "label_column": "ground",
        "label_rule": "majority",
        "min_purity": 0.8,
        "split_by": "recording",
        "normalize": "recording",
    }


def test_the_page_is_written(prepared, model, plain, tmp_path):
    page = tmp_path / "page.html"
    for command, text in (
        (["train", prepared, "-o", tmp_path / "m", *PLAIN, "--max-epochs", 2], "<!DOCTYPE html>"),
        (["evaluate", plain, prepared, "--folds", 2, "--no-baselines"], "2 folds of whole groups"),
        (["evaluate", model, prepared], "gradient boosting"),
    ):
        assert f"report written to {page}" in succeed(*command, "--report", page, "-q")
        assert text in page.read_text("utf-8")


def test_ctrl_c_skips_the_comparison_with_baselines(prepared, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sensorseq.evaluation.fit_page.compare_on_validation", interrupted)
    page, out = tmp_path / "fit.html", tmp_path / "m"
    typed = ["--max-epochs", 2, "--report", page]
    code, _, err = said("train", prepared, "-o", out, *PLAIN, *typed)
    assert code == 0
    assert out.exists()
    text = Reader(page.read_text("utf-8")).text
    assert "Scores" in text
    assert "majority class" not in text
    assert err.count("comparison with baselines was stopped") == 1


def flat(text):
    """Return a string as one line, with plus-minus always written in the same way."""
    return " ".join(text.replace("+-", "±").split())


@pytest.mark.trains
def test_the_page_the_text_the_notebook_and_the_command_say_the_same(
    prepared, tmp_path, monkeypatch
):
    with_scale = {"scale": "standard"}  # a setting that the user did not type
    monkeypatch.setattr(
        "sensorseq.cli.train.with_scale", lambda given, path: {**given, **with_scale}
    )
    windows = read_windows(prepared)
    X = windows.X.copy()
    X[..., 1] += np.sin(np.arange(X.shape[1]))  # a ramp would be taken for a clock
    prepared, page, out = (tmp_path / name for name in ("w.h5", "fit.html", "model"))
    write_windows(prepared, replace(windows, X=X))
    hot = {"learning_rate": 0.5, "optimizer": "rmsprop", "lr_schedule": "constant"}
    hot |= {"max_epochs": 40, "hidden_size": 8, "features": None, "refit": None}
    given = settings_as_options(hot)
    command = ["train", str(prepared), "-o", str(out), *shlex.split(given)]
    printed = flat(
        succeed(*command, "--report", page, "-q").replace(" \\\n", "\n")
    )  # the continued lines form a single command
    report = SensorLSTMClassifier.load(out).fluctuation_
    assert report.verdict != "normal"
    first = report.causes[0]
    rerun = rerun_command(hot, str(prepared), str(out), f" --report {page}")
    step, *_ = list_steps(report, rerun)
    assert step.code
    html = page.read_text("utf-8")
    shown, notebook = Reader(html).text, Reader(in_notebook(report)).text
    for text in (printed, shown, notebook, flat(str(report))):
        assert banner_words(report).lower() in text.lower()
        assert first.title in text
        assert flat(step.text) in flat(text)
        is_command = text in (printed, shown)
        assert (flat(step.code) in flat(text)) != is_command
    assert flat(step.command) in printed
    assert flat(step.command) in shown
    assert "majority class" in shown
    assert "clf." not in shown
    succeed("evaluate", out, prepared, "--no-baselines", "--report", page)
    shown = Reader(page.read_text("utf-8")).text
    assert shown.index("Scores") < shown.lower().index(banner_words(report).lower())
    assert "clf." not in shown
    assert "sensorseq train H5 -o " in shown


# Impossible commands.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("evaluate {model}", "Missing argument"),
        ("train {prepared}", "Missing option"),
        ("train {prepared} -o {out} --set poolin=last", "Did you mean pooling"),
        ("train {prepared} -o {out} --motors curL", "give CURRENT:SPEED for each motor"),
        ("train {prepared} -o {out} --motors curX:velX", "'curX', which is not a channel"),
        ("train {prepared} -o {out} --set pooling", "give NAME=VALUE"),
        ("train {prepared} -o {out} --set n_models=0", "n_models=0"),
        ("train {prepared} -o {prepared}", "would be overwritten"),
        ("prepare {logs} -o {out}", "--window-s is not given"),
        ("prepare {logs} -o {out} --window-s 1 --split a,b", "0.6,0.2,0.2"),
        ("prepare {logs} -o {out} --window-s 1 --exclude clam", "'calm'"),
        ("prepare {logs} -o {out} --window-s one", "--window-s"),
        ("evaluate {model} {prepared} --folds 1", "--folds"),
        ("no-such-command", "No such command"),
    ],
)
def test_an_invalid_command_line_is_code_2(line, message, logs, prepared, model, tmp_path):
    known = {"logs": logs, "prepared": prepared, "model": model}
    known |= {"out": tmp_path / "out", "new": tmp_path / "new"}
    before = prepared.read_bytes()
    assert message in refused(2, *(word.format(**known) for word in line.split()))
    assert prepared.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign", "folder"])
@pytest.mark.parametrize("which", ["model", "prepared"])
def test_a_file_that_cannot_be_read_is_named(which, damage, prepared, model, tmp_path):
    files = {"model": model, "prepared": prepared}
    bad = tmp_path / "schlechte Datei.bin"
    content = files[which].read_bytes()
    if damage == "folder":
        bad.mkdir()
    elif damage != "missing":
        half = content[: len(content) // 2]
        bad.write_bytes({"empty": b"", "truncated": half, "foreign": b"PNG" * 99}[damage])
    files[which] = bad
    assert str(bad) in refused(3, "evaluate", *files.values(), "-q")
    if which == "prepared":
        assert str(bad) in refused(3, "train", bad, "-o", tmp_path / "m", "-q")
        assert not (tmp_path / "m").exists()
    error = refused(3, "info", bad)
    assert str(bad) in error
    assert ("is not a model of sensorseq. Give a model" in error) == (damage == "foreign")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,current,speed\n0,1,2\n0.05,oops,2\n", "oops"),
        ("time,current\n0,1\n0.05,1\n", "the model needs current, speed; if other"),
        (
            "time,current,speed\n0,1,2\n0.05,1,2\n0.1,1,2\n",
            "needs windows of 1 s, and none fits in this recording of 0.1 s. Record",
        ),
        ("time,current,speed\n0,,2\n0.05,,2\n0.1,,2\n", "current"),
    ],
)
def test_a_recording_that_cannot_be_predicted_is_named(text, message, model, tmp_path):
    file = tmp_path / "neue Fahrt ü.csv"
    file.write_text(text)
    error = refused(3, "predict", model, file, "-q")
    assert str(file) in error
    assert message in error


def test_files_of_the_wrong_kind_are_recognized(prepared, model, tmp_path):
    assert "MODEL comes first" in refused(3, "evaluate", prepared, model)
    assert "MODEL comes first" in refused(3, "predict", prepared, model)
    assert "sensorseq evaluate" in refused(3, "predict", model, prepared)
    assert "sensorseq info" in refused(3, "inspect", prepared)
    again = ["prepare", prepared, "--window-s", "2", "-o", tmp_path / "x.h5"]
    assert "contains prepared windows; give the recordings" in refused(3, *again)
    message = refused(3, "train", model, "-o", tmp_path / "m")
    assert "not an HDF5 file" in message
    for text in (message, refused(3, "train", tmp_path, "-o", tmp_path / "m")):
        assert "not a prepared file; make one from recordings with `sensorseq prepare`" in text


def test_a_model_of_arrays_predicts_no_recordings(logs, prepared, tmp_path):
    windows = read_windows(prepared)
    path = tmp_path / "m"
    classifier = plain_classifier(hidden_size=4, max_epochs=1, device="cpu")
    classifier.fit(windows.X, windows.y, groups=windows.groups).save(path)
    assert "trained on arrays" in refused(3, "predict", path, logs / "calm/run_0.csv")


def test_problems_that_weaken_a_prediction_are_reported(logs, prepared, model, tmp_path):
    windows = read_windows(prepared)
    seen = str(windows.part("train").recording_id[0])
    (found,) = answer("predict", model, logs / f"{seen}.csv")["recordings"]
    (note,) = found["notes"]
    assert "was trained on this recording" in note
    lines = (logs / f"{seen}.csv").read_text().splitlines()
    slow = tmp_path / "slow.csv"
    slow.write_text("\n".join([lines[0], *lines[1::4]]) + "\n")
    (found,) = answer("predict", model, slow)["recordings"]
    assert "recorded at 5 Hz, below the 20 Hz" in found["notes"][0]


def test_windows_outside_the_training_range_are_reported_counted_and_refused(
    logs, prepared, model, plain, tmp_path
):
    """One recording is in mA, but the others are in A."""
    lines = [line.split(",") for line in (logs / "calm/run_0.csv").read_text().splitlines()]
    rows = [[time, str(1000 * float(current)), speed] for time, current, speed in lines[1:]]
    milli = tmp_path / "milli.csv"
    milli.write_text("\n".join(",".join(row) for row in [lines[0], *rows]) + "\n")
    message = "12 of 24 windows lie outside what the model was trained on: channel 'current' varies"
    command = ["predict", model, logs / "calm/run_1.csv", milli]
    code, out, err = said(*command, "--json")
    assert code == 0
    assert err.startswith(f"warning: {message}")
    assert "its unit is perhaps 1000 times smaller, such as mA where training had A." in err
    inside, outside = json.loads(out)["recordings"]
    assert (inside["n_outside"], outside["n_outside"]) == (0, 12)
    assert outside["notes"][0].startswith("12 of 12 windows lie outside")
    assert succeed(*command).count("outside what the model was trained on") == 1
    assert message in refused(3, *command, "--strict")
    code, _, err = said(*command[:-1], "--strict")
    assert (code, err) == (0, "")

    windows = read_windows(prepared)
    is_test = windows.split == "test"
    wrong = replace(windows, X=np.where(is_test[:, None, None], [1000.0, 1.0], 1.0) * windows.X)
    write_windows(tmp_path / "wrong.h5", wrong)
    command = ["evaluate", model, tmp_path / "wrong.h5", "--no-baselines"]
    code, out, err = said(*command, "--json")
    assert code == 0
    assert json.loads(out)["n_outside"] == is_test.sum()
    assert f"{is_test.sum()} of {is_test.sum()} windows lie outside" in err
    assert "windows lie outside" in refused(3, *command, "--strict")
    succeed(*command[:2], prepared, "--no-baselines", "--strict")
    assert answer("evaluate", plain, prepared, "--no-baselines", "--folds", "2")["n_outside"] == 0


def test_strict_needs_a_model_with_ranges(logs, model, tmp_path):
    arrays, description = read_model(model)
    old = tmp_path / "old.safetensors"
    write_model(old, {k: v for k, v in arrays.items() if "ranges." not in k}, description)
    command = ["predict", old, logs / "calm/run_0.csv"]
    assert answer(*command)["recordings"][0]["n_outside"] is None
    message = refused(3, *command, "--strict")
    assert f"{old}: the model does not have the ranges" in message
    assert "Fit it again." in message


def test_seen_recordings_are_refused_by_their_content(logs, prepared, model, tmp_path):
    """A recording prepared again with a different name and seed is still recognized."""
    copy = tmp_path / "copy"
    for file in logs.rglob("*.csv"):
        target = copy / file.parent.name / f"renamed_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    again = tmp_path / "again.h5"
    succeed("prepare", copy, "--window-s", "1", "-o", again, "--split", "none")
    error = refused(3, "evaluate", model, again, "-q")
    assert "was trained on 8 of the 10 test recordings" in error
    assert "renamed_run" in error
    assert answer("evaluate", model, again, "--include-seen")["seen_recordings"]


@pytest.mark.long
@pytest.mark.parametrize("command", ["prepare", "train", "evaluate"])
def test_a_full_disk_leaves_nothing_half_written(command, logs, prepared, model, tmp_path):
    out = tmp_path / "neue Datei"
    arguments = {
        "prepare": ["prepare", logs, "--window-s", "1", "-o", out],
        "train": ["train", prepared, "-o", out, *FAST],
        "evaluate": ["evaluate", model, prepared, "--no-baselines", "--report", out],
    }[command]
    command_line = [sys.executable, "-m", "sensorseq.cli", *map(str, arguments)]
    done = run_limited(command_line, 2000, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 4, done.stderr
    assert str(out) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["neue Datei.parts"] if command == "prepare" and left else [])


def test_inspect_lists_unreadable_files(tmp_path):
    root = write_logs(tmp_path / "logs", n=2)
    (root / "calm" / "run_9.csv").write_text("time,current,speed\n0,1,2\n0.05,x,2\n")
    code, out, _ = said("inspect", root, "--json", "-q")
    assert code == 3
    found = json.loads(out)
    assert found["n_errors"] == 1
    (bad,) = [row for row in found["recordings"] if "error" in row]
    assert "run_9.csv" in bad["error"]
    good = next(row for row in found["recordings"] if "error" not in row)
    assert good["sample_rate_hz"] == pytest.approx(20)
    assert [channel["name"] for channel in good["channels"]] == ["current", "speed"]


# The process.


def test_the_command_line_does_not_change_the_environment():
    before = dict(os.environ)
    with pytest.raises(SystemExit):
        main(["info"])
    assert dict(os.environ) == before


def test_help_and_prepare_never_import_torch(logs, tmp_path):
    line = ["prepare", logs, "--window-s", "1", "-o", tmp_path / "w.h5", "--jobs", "1"]
    lines = [["--help"], *([name, "--help"] for name in COMMANDS), [str(word) for word in line]]
    code = (
        "import sys; from sensorseq.cli import run\n"
        f"for line in {lines}:\n"
        "    code = run(line)\n"
        "    heavy = [m for m in ('torch', 'sklearn', 'pyarrow', 'rich') if m in sys.modules]\n"
        "    print(code, *heavy, file=sys.stderr)"
    )
    *of_help, of_prepare = run_process(sys.executable, "-c", code).stderr.splitlines()
    assert of_help[: len(COMMANDS) + 1] == ["0"] * (len(COMMANDS) + 1)
    assert of_prepare.split()[0] == "0"
    assert "torch" not in of_prepare
    assert (tmp_path / "w.h5").exists()


def test_the_version_is_printed_and_no_command_prints_the_help():
    assert re.fullmatch(r"sensorseq \d+\.\d+\.\d+\n", succeed("--version"))
    assert succeed("-V") == succeed("--version")
    code, _, err = said()
    assert (code, "Start:" in err) == (2, True)


def test_the_help_lists_every_command_in_one_group_by_what_one_wants(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert sorted(COMMANDS) == sorted(typer.main.get_command(app).commands)
    text = succeed("--help")
    assert re.findall(r"^  ([a-z]+) +[A-Z]", text, re.MULTILINE) == COMMANDS
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "..." not in text.split("Start:")[1]


def test_the_help_and_the_page_list_the_commands_and_exit_codes_of_the_program():
    of_help = succeed("--help").split("Exit codes:")[1]
    assert {int(line[:8]): line[8:].strip() for line in of_help.splitlines() if line} == CODES
    page = (ROOT / "docs" / "api" / "cli.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| ([\w ]+) \| (.+) \|$", page, re.MULTILINE))
    groups = {name: tuple(re.findall(r"`(\w+)`", rows.pop(name))) for name in GROUPS}
    assert groups == GROUPS
    assert [rows.pop("group"), rows.pop("exit code")] == ["commands", "meaning"]
    assert [int(code) for code in rows] == list(CODES)
    assert [text for code, text in rows.items() if not text.startswith(CODES[int(code)])] == []


def test_the_program_ends_with_each_exit_code_of_the_table(monkeypatch, tmp_path):
    def fails(error):
        def describe():
            raise error

        return describe

    (tmp_path / "log.csv").write_text("epoch,loss,val_loss\n0,1,1\n1,0.5,0.6\n2,nan,nan\n")
    ended = [
        said(*words)[0]
        for words in (
            ["info"],
            ["infos"],
            ["info", tmp_path / "none"],
            ["diagnose", tmp_path / "log.csv", "--fail-on", "mild"],
        )
    ]
    failed = self_check.CheckResult("training", "failed", "")
    monkeypatch.setattr(self_check, "check_installation", lambda: [failed])
    ended.append(said("doctor", "--self")[0])
    for error in (MemoryError(), KeyboardInterrupt()):
        monkeypatch.setattr(inspect, "describe_installation", fails(error))
        ended.append(said("info")[0])
    assert ended == [0, 2, 3, 10, 1, 4, 130]
    assert sorted(ended) == list(CODES)


def test_commands_exit_with_named_codes():
    trees = [tree_of(path) for path in (ROOT / "sensorseq" / "cli").glob("*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    exits = [call for call in calls if ast.unparse(call.func) in ("typer.Exit", "sys.exit")]
    given = {ast.unparse(value) for call in exits for value in call.args}
    assert given == {
        *("FAILED", "BAD_INPUT", "GATE"),
        "run(sys.argv[1:] if arguments is None else arguments)",
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_fits_eighty_columns(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = succeed(command, "--help")
    assert f"sensorseq {command}" in text.split("Example:")[1]
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_module_is_the_command_and_stdout_is_one_object(prepared, model, capsys):
    info = [sys.executable, "-m", "sensorseq", "info"]
    done = run_process(*info, model, "--json")
    assert done.returncode == 0
    described = json.loads(done.stdout)
    assert described["kind"] == "model"
    assert sum(described["shares"].values()) == pytest.approx(1)
    for name, share in described["shares"].items():
        assert f"{name} {100 * share:.0f} %" in flat(succeed("info", model))
    with pytest.raises(SystemExit) as ended:
        main(["info", f"{model}x"])
    assert (ended.value.code, capsys.readouterr().out) == (3, "")


@pytest.mark.long
def test_a_reader_that_closes_the_pipe_is_not_an_error(prepared, model, logs):
    command = f"{sys.executable} -m sensorseq.cli predict '{model}' '{logs}' --windows -q | head -1"
    assert run_process("bash", "-o", "pipefail", "-c", command).stderr == ""


@pytest.mark.parametrize(("how", "kind"), [("robust", "robust"), ("none", "standard")])
def test_training_scales_as_the_file_was_prepared(tmp_path, how, kind):
    folder, windows, model = tmp_path / "logs", tmp_path / "w.h5", tmp_path / "m"
    write_logs(folder)
    succeed("prepare", folder, "--window-s", "2", "--scale", how, "-o", windows)
    succeed("train", windows, "-o", model, *ALONE, "--max-epochs", "1")
    assert SensorLSTMClassifier.load(model).scaler_.kind == kind


# Mistakes of new users.


@pytest.mark.long
def test_a_training_run_survives_if_nobody_reads_its_progress(prepared, tmp_path):
    out = tmp_path / "m"
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from sensorseq.cli import main; sys.exit(main())"
    command = ["train", str(prepared), "-o", str(out), "--max-epochs", "3"]
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        stdout=subprocess.DEVNULL,
        stderr=write,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    os.close(write)
    assert (done.returncode, out.is_file()) == (0, True)


def test_the_error_for_a_folder_without_matching_files_says_to_give_the_files(logs, tmp_path):
    named = ["--files", "run_*.csv", "--window-s", "1"]
    succeed("prepare", logs, *named, "-o", tmp_path / "w.h5", "-q")
    succeed("train", tmp_path / "w.h5", "-o", tmp_path / "m", *ALONE, "--max-epochs", "1")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "drive.csv").write_bytes((logs / "calm" / "run_0.csv").read_bytes())
    message = refused(3, "predict", tmp_path / "m", tmp_path / "new")
    assert "give the files instead of the folder" in message
    succeed("predict", tmp_path / "m", tmp_path / "new" / "drive.csv")


# Lines about features that `train` prints


@pytest.mark.usefixtures("lstm_is_used")
@pytest.mark.trains
def test_train_says_what_the_linear_layer_uses_and_what_was_trained_on(prepared, tmp_path):
    model = tmp_path / "model.safetensors"
    text = succeed("train", prepared, "-o", model, *FAST)
    loaded = SensorLSTMClassifier.load(model)
    choice, words = loaded.features_, " ".join(text.split())
    accuracy = {tried.name: 100 * tried.accuracy for tried in choice.candidates}
    assert f"{accuracy['together']:.1f} % of {choice.n_windows} windows left out" in words
    share = f"{100 * choice.lstm_share:.0f} % of the weight"
    assert f"LSTM ({share}, alone {accuracy['lstm']:.0f} % right)" in words
    assert loaded.refitted_
    assert len(loaded.modules_) == N_FOLDS
    assert f"networks of {N_FOLDS} folds, which together were trained on all windows" in words
    assert max(map(len, text.splitlines())) <= 80 + len(str(model))


@pytest.mark.usefixtures("lstm_adds_nothing")
@pytest.mark.trains
def test_train_says_when_the_features_decide_alone(prepared, tmp_path):
    model = tmp_path / "model.safetensors"
    words = " ".join(succeed("train", prepared, "-o", model, *FAST).split())
    assert "The LSTM adds nothing to the features here, so the features decide alone." in words
    assert "The LSTM has no weight, so its curve means nothing for the model." in words
    code, _, err = said("diagnose", model, "--fail-on", "mild")
    assert code == 0
    assert "the LSTM has no weight in this model, so --fail-on does not apply" in err


def test_export_to_c_takes_units_and_a_prefix_and_creates_no_folder_but_its_own(model, tmp_path):
    line = ["export", model, "--format", "c", "-o", tmp_path / "c"]
    succeed(*line, "--prefix", "wheel", "--units", "current=mA,speed=m/s")
    assert (tmp_path / "c" / "wheel_model.h").exists()
    assert "NAME=UNIT" in refused(2, *line, "--units", "current")
    missing = tmp_path / "none"
    assert f"{missing} is missing" in refused(3, *line[:-1], missing / "c")
    onnx = ["export", model, "-o", tmp_path / "m.onnx", "--prefix", "wheel"]
    assert "--prefix does not apply" in refused(2, *onnx)


def test_export_writes_a_graph_of_the_same_probabilities(prepared, model, tmp_path):
    output = tmp_path / "model.onnx"
    found = json.loads(succeed("export", model, "-o", output, "--check", prepared, "--json"))
    assert found["n_windows"] == len(read_windows(prepared))
    assert found["largest_difference"] <= 1e-5
    text = succeed("export", model, "-o", output, "--timesteps", "20")
    assert text == f"{output}: probabilities of calm, rough, replacing the earlier file\n"
    assert "would be overwritten" in refused(2, "export", model, "-o", model)
    both = ["export", model, "-o", output, "--steps", "--check", prepared]
    assert "--check compares windows after the steps" in refused(2, *both)
    of_c = ["export", model, "-o", tmp_path / "c", "--format", "c", "--steps"]
    assert "--steps does not apply to --format c" in refused(2, *of_c)
