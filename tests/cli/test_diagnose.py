"""`sensorseq diagnose` reads any log, writes a report, and fails at a given severity."""

import json
import sys

import numpy as np
import pytest
from checkout import run_process
from commands import answer, refused, said, succeed
from fits import plain_classifier

from sensorseq.cli.models import rerun_command
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.diagnosis.report_page import make_page
from sensorseq.diagnosis.report_text import write_report

T = np.arange(40)


def curve(noise, seed=0):
    rng = np.random.default_rng(seed)
    loss = 0.8 + np.exp(-T / 4)
    swing = noise * rng.normal(size=40)
    return {
        "epoch": T,
        "train_loss": np.abs(loss + swing),
        "val_loss": np.abs(loss + 0.1 + swing + 0.01 * rng.normal(size=40)),
        "val_acc": rng.binomial(100, np.clip(0.8 - 0.5 * np.exp(-T / 4) - swing / 2, 0, 1)) / 100,
    }


def write_csv(path, columns):
    rows = [columns, *zip(*columns.values(), strict=True)]
    path.write_text("".join(",".join(map(str, row)) + "\n" for row in rows))
    return str(path)


def columns_of(kind):
    columns = curve(0.3 if kind in ("wild", "short") else 0.001)
    if kind == "diverged":
        columns["train_loss"][25:] = np.nan
    elif kind == "mild":
        columns["train_loss"][[20, 28, 35]] += 2.0  # jumps in single epochs
    elif kind == "short":
        columns = {k: v[:5] for k, v in columns.items()}
    return columns


@pytest.fixture
def wild(tmp_path):
    return write_csv(tmp_path / "wild.csv", columns_of("wild"))


def test_the_report_is_on_stdout_and_what_was_read_on_stderr(wild):
    code, out, err = said("diagnose", wild, "--n-val", "100", "--n-classes", "4")
    assert code == 0
    report = FluctuationReport.from_history(wild, 100, n_classes=4)
    assert report.verdict == "fluctuating"
    page = f"sensorseq diagnose {wild} --html report.html"
    assert out == f"{write_report(report, rerun_command({}), page)}\n"
    assert "report.explanation" not in out
    assert err.replace("\n ", "") == (
        "read: loss <- train_loss, val_loss <- val_loss, val_accuracy <- val_acc, epoch <- epoch\n"
    )
    assert max(map(len, (out + err).splitlines())) <= 80


def test_every_option_reaches_the_report(wild):
    line = "--n-val 100 --n-train 300 --n-classes 4 --best-epoch 7 --column loss=val_loss"
    line += " --column val_loss=none --json -q"
    code, out, err = said("diagnose", wild, *line.split())
    expected = FluctuationReport.from_history(
        wild, 100, n_train=300, n_classes=4, best_epoch=7,
        columns={"loss": "val_loss", "val_loss": None},
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert json.loads(out) == expected.to_dict()


@pytest.mark.parametrize(
    ("log", "verdict", "at_mild", "at_strong"),
    [
        ("calm", "normal", 0, 0),
        ("mild", "fluctuating", 10, 0),
        ("wild", "fluctuating", 10, 10),
        ("diverged", "diverged", 10, 10),
        ("short", "too_short_to_tell", 0, 0),
    ],
)
def test_the_gate_fails_at_the_severity_that_is_asked_for(
    log, verdict, at_mild, at_strong, tmp_path
):
    path = write_csv(tmp_path / "log.csv", columns_of(log))
    for level, code in (("mild", at_mild), ("strong", at_strong)):
        asked = ["--fail-on", level, "--json"]
        ended, out, err = said("diagnose", path, "--n-val", "100", *asked)
        assert (ended, json.loads(out)["verdict"]) == (code, verdict)
        assert ("too short to tell" in err) == (log == "short")
    succeed("diagnose", path, "--n-val", "100")


def test_the_page_is_written_where_it_is_asked_for(wild, tmp_path):
    page = tmp_path / "page.html"
    succeed("diagnose", wild, "--n-val", "100", "--html", page)
    report = FluctuationReport.from_history(wild, 100)
    assert page.read_text("utf-8") == make_page(report, rerun_command({}))


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        ("--fail-on severe", 2, "--fail-on severe is not known"),
        ("--column loss", 2, "give ROLE=NAME once"),
        ("--column loss=a --column loss=b", 2, "give ROLE=NAME once"),
        ("--column los=val_loss", 2, "Did you mean 'loss'"),
        ("--column loss=los", 2, "no such column"),
        ("--best-epoch 99", 2, "--best-epoch 99,"),
        ("--html {log}", 2, "would be overwritten"),
        ("--html /missing/page.html", 3, "the folder /missing is missing; create it"),
    ],
)
def test_a_mistake_is_one_message_and_a_code(options, code, says, wild):
    assert says in refused(code, "diagnose", wild, *options.format(log=wild).split())


def test_a_log_that_cannot_be_used_is_code_3_and_named(tmp_path):
    percent = curve(0.001)
    percent["val_acc"] = percent["val_acc"] * 100
    (tmp_path / "empty.csv").touch()
    write_csv(tmp_path / "percent.csv", percent)
    for name in ("gone.csv", "empty.csv", "percent.csv"):
        assert str(tmp_path / name) in refused(3, "diagnose", tmp_path / name)


@pytest.mark.filterwarnings("default")
def test_a_doubtful_log_causes_a_warning(tmp_path):
    columns = curve(0.001)
    columns["epoch"] = np.r_[np.arange(20), np.arange(10, 30)]
    code, _, err = said("diagnose", write_csv(tmp_path / "resumed.csv", columns))
    assert (code, "warning:" in err, "more than once" in err) == (0, True, True)


def test_a_sensorseq_model_has_its_own_report(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 12, 1)), np.arange(40) % 2
    clf = plain_classifier(hidden_size=4, max_epochs=4, random_state=0).fit(X, y)
    for name in ("model.safetensors", "model"):
        path = tmp_path / name
        clf.save(path)
        assert answer("diagnose", path) == clf.fluctuation_.to_dict()
        assert "--n-val is for logs" in refused(2, "diagnose", path, "--n-val", "3")
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    refused(3, "diagnose", tmp_path / "bad.safetensors")


BLOCKED = """
import sys
for name in ("torch", "tensorflow", "google.protobuf", "tensorboard", "pandas", "sklearn"):
    sys.modules[name] = None
from sensorseq.cli import run
for path in sys.argv[1:]:
    print("code", run(["diagnose", path, "--fail-on", "strong", "-q"]))
"""


def test_a_log_is_judged_where_neither_torch_nor_tensorboard_can_be_imported(wild, tmp_path):
    events = tmp_path / "events.out.tfevents.1"
    events.write_bytes(b"")
    done = run_process(sys.executable, "-c", BLOCKED, wild, events)
    shown, of_events = done.stdout.split("code 10\n")
    assert "fluctuating (strong)" in shown.lower()
    assert of_events == "code 4\n"
    assert 'pip install "sensorseq[tensorboard]"' in done.stderr
