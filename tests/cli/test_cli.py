import contextlib
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
from fits import plain_classifier
from limited_files import run_limited
from page_reader import Reader

from sensorseq import SensorLSTMClassifier
from sensorseq.cli import run
from sensorseq.diagnosis.words import banner_words, list_steps, settings_as_options
from sensorseq.errors import RecordingError
from sensorseq.estimator.feature_head import FittedFeatures
from sensorseq.estimator.refit import N_FOLDS
from sensorseq.io.model_file import read_model, write_model
from sensorseq.io.prepared import read_windows, write_windows
from sensorseq.ops.cuda_kernels import ALL_KERNELS

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = (
    "simulate",
    "inspect",
    "prepare",
    "train",
    "evaluate",
    "predict",
    "stream",
    "diagnose",
    "doctor",
    "bench",
    "info",
)
FAST = ("--set", "hidden_size=8", "--max-epochs", "12", "--set", "learning_rate=0.02", "-q")


def write_recordings(root, n=5, seed=0, labels=("calm", "rough"), seconds=12.0):
    """CSV files at 20 Hz, a folder for each class; what is rough vibrates faster."""
    rng = np.random.default_rng(seed)
    for number, label in enumerate(labels):
        (root / label).mkdir(parents=True)
        for i in range(n):
            t = np.arange(0, seconds, 0.05)
            current = np.sin(2 * np.pi * (0.5 + 2.5 * number) * t + rng.uniform(0, 6))
            values = np.stack([t, current + 0.1 * rng.normal(size=len(t)), 0.1 * t], axis=1)
            lines = ["time,current,speed", *(",".join(f"{v:.4f}" for v in row) for row in values)]
            (root / label / f"run_{i}.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    return write_recordings(tmp_path_factory.mktemp("robot logs") / "Läufe")


@pytest.fixture(scope="module")
def prepared(logs, tmp_path_factory):
    path = tmp_path_factory.mktemp("prepared") / "windows.h5"
    assert run(["prepare", str(logs), "--window-s", "1", "-o", str(path), "-q"]) == 0
    return path


@pytest.fixture(scope="module")
def model(prepared, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    assert run(["train", str(prepared), "-o", str(path), *FAST]) == 0
    return path


def refused(arguments, code, capsys):
    """Run a command that must fail; return its one message."""
    capsys.readouterr()
    assert run([str(argument) for argument in arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "Traceback" not in captured.err
    errors = [line for line in captured.err.splitlines() if line.startswith(("error:", "Error:"))]
    assert len(errors) == 1, captured.err
    return errors[0]


def answer(arguments, capsys):
    """Run a command with --json; return the object."""
    capsys.readouterr()
    assert run([*(str(argument) for argument in arguments), "--json", "-q"]) == 0
    return json.loads(capsys.readouterr().out)


# The walk through.


def test_prepare_train_evaluate_predict(logs, prepared, model, capsys):
    found = answer(["evaluate", model, prepared], capsys)
    assert {"accuracy", "balanced_accuracy", "macro_f1", "confusion_matrix", "classes"} <= set(
        found
    )
    assert found["classes"] == ["calm", "rough"]
    assert found["accuracy"] > 0.9
    baselines = {"majority", "ridge", "gradient_boosting", "rocket_ridge"}
    assert set(found["baselines"]) == baselines
    assert all(0 < b["difference"]["accuracy"]["p_value"] <= 1 for b in found["baselines"].values())
    windows = read_windows(prepared)
    assert np.sum(found["confusion_matrix"]) == (windows.split == "test").sum()

    predicted = answer(["predict", model, logs / "rough" / "run_1.csv", logs / "calm"], capsys)
    first, *others = predicted["recordings"]
    assert (first["label"], first["n_windows"]) == ("rough", 12)
    assert [one["label"] for one in others] == ["calm"] * 5
    assert len(first["windows"]) == 12
    assert sum(first["probability"].values()) == pytest.approx(1)


def write_drive(logs, path, parts=(("calm", 1), ("rough", 1))):
    """One recording of several: 12 s each, with the surface as a column."""
    lines = ["time,current,speed,ground"]
    for number, (label, i) in enumerate(parts):
        for line in (logs / label / f"run_{i}.csv").read_text().splitlines()[1:]:
            time_s, rest = line.split(",", 1)
            lines.append(f"{float(time_s) + 12 * number:.2f},{rest},{label}")
    path.write_text("\n".join(lines))
    return path


def test_predict_prints_stretches_and_writes_them_as_a_table(logs, model, tmp_path, capsys):
    drive = write_drive(logs, tmp_path / "drive.csv")
    spans, page = tmp_path / "spans.csv", tmp_path / "drive.html"
    asked = ["predict", model, drive, "--mean-dwell-s", 8, "--csv", spans, "--html", page]
    (found,) = answer(asked, capsys)["recordings"]
    assert [(s["label"], s["start_s"], s["end_s"]) for s in found["spans"]] == [
        ("calm", 0, 12),
        ("rough", 12, 24),
    ]
    rows = list(csv.DictReader(spans.read_text().splitlines()))
    assert [(row["recording"], row["label"], row["runner_up"]) for row in rows] == [
        ("drive", "calm", "rough"),
        ("drive", "rough", "calm"),
    ]
    late = tmp_path / "late.csv"
    head, *lines = drive.read_text().splitlines()
    moved = (line.split(",", 1) for line in lines)
    late.write_text("\n".join([head, *(f"{float(t) + 1e9:.2f},{rest}" for t, rest in moved)]))
    answer([*asked[:2], late, *asked[3:], "--absolute-time"], capsys)
    stamped = list(csv.DictReader(spans.read_text().splitlines()))
    assert [float(row["start_s"]) for row in stamped] == [1e9, 1e9 + 12]
    assert "--absolute-time" in refused([*asked[:3], "--absolute-time"], 2, capsys)
    answer(asked, capsys)
    assert 'aria-label="predicted classes of drive"' in page.read_text("utf-8")
    assert "true classes" not in page.read_text("utf-8")
    answer([*asked, "--label-column", "ground", "--hop-s", 0.5], capsys)
    assert 'aria-label="true classes of drive"' in page.read_text("utf-8")
    halves = answer([*asked, "--hop-s", 0.5], capsys)["recordings"][0]
    assert (halves["n_windows"], len(halves["spans"])) == (47, 2)
    assert "--hop-s" in refused([*asked[:3], "--hop-s", 0], 2, capsys)
    assert run([*map(str, asked), "-q"]) == 0
    assert "calm 50.0 % of the time, rough 50.0 % of the time, in 2 st" in capsys.readouterr().out
    alone = answer(["predict", model, drive, "--smooth", "none"], capsys)["recordings"][0]
    own = [max(window["probability"], key=window["probability"].get) for window in alone["windows"]]
    assert sum(span["n_windows"] for span in alone["spans"]) == len(own) == 24
    assert "--mean-dwell-s" in refused([*asked[:4], 0.5], 2, capsys)
    lagging = ["--smooth", "lag", "--mean-dwell-s", "8"]
    capsys.readouterr()
    assert run(["stream", str(model), "--replay", str(drive), *lagging]) == 0
    said = capsys.readouterr()
    assert "decisions come 3 s after their windows" in said.err
    labels = [json.loads(line)["label"] for line in said.out.splitlines()]
    assert labels == ["calm"] * 12 + ["rough"] * 12


def test_evaluate_scores_drives_over_time(logs, model, tmp_path, capsys):
    (tmp_path / "drives").mkdir()
    for i in (1, 2, 3):
        write_drive(logs, tmp_path / "drives" / f"drive_{i}.csv", (("calm", i), ("rough", i)))
    made, page = tmp_path / "drives.h5", tmp_path / "page.html"
    given = ["--label-column", "ground", "--window-s", "1", "--split", "none", "-q"]
    assert run(["prepare", str(tmp_path / "drives"), "-o", str(made), *given]) == 0
    asked = ["evaluate", model, made, "--include-seen", "--mean-dwell-s", 8, "--report", page]
    found = answer(asked, capsys)["drives"]
    assert (found["n_recordings"], found["smooth"]) == (3, "marginals")
    scores = found["scores"]["smoothed"]
    assert scores["accuracy"]["value"] == scores["f1"]["value"] == 1
    assert scores["false_switches_per_h"] == {"value": 0, "interval": None}
    assert page.read_text("utf-8").count('class="strip"') == 6
    assert "--smooth" in refused([*asked[:3], "--smooth", "much"], 2, capsys)


def test_what_predict_cuts_is_what_prepare_cut(logs, prepared, model, capsys):
    """The windows of a raw recording get the very probabilities of the prepared ones."""
    windows = read_windows(prepared)
    own = windows.take(windows.recording_id == "rough/run_1")
    expected = SensorLSTMClassifier.load(model).predict_proba(own)
    (found,) = answer(["predict", model, logs / "rough" / "run_1.csv"], capsys)["recordings"]
    np.testing.assert_allclose([w["start_s"] for w in found["windows"]], own.start_s)
    np.testing.assert_array_equal(
        [[w["probability"][name] for name in ("calm", "rough")] for w in found["windows"]], expected
    )
    assert found["seen_in_training"] == (own.split[0] != "test")


def test_scores_of_the_command_are_those_of_the_model(prepared, model, capsys):
    found = answer(["evaluate", model, prepared, "--no-baselines"], capsys)
    test = read_windows(prepared).part("test")
    assert found["accuracy"] == SensorLSTMClassifier.load(model).score(test)


def test_folds_cover_every_window(prepared, model, capsys):
    found = answer(["evaluate", model, prepared, "--folds", "3", "--no-baselines"], capsys)
    assert np.sum(found["confusion_matrix"]) == len(read_windows(prepared))
    assert len(found["fold_accuracy"]) == 3
    assert found["fold_accuracy_mean"] == pytest.approx(np.mean(found["fold_accuracy"]))
    assert found["fold_accuracy_sd"] == pytest.approx(np.std(found["fold_accuracy"], ddof=1))


def test_features_are_derived_by_name_and_repeated_in_prediction(logs, tmp_path, capsys):
    prepared, model = tmp_path / "derived.h5", tmp_path / "derived.safetensors"
    words = ["prepare", str(logs), "--window-s", "2", "--derive", "auto", "-o", str(prepared), "-q"]
    assert run([*words, "--split", "0.5,0.25,0.25", "--train-hop-s", "0.5"]) == 0
    said = capsys.readouterr().out
    assert "\nderived from current, speed: difference to the sample before\n" in said
    assert "\nderived from current and speed: current times speed\n" in said
    lines = said.replace(str(tmp_path), "").splitlines()
    assert max(map(len, lines)) <= 80
    assert run(["train", str(prepared), "-o", str(model), *FAST]) == 0
    found = answer(["predict", model, logs / "calm" / "run_0.csv"], capsys)
    windows = read_windows(prepared)
    own = windows.take(windows.recording_id == "calm/run_0")
    named = {w["start_s"]: w["probability"]["calm"] for w in found["recordings"][0]["windows"]}
    expected = SensorLSTMClassifier.load(model).predict_proba(own)[:, 0]
    both = [(named[s], p) for s, p in zip(own.start_s, expected, strict=True) if s in named]
    assert len(both) == 6
    np.testing.assert_array_equal(*np.transpose(both))
    capsys.readouterr()
    assert run(["evaluate", str(model), str(prepared), "--folds", "2", "--no-baselines", "-q"]) == 0
    text = capsys.readouterr().out
    assert "tested on windows every 2 s" in " ".join(text.split())
    assert "are not in the train part of this file" in " ".join(text.split())
    assert "mean of the fold accuracies: " in text
    assert "60 windows" in text  # 10 recordings of 12 s
    assert max(map(len, text.splitlines())) <= 80


def test_text_for_people_fits_eighty_columns(logs, prepared, model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, name in ((prepared, "w.h5"), (model, "m.safetensors")):
        Path(name).write_bytes(source.read_bytes())
    (tmp_path / "logs").symlink_to(logs)
    for arguments in (
        ["evaluate", "m.safetensors", "w.h5"],
        ["predict", "m.safetensors", "logs/calm/run_0.csv"],
        ["predict", "m.safetensors", "logs/calm/run_0.csv", "--windows"],
        ["info", "m.safetensors"],
        ["info", "w.h5"],
        ["info"],
        ["inspect", "logs"],
        ["prepare", "logs", "--window-s", "1", "-o", "again.h5"],
        ["train", "w.h5", "-o", "n.safetensors", *FAST],
    ):
        assert run(arguments) == 0
        captured = capsys.readouterr()
        assert captured.out
        long = [line for line in captured.out.splitlines() if len(line) > 80]
        assert not long, (arguments, long)


@pytest.mark.parametrize(
    ("capability", "verified", "served"),
    [
        ((9, 0), ALL_KERNELS, ["native", "framework"]),
        ((9, 0), {("fp16x3", 64)}, ["framework", "native", "framework", "framework"]),
        ((12, 0), ALL_KERNELS, ["framework"]),
        (None, ALL_KERNELS, ["framework"]),
    ],
)
def test_info_lists_what_is_served_by_what(capability, verified, served, capsys, monkeypatch):
    from sensorseq.ops import choice, cuda_kernels
    from sensorseq.ops.cuda_kernels import NOT_PASSED, Permission

    monkeypatch.setattr(choice, "_capability", lambda index: capability)
    monkeypatch.setattr(choice, "_is_built", lambda: True)
    monkeypatch.setattr(choice, "allows_tf32", lambda: False)
    permission = Permission(frozenset(verified), NOT_PASSED)
    monkeypatch.setattr(cuda_kernels, "permission", lambda index: permission)
    assert run(["info", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["served"]
    on_cpu = [(row["dtype"], row["served_by"]) for row in rows if row["device"] == "cpu"]
    assert on_cpu == [("float32", "native"), ("float64", "native"), ("half", "framework")]
    of_float32 = [r for r in rows if r["device"] != "cpu" and r["dtype"] == "float32"]
    assert [row["served_by"] for row in of_float32] == served
    assert run(["info"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    for row in rows:
        assert any(all(str(v) in line for v in row.values()) for line in text.splitlines())


def test_equal_commands_write_equal_files(logs, prepared, tmp_path):
    again = tmp_path / "again.h5"
    assert run(["prepare", str(logs), "--window-s", "1", "-o", str(again), "--jobs", "1"]) == 0
    assert again.read_bytes() == prepared.read_bytes()
    models = []
    for name in ("one", "two"):
        assert run(["train", str(again), "-o", str(tmp_path / name), *FAST]) == 0
        models.append(SensorLSTMClassifier.load(tmp_path / name))
    windows = read_windows(again)
    np.testing.assert_array_equal(*(one.predict_proba(windows) for one in models))


def test_training_never_reads_the_test_part(prepared, tmp_path, capsys):
    from dataclasses import replace

    from sensorseq.io.prepared import write_windows

    windows = read_windows(prepared)
    X = windows.X.copy()
    X[windows.split == "test"] = np.nan
    write_windows(tmp_path / "spoilt.h5", replace(windows, X=X))
    write_windows(tmp_path / "clean.h5", windows)
    for name in ("spoilt", "clean"):
        out = tmp_path / f"{name}.model"
        assert run(["train", str(tmp_path / f"{name}.h5"), "-o", str(out), *FAST]) == 0
    first, second = (
        SensorLSTMClassifier.load(tmp_path / f"{n}.model") for n in ("spoilt", "clean")
    )
    np.testing.assert_array_equal(first.predict_proba(windows), second.predict_proba(windows))


def test_settings_reach_the_classifier(prepared, tmp_path, capsys):
    path = tmp_path / "m"
    arguments = ["--set", "pooling=last", "--set", "dropout=0.25", "--set", "bidirectional=true"]
    assert run(["train", str(prepared), "-o", str(path), *FAST, *arguments, "--set",
                "batch_size=none", "--set", "optimizer_params={eps=1e-6}"]) == 0  # fmt: skip
    got = SensorLSTMClassifier.load(path).get_params()
    assert (got["pooling"], got["dropout"], got["bidirectional"]) == ("last", 0.25, True)
    assert (got["batch_size"], got["optimizer_params"]) == (None, {"eps": 1e-6})
    assert got["random_state"] == 0


def test_every_option_of_prepare_reaches_it(logs, tmp_path, monkeypatch, capsys):
    import sensorseq.prepare

    given = {}

    def fake(source, output, **arguments):
        given.update(arguments, source=source, output=output)
        raise RecordingError("that was all")

    monkeypatch.setattr(sensorseq.prepare, "prepare", fake)
    line = (
        "--time-column clock --files pro_*.csv --files imu_*.csv --labels A,B --labels C"
        " --exclude D,E --channels x,y --sample-rate-hz 6.5 --window-s 5 --hop-s 2.5"
        " --max-gap-s 0.4 --split 0.5,0.2,0.3 --jobs 3 --resume --on-error skip --allow-scales"
        " --config file.toml --pair {sensor}_{recording}.* --scale robust --balance undersample"
        " --seed 7 --train-hop-s 0.5 --short pad --repair-stamps --label-column ground"
        " --label-rule majority --min-purity 0.8 --split-by recording --scale-per group"
        " --derive auto -o out.h5 --engine dask --scheduler tcp://host:8786"
    )
    assert "that was all" in refused(["prepare", logs, *line.split()], 3, capsys)
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
        "config": Path("file.toml"),
        "pair": "{sensor}_{recording}.*",
        "scale": "robust",
        "balance": "undersample",
        "random_state": 7,
        "train_hop_s": 0.5,
        "short": "pad",
        "derive": "auto",
        "repair_stamps": True,
        "label_column": "ground",
        "label_rule": "majority",
        "min_purity": 0.8,
        "split_by": "recording",
        "scale_per": "group",
    }


def test_two_sensors_of_one_recording_go_the_whole_way(tmp_path, capsys):
    """Files of a motor at 20 Hz and an IMU at 50 Hz are one recording, also in predict."""
    rng = np.random.default_rng(0)
    root = tmp_path / "logs"
    for number, label in enumerate(("calm", "rough")):
        (root / label).mkdir(parents=True)
        for i in range(3):
            for sensor, rate, name in (("pro", 20, "current"), ("imu", 50, "shake")):
                t = np.arange(0, 6, 1 / rate)
                values = np.sin(t * (2 + 9 * number)) + 0.05 * rng.normal(size=len(t))
                rows = [f"{a:.3f},{b:.4f}" for a, b in zip(t, values, strict=True)]
                text = "\n".join([f"time,{name}", *rows]) + "\n"
                (root / label / f"{sensor}_{i}.csv").write_text(text)
    windows, model = tmp_path / "w.h5", tmp_path / "m"
    how = ["--files", "pro_*.csv", "--files", "imu_*.csv", "--pair", "{sensor}_{recording}.*"]
    arguments = ["prepare", str(root), *how, "--window-s", "1", "-o", str(windows)]
    assert run(arguments) == 0
    assert run(["train", str(windows), "-o", str(model), *FAST]) == 0
    one = answer(["predict", model, root / "rough" / "pro_1.csv"], capsys)["recordings"]
    other = answer(["predict", model, root / "rough" / "imu_1.csv"], capsys)["recordings"]
    assert one == other
    assert len(one) == 1
    assert [Path(path).name for path in one[0]["paths"]] == ["pro_1.csv", "imu_1.csv"]
    stored = read_windows(windows)
    own = stored.take(stored.recording_id == "rough/1")
    expected = SensorLSTMClassifier.load(model).predict_proba(own)
    got = [[w["probability"][c] for c in ("calm", "rough")] for w in one[0]["windows"]]
    np.testing.assert_array_equal(got, expected)


def test_simulated_recordings_are_prepared_as_they_are(tmp_path, capsys):
    folder = tmp_path / "simulated"
    common = ["--robots", "3", "--recordings", "1", "--duration-s", "4", "--surfaces"]
    assert run(["simulate", str(folder), *common, "carpet,gravel"]) == 0
    assert run(["simulate", str(tmp_path / "twin"), *common, "carpet,gravel"]) == 0
    for file in sorted(folder.rglob("*.*")):
        twin = tmp_path / "twin" / file.relative_to(folder)
        assert file.read_bytes() == twin.read_bytes()
    out = tmp_path / "simulated.h5"
    assert run(["prepare", str(folder), "--window-s", "1", "-o", str(out)]) == 0
    windows = read_windows(out)
    assert set(windows.groups.tolist()) == {"robot_00", "robot_01", "robot_02"}
    assert "already" in refused(["simulate", folder, *common, "carpet"], 3, capsys)
    assert "Did you mean 'gravel'" in refused(
        ["simulate", tmp_path / "x", *common, "gravle"], 2, capsys
    )


def test_the_page_is_written(prepared, model, tmp_path, capsys):
    page = tmp_path / "fit.html"
    out = tmp_path / "m"
    assert run(["train", str(prepared), "-o", str(out), *FAST, "--report", str(page)]) == 0
    assert page.read_text("utf-8").startswith("<!DOCTYPE html>")
    page = tmp_path / "folds.html"
    folds = ["evaluate", str(model), str(prepared), "--folds", "2", "--no-baselines"]
    assert run([*folds, "--report", str(page), "-q"]) == 0
    assert "2 folds of whole groups" in page.read_text("utf-8")
    page = tmp_path / "evaluation.html"
    assert run(["evaluate", str(model), str(prepared), "--report", str(page), "-q"]) == 0
    assert "gradient boosting" in page.read_text("utf-8")


def test_ctrl_c_skips_the_comparison_with_baselines(prepared, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sensorseq.evaluation.page.compare_on_validation", interrupted)
    page, out = tmp_path / "fit.html", tmp_path / "m"
    assert run(["train", str(prepared), "-o", str(out), *FAST, "--report", str(page)]) == 0
    assert out.exists()
    text = Reader(page.read_text("utf-8")).text
    assert "Scores" in text
    assert "majority class" not in text
    assert capsys.readouterr().err.count("comparison with baselines was stopped") == 1


def flat(text):
    """Return text in one line, with plus-minus written in one way."""
    return " ".join(text.replace("+-", "±").split())


@pytest.mark.trains
def test_the_page_the_text_the_notebook_and_the_command_say_the_same(
    prepared, tmp_path, capsys, monkeypatch
):
    with_scale = {"scale": "standard"}  # not typed
    monkeypatch.setattr(
        "sensorseq.cli.train.with_scale", lambda given, path: {**given, **with_scale}
    )
    page, out = tmp_path / "fit.html", tmp_path / "model"
    hot = {"learning_rate": 0.5, "optimizer": "rmsprop", "lr_schedule": "constant"}
    hot |= {"max_epochs": 40, "hidden_size": 8, "features": None, "refit": None}
    given = settings_as_options(hot)
    command = ["train", str(prepared), "-o", str(out), *shlex.split(given)]
    capsys.readouterr()
    assert run([*command, "--report", str(page), "-q"]) == 0
    printed = flat(capsys.readouterr().out.replace(" \\\n", "\n"))  # lines of one command
    report = SensorLSTMClassifier.load(out).fluctuation_
    assert report.verdict != "normal"
    first = report.causes[0]
    step, *_ = list_steps(report, lambda changes: settings_as_options({**hot, **changes}))
    assert step.code
    html = page.read_text("utf-8")
    shown, notebook = Reader(html).text, Reader(report._repr_html_()).text
    for text in (printed, shown, notebook, flat(str(report))):
        assert banner_words(report).lower() in text.lower()
        assert first.title in text
        assert flat(step.text) in flat(text)
        is_command = text in (printed, shown)
        assert (flat(step.code) in flat(text)) != is_command
    assert flat(step.command) in printed
    assert flat(step.command) in shown
    # what is told for the command line can be run there
    assert f"sensorseq train {prepared} -o {out}{step.command} --report {page}" in shown
    assert "majority class" in shown
    assert "clf." not in shown
    assert run(["evaluate", str(out), str(prepared), "--no-baselines", "--report", str(page)]) == 0
    shown = Reader(page.read_text("utf-8")).text
    assert shown.index("Scores") < shown.lower().index(banner_words(report).lower())
    assert "clf." not in shown
    assert "--set optimizer=" in shown
    assert "sensorseq train H5 -o MODEL" in shown


# What cannot be done.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{model}"], "Missing argument"),
        (["train", "{prepared}"], "Missing option"),
        (["train", "{prepared}", "-o", "{out}", "--set", "poolin=last"], "Did you mean pooling"),
        (["train", "{prepared}", "-o", "{out}", "--set", "pooling"], "give NAME=VALUE"),
        (["train", "{prepared}", "-o", "{out}", "--set", "pooling=lest"], "Did you mean 'last'"),
        (["train", "{prepared}", "-o", "{out}", "--learning-rate", "-1"], "--learning-rate -1"),
        (["train", "{prepared}", "-o", "{out}", "--set", "n_models=0"], "n_models=0"),
        (["train", "{prepared}", "-o", "{prepared}"], "would be overwritten"),
        (["prepare", "{logs}", "-o", "{out}"], "--window-s is not given"),
        (["prepare", "{logs}", "-o", "{out}", "--window-s", "1", "--split", "a,b"], "0.6,0.2,0.2"),
        (["prepare", "{logs}", "-o", "{out}", "--window-s", "1", "--exclude", "clam"], "'calm'"),
        (["prepare", "{logs}", "-o", "{out}", "--window-s", "one"], "--window-s"),
        (["evaluate", "{model}", "{prepared}", "--folds", "1"], "--folds"),
        (["no-such-command"], "No such command"),
    ],
)
def test_a_command_line_without_sense_is_code_2(
    arguments, message, logs, prepared, model, tmp_path, capsys
):
    out = tmp_path / "out"
    known = {"logs": logs, "prepared": prepared, "model": model, "out": out}
    before = prepared.read_bytes()
    assert message in refused([a.format(**known) for a in arguments], 2, capsys)
    assert prepared.read_bytes() == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["missing", "empty", "truncated", "foreign", "folder"])
@pytest.mark.parametrize("which", ["model", "prepared"])
def test_a_file_that_cannot_be_read_is_named(which, damage, prepared, model, tmp_path, capsys):
    files = {"model": model, "prepared": prepared}
    bad = tmp_path / "schlechte Datei.bin"
    content = files[which].read_bytes()
    if damage == "folder":
        bad.mkdir()
    elif damage != "missing":
        bad.write_bytes(
            {"empty": b"", "truncated": content[: len(content) // 2], "foreign": b"PNG" * 99}[
                damage
            ]
        )
    files[which] = bad
    assert str(bad) in refused(["evaluate", files["model"], files["prepared"], "-q"], 3, capsys)
    if which == "prepared":
        arguments = ["train", bad, "-o", tmp_path / "m", "-q"]
        assert str(bad) in refused(arguments, 3, capsys)
        assert not (tmp_path / "m").exists()
    assert str(bad) in refused(["info", bad], 3, capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,current,speed\n0,1,2\n0.05,oops,2\n", "oops"),
        ("time,current,speed\n0,1,2\n0.05,1,2\n0.05,1,2\n", "repeats"),
        ("time,current,speed\n0,1,2\n0.05,1,2\n0.01,1,2\n", "goes back"),
        ("time,current,speed\n", "no sample"),
        ("", "empty"),
        ("clock,current,speed\n0,1,2\n", "time"),
        ("time,current\n0,1\n0.05,1\n", "'speed'"),
        ("time,current,speed\n0,1,2\n0.05,1,2\n0.1,1,2\n", "needs windows of 1 s, and none fits"),
        ("time,current,speed\n0,,2\n0.05,,2\n0.1,,2\n", "current"),
    ],
)
def test_a_recording_that_cannot_be_predicted_is_named(text, message, model, tmp_path, capsys):
    file = tmp_path / "neue Fahrt ü.csv"
    file.write_text(text)
    error = refused(["predict", model, file, "-q"], 3, capsys)
    assert str(file) in error
    assert message in error


def test_files_of_the_wrong_kind_are_recognized(prepared, model, tmp_path, capsys):
    assert "order is MODEL" in refused(["evaluate", prepared, model], 3, capsys)
    assert "order is MODEL" in refused(["predict", prepared, model], 3, capsys)
    assert "sensorseq evaluate" in refused(["predict", model, prepared], 3, capsys)
    assert "sensorseq info" in refused(["inspect", prepared], 3, capsys)
    out = tmp_path / "m"
    assert "not an HDF5 file" in refused(["train", model, "-o", out], 3, capsys)


def test_a_model_of_arrays_predicts_no_recordings(logs, prepared, tmp_path, capsys):
    windows = read_windows(prepared)
    path = tmp_path / "m"
    classifier = plain_classifier(hidden_size=4, max_epochs=1, device="cpu")
    classifier.fit(windows.X, windows.y, groups=windows.groups).save(path)
    assert "trained on arrays" in refused(["predict", path, logs / "calm/run_0.csv"], 3, capsys)


def test_what_weakens_a_prediction_is_said(logs, prepared, model, tmp_path, capsys):
    windows = read_windows(prepared)
    seen = str(windows.part("train").recording_id[0])
    (found,) = answer(["predict", model, logs / f"{seen}.csv"], capsys)["recordings"]
    assert found["notes"] == [
        "the model was trained on this recording, so this is not a test of it."
    ]
    lines = (logs / f"{seen}.csv").read_text().splitlines()
    slow = tmp_path / "slow.csv"
    slow.write_text("\n".join([lines[0], *lines[1::4]]) + "\n")
    (found,) = answer(["predict", model, slow], capsys)["recordings"]
    assert "recorded at 5 Hz, below the 20 Hz" in found["notes"][0]


def test_windows_outside_the_training_are_said_counted_and_refused(
    logs, prepared, model, tmp_path, capsys
):
    """One recording in mA where the others have A."""
    lines = [line.split(",") for line in (logs / "calm/run_0.csv").read_text().splitlines()]
    rows = [[time, str(1000 * float(current)), speed] for time, current, speed in lines[1:]]
    milli = tmp_path / "milli.csv"
    milli.write_text("\n".join(",".join(row) for row in [lines[0], *rows]) + "\n")
    said = "12 of 24 windows lie outside what the model was trained on: channel 'current' varies"
    command = ["predict", model, logs / "calm/run_1.csv", milli]
    capsys.readouterr()
    assert run([*map(str, command), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith(f"warning: {said}")
    assert "its unit is perhaps a thousandth, such as mA where training had A." in err
    inside, outside = json.loads(out)["recordings"]
    assert (inside["n_outside"], outside["n_outside"]) == (0, 12)
    assert outside["notes"][0].startswith("12 of 12 windows lie outside")
    assert said in refused([*command, "--strict"], 3, capsys)
    assert run([*map(str, command[:-1]), "--strict"]) == 0
    assert capsys.readouterr().err == ""

    windows = read_windows(prepared)
    is_test = windows.split == "test"
    wrong = replace(windows, X=np.where(is_test[:, None, None], [1000.0, 1.0], 1.0) * windows.X)
    write_windows(tmp_path / "wrong.h5", wrong)
    command = ["evaluate", model, tmp_path / "wrong.h5", "--no-baselines"]
    assert run([*map(str, command), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n_outside"] == is_test.sum()
    assert f"{is_test.sum()} of {is_test.sum()} windows lie outside" in err
    assert "windows lie outside" in refused([*command, "--strict"], 3, capsys)
    assert run([*map(str, command[:2]), str(prepared), "--no-baselines", "--strict"]) == 0
    assert (
        answer([*command[:2], prepared, "--no-baselines", "--folds", "2"], capsys)["n_outside"] == 0
    )


def test_strict_needs_a_model_with_ranges(logs, model, tmp_path, capsys):
    arrays, description = read_model(model)
    old = tmp_path / "old.safetensors"
    write_model(old, {k: v for k, v in arrays.items() if "ranges." not in k}, description)
    command = ["predict", old, logs / "calm/run_0.csv"]
    assert answer(command, capsys)["recordings"][0]["n_outside"] is None
    message = refused([*command, "--strict"], 3, capsys)
    assert f"{old}: the model does not have the ranges of its training windows" in message
    assert "Fit it again." in message


def test_seen_recordings_are_refused_by_their_content(logs, prepared, model, tmp_path, capsys):
    """Prepared again under other names and another seed: still recognized."""
    copy = tmp_path / "copy"
    for file in logs.rglob("*.csv"):
        target = copy / file.parent.name / f"renamed_{file.name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    again = tmp_path / "again.h5"
    assert run(["prepare", str(copy), "--window-s", "1", "-o", str(again), "--split", "none"]) == 0
    capsys.readouterr()
    error = refused(["evaluate", model, again, "-q"], 3, capsys)
    assert "was trained on 8 of the 10 test recordings" in error
    assert "renamed_run" in error
    found = answer(["evaluate", model, again, "--include-seen"], capsys)
    assert len(found["seen_recordings"]) > 0


def test_windows_of_other_channels_are_refused(prepared, model, logs, tmp_path, capsys):
    other = tmp_path / "other.h5"
    arguments = ["prepare", str(logs), "--window-s", "1", "--channels", "speed,current"]
    assert run([*arguments, "-o", str(other)]) == 0
    capsys.readouterr()
    error = refused(["evaluate", model, other, "--include-seen", "-q"], 3, capsys)
    assert "The order differs" in error


@pytest.mark.parametrize(
    ("where", "code"), [("no such folder/m", 3), ("{folder}", 3), ("/proc/m", 4)]
)
def test_an_output_with_no_place_to_go_is_found_out_before_training(
    where, code, prepared, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(SensorLSTMClassifier, "fit", lambda *_: pytest.fail("it trained"))
    out = tmp_path / where.format(folder=".")
    assert str(out) in refused(["train", prepared, "-o", out, "-q"], code, capsys)
    page = ["train", prepared, "-o", tmp_path / "m", "--report", out, "-q"]
    assert str(out) in refused(page, code, capsys)
    assert list(tmp_path.iterdir()) == []


def limited(arguments, size_bytes):
    """Run in a process whose files may not grow beyond a size, as on a full disk."""
    command = [sys.executable, "-m", "sensorseq.cli", *(str(a) for a in arguments)]
    return run_limited(command, size_bytes, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.long
@pytest.mark.parametrize("command", ["prepare", "train", "evaluate", "simulate"])
def test_a_full_disk_leaves_nothing_half_written(command, logs, prepared, model, tmp_path):
    out = tmp_path / "neue Datei"
    arguments = {
        "prepare": ["prepare", logs, "--window-s", "1", "-o", out],
        "train": ["train", prepared, "-o", out, *FAST],
        "evaluate": ["evaluate", model, prepared, "--no-baselines", "--report", out],
        "simulate": ["simulate", out, "--duration-s", "30", "--surfaces", "carpet"],
    }[command]
    done = limited(arguments, 2000)
    assert done.returncode == 4, done.stderr
    assert str(out) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
    left = [path.name for path in tmp_path.iterdir()]
    assert left == (["neue Datei.parts"] if command == "prepare" and left else [])


def test_what_was_there_survives_a_failed_run(prepared, tmp_path, capsys):
    out = tmp_path / "m"
    out.write_bytes(b"an older model")
    refused(["train", tmp_path / "missing.h5", "-o", out, "-q"], 3, capsys)
    assert out.read_bytes() == b"an older model"
    assert list(tmp_path.iterdir()) == [out]


def test_inspect_lists_what_cannot_be_read(tmp_path, capsys):
    root = write_recordings(tmp_path / "logs", n=2)
    (root / "calm" / "run_9.csv").write_text("time,current,speed\n0,1,2\n0.05,x,2\n")
    assert run(["inspect", str(root), "--json", "-q"]) == 3
    found = json.loads(capsys.readouterr().out)
    assert found["n_errors"] == 1
    (bad,) = [row for row in found["recordings"] if "error" in row]
    assert "run_9.csv" in bad["error"]
    good = next(row for row in found["recordings"] if "error" not in row)
    assert good["sample_rate_hz"] == pytest.approx(20)
    assert [channel["name"] for channel in good["channels"]] == ["current", "speed"]


# The process.


def python(code, *arguments, **environment):
    return subprocess.run(
        [sys.executable, "-c", code, *(str(a) for a in arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


@pytest.mark.long
def test_bench_says_ratios_and_the_peak(monkeypatch, capsys):
    from sensorseq.bench import timing

    monkeypatch.setattr(timing, "SHORT", (timing.Shape(2, 5, 1, 4),))
    found = answer(["bench", "--threads", 1], capsys)
    assert found["threads"] == 1
    assert found["environment"]["isa"]
    assert [row["what"] for row in found["rows"]] == list(timing.KINDS)
    for row in found["rows"]:
        assert row["ratio_p10"] <= row["ratio"] <= row["ratio_p90"]
        assert 0 < row["ours_of_peak"] < 2
    assert run(["bench"]) == 0
    assert "multiply-add peak" in capsys.readouterr().out


def test_help_and_prepare_never_import_torch(logs, tmp_path):
    code = (
        "import sys; from sensorseq.cli import run; code = run(sys.argv[1:]);"
        "heavy = [m for m in ('torch', 'sklearn', 'pyarrow', 'rich') if m in sys.modules];"
        "print(code, *heavy, file=sys.stderr)"
    )
    for command in ((), *((name,) for name in COMMANDS)):
        assert python(code, *command, "--help").stderr.strip() == "0", command
    done = python(code, "prepare", logs, "--window-s", "1", "-o", tmp_path / "w.h5", "--jobs", "2")
    assert done.stderr.strip().splitlines()[-1].split()[0] == "0"
    assert "torch" not in done.stderr
    assert (tmp_path / "w.h5").exists()


def test_the_version_is_said_and_no_command_is_help(capsys):
    assert run(["--version"]) == 0
    assert re.fullmatch(r"sensorseq \d+\.\d+\.\d+\n", capsys.readouterr().out)
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_fits_eighty_columns(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"sensorseq {command}" in text.split("Example:")[1]
    assert max(len(line) for line in text.splitlines()) <= 80


def test_the_module_is_the_command_and_stdout_is_one_object(prepared, model):
    command = [sys.executable, "-m", "sensorseq.cli"]
    done = subprocess.run(
        [*command, "info", str(model), "--json"], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["kind"] == "model"
    done = subprocess.run(
        [*command, "info", str(model) + "x"], capture_output=True, text=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.long
def test_a_reader_that_leaves_is_no_error(prepared, model, logs):
    command = f"{sys.executable} -m sensorseq.cli predict '{model}' '{logs}' --windows -q | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr == ""


@pytest.mark.parametrize(("how", "kind"), [("robust", "robust"), ("none", "standard")])
def test_training_scales_as_the_file_was_prepared(tmp_path, capsys, how, kind):
    folder, windows, model = tmp_path / "logs", tmp_path / "w.h5", tmp_path / "m"
    write_recordings(folder)
    assert run(["prepare", str(folder), "--window-s", "2", "--scale", how, "-o", str(windows)]) == 0
    assert run(["train", str(windows), "-o", str(model), *FAST]) == 0
    assert SensorLSTMClassifier.load(model).scaler_.kind == kind
    with (
        pytest.warns(UserWarning, match="prepared with scale='robust'")
        if how == "robust"
        else (contextlib.nullcontext())
    ):
        plain_classifier(max_epochs=1, hidden_size=2).fit(windows)


# What new users type.


def test_python_m_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "sensorseq", "--version"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stdout.startswith("sensorseq ")


def test_prepare_refuses_a_file_that_is_prepared_already(prepared, tmp_path, capsys):
    message = refused(["prepare", prepared, "--window-s", "2", "-o", tmp_path / "x.h5"], 3, capsys)
    assert "holds prepared windows; give the recordings it was made from" in message


def test_a_file_of_another_kind_names_what_makes_prepared_ones(model, tmp_path, capsys):
    for given in (model, tmp_path):
        message = refused(["train", given, "-o", tmp_path / "m"], 3, capsys)
        assert message.endswith(
            "not a prepared file; make one from recordings with `sensorseq prepare`."
        )


@pytest.mark.parametrize("written", ["-o", "--report"])
def test_a_model_never_takes_the_place_of_its_checkpoint(prepared, tmp_path, capsys, written):
    file = tmp_path / "run"
    files = {"-o": tmp_path / "m", written: file}
    said = [text for pair in files.items() for text in pair]
    message = refused(["train", prepared, *said, "--set", f"checkpoint={file}"], 2, capsys)
    assert "give the checkpoint another name" in message
    assert not file.exists()


@pytest.mark.parametrize("seed", ["abc", "-1", "1.5"])
def test_a_random_state_that_is_none_is_refused(prepared, tmp_path, capsys, seed):
    command = ["train", prepared, "-o", tmp_path / "m", "--set", f"random_state={seed}"]
    assert "must be an integer of 0 or more" in refused(command, 2, capsys)


def test_doctor_blames_an_argument_on_no_file(prepared, capsys):
    message = refused(["doctor", prepared, "--set", "hidden_size=0"], 2, capsys)
    assert message == "error: --set hidden_size=0 must be an integer of at least 1."


@pytest.mark.long
def test_a_training_whose_progress_nobody_reads_is_not_lost(prepared, tmp_path):
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


def test_a_folder_of_files_named_otherwise_is_told_to_give_the_files(logs, tmp_path, capsys):
    named = ["--files", "run_*.csv", "--window-s", "1"]
    assert run(["prepare", str(logs), *named, "-o", str(tmp_path / "w.h5"), "-q"]) == 0
    assert run(["train", str(tmp_path / "w.h5"), "-o", str(tmp_path / "m"), *FAST]) == 0
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "drive.csv").write_bytes((logs / "calm" / "run_0.csv").read_bytes())
    message = refused(["predict", tmp_path / "m", tmp_path / "new"], 3, capsys)
    assert "give the files instead of the folder" in message
    assert run(["predict", str(tmp_path / "m"), str(tmp_path / "new" / "drive.csv")]) == 0


# What train says of features


@pytest.mark.usefixtures("lstm_is_used")
@pytest.mark.trains
def test_train_says_what_the_linear_layer_uses_and_what_was_trained_on(prepared, tmp_path, capsys):
    model = tmp_path / "model.safetensors"
    assert run(["train", str(prepared), "-o", str(model), *FAST]) == 0
    said = capsys.readouterr().out
    loaded = SensorLSTMClassifier.load(model)
    accuracy = {tried.name: 100 * tried.accuracy for tried in loaded.features_.candidates}
    words = " ".join(said.split())
    assert f"Accuracy on {loaded.features_.n_windows} windows left out:" in words
    assert f"{accuracy['together']:.1f} %, LSTM alone {accuracy['lstm']:.1f} %" in words
    assert loaded.refitted_
    assert len(loaded.modules_) == N_FOLDS
    assert (
        f"networks of {N_FOLDS} folds, which together have learned from all windows but those for"
        in words
    )
    assert max(map(len, said.splitlines())) <= 80 + len(str(model))


@pytest.mark.trains
def test_train_says_when_the_features_decide_alone(prepared, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FittedFeatures, "are_enough", lambda *_: True)
    assert run(["train", str(prepared), "-o", str(tmp_path / "model"), *FAST]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "The LSTM adds too little to the features here, so they decide alone." in words


@pytest.mark.trains
def test_patience_stops_early_without_saying_so_twice(prepared, tmp_path):
    model = tmp_path / "model.safetensors"
    assert run(["train", str(prepared), "-o", str(model), "--patience", "3", *FAST]) == 0
    assert SensorLSTMClassifier.load(model).early_stopping


def test_export_to_c_takes_units_and_a_prefix_and_creates_no_folder_but_its_own(
    model, tmp_path, capsys
):
    line = ["export", model, "--format", "c", "-o", tmp_path / "c"]
    assert run([*map(str, line), "--prefix", "wheel", "--units", "current=mA,speed=m/s"]) == 0
    assert (tmp_path / "c" / "wheel_model.h").exists()
    assert "NAME=UNIT" in refused([*line, "--units", "current"], 2, capsys)
    said = refused([*line[:-1], tmp_path / "none" / "c"], 3, capsys)
    assert f"{tmp_path / 'none'} is missing" in said
    onnx = ["export", model, "-o", tmp_path / "m.onnx", "--prefix", "wheel"]
    assert "--prefix does not apply" in refused(onnx, 2, capsys)


def test_export_writes_a_graph_of_the_same_probabilities(prepared, model, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    capsys.readouterr()
    arguments = ["export", model, "-o", output, "--check", prepared, "--json"]
    assert run([str(argument) for argument in arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n_windows"] == len(read_windows(prepared))
    assert found["largest_difference"] <= 1e-5
    assert run(["export", str(model), "-o", str(output), "--timesteps", "20"]) == 0
    assert capsys.readouterr().out == (
        f"{output}: probabilities of calm, rough, in place of the earlier one\n"
    )
    assert "would be overwritten" in refused(["export", model, "-o", model], 2, capsys)
    both = ["export", model, "-o", output, "--steps", "--check", prepared]
    assert "--check compares windows after the steps" in refused(both, 2, capsys)
    of_c = ["export", model, "-o", tmp_path / "c", "--format", "c", "--steps"]
    assert "--steps does not apply to --format c" in refused(of_c, 2, capsys)
