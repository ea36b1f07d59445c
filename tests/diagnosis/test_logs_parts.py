"""Logs with a row for each part of the data, with ambiguous names, or with several runs."""

import json

import numpy as np
import pytest
from commands import said

from sensorseq.diagnosis.log_names import role_of
from sensorseq.diagnosis.logs import read_history
from sensorseq.diagnosis.report import FluctuationReport

N = 30
T = np.arange(N)
LOSS = (0.4 + np.exp(-T / 5)).round(4).tolist()
VAL_LOSS = (0.5 + np.exp(-T / 5)).round(4).tolist()
ACCURACY = (0.9 - 0.6 * np.exp(-T / 5)).round(4).tolist()
VAL_ACCURACY = (0.8 - 0.5 * np.exp(-T / 5)).round(4).tolist()
OURS = {"loss": LOSS, "accuracy": ACCURACY, "val_loss": VAL_LOSS, "val_accuracy": VAL_ACCURACY}
TRAIN, VALIDATION = (LOSS, ACCURACY), (VAL_LOSS, VAL_ACCURACY)


def columns(history, names=OURS):
    return {name: [row.get(name) for row in history.rows] for name in names}


def only(*names):
    return {name: OURS[name] for name in names}


def rows_of_parts(by="phase", train="train", validation="val", **more):
    """Return two rows for each epoch."""
    return [
        {"epoch": epoch, by: part, "loss": loss[epoch], "acc": accuracy[epoch], **more}
        for epoch in range(N)
        for part, (loss, accuracy) in ((train, TRAIN), (validation, VALIDATION))
    ]


def write_csv(path, rows, separator=","):
    head = list(dict.fromkeys(name for row in rows for name in row))
    lines = [head, *([row.get(name, "") for name in head] for row in rows)]
    path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("by", "train", "validation"),
    [
        ("phase", "train", "val"),
        ("mode", "Training", "Validation"),
        ("split", "TRAIN", "DEV"),
        ("stage", "fit", "validate"),
        ("subset", "train", "eval"),
        ("is_training", True, False),
    ],
)
def test_a_column_of_parts_divides_the_rows(tmp_path, by, train, validation):
    rows = rows_of_parts(by, train, validation, lr=0.01, time="00:01")
    in_lines = tmp_path / "log.jsonl"
    in_lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pd = pytest.importorskip("pandas")
    by_part = sorted(rows, key=lambda row: str(row[by]))
    for source in (
        write_csv(tmp_path / "log.csv", rows),
        write_csv(tmp_path / "semicolons.csv", rows, ";"),
        write_csv(tmp_path / "one_after_the_other.csv", by_part),
        in_lines,
        rows,
        pd.DataFrame(rows),
    ):
        assert columns(read_history(source)) == OURS


@pytest.mark.parametrize("order", ["train first", "validation first", "parts one after the other"])
def test_rows_of_parts_without_epochs_are_counted(tmp_path, order):
    rows = [{k: v for k, v in row.items() if k != "epoch"} for row in rows_of_parts()]
    if order == "validation first":
        rows = [row for pair in zip(rows[1::2], rows[::2], strict=True) for row in pair]
    elif order != "train first":
        rows = rows[::2] + rows[1::2]
    assert columns(read_history(write_csv(tmp_path / "log.csv", rows))) == OURS


def test_an_occasional_validation_belongs_to_the_epoch_before_it(tmp_path):
    rows = []
    for epoch in range(N):
        rows.append({"phase": "train", "loss": LOSS[epoch]})
        rows += [{"phase": "val", "loss": VAL_LOSS[epoch]}] * (epoch % 5 == 4)
    seen = [value if epoch % 5 == 4 else None for epoch, value in enumerate(VAL_LOSS)]
    read = read_history(write_csv(tmp_path / "log.csv", rows))
    assert columns(read, ("loss", "val_loss")) == {"loss": LOSS, "val_loss": seen}


def test_custom_names_are_divided_too():
    rows = [{**row, "cost": row["loss"], "hits": row["acc"]} for row in rows_of_parts()]
    rows = [{k: v for k, v in row.items() if k not in ("loss", "acc")} for row in rows]
    read = read_history(rows, {"loss": "cost", "accuracy": "hits"})
    assert columns(read) == OURS
    assert read.names["val_loss"] == "val/cost"


def test_columns_named_by_part_stay_as_they_are_beside_a_column_of_parts():
    rows = [
        {"epoch": epoch, "phase": "train", **{k: v[epoch] for k, v in OURS.items()}}
        for epoch in range(N)
    ]
    assert columns(read_history(rows)) == OURS


def test_the_verdict_of_rows_of_parts_is_that_of_the_wide_log(tmp_path):
    rng = np.random.default_rng(5)
    wide = {
        "loss": 1.386 * np.exp(-T / 7),
        "accuracy": 1 - 0.75 * np.exp(-T / 5),
        "val_loss": 1.39 + 0.03 * T + 0.02 * rng.normal(size=N),
        "val_accuracy": rng.binomial(200, 0.26, N) / 200,
    }
    rows = [
        {"epoch": t, "phase": part, "loss": wide[loss][t], "acc": wide[accuracy][t]}
        for t in range(N)
        for part, loss, accuracy in (
            ("train", "loss", "accuracy"),
            ("val", "val_loss", "val_accuracy"),
        )
    ]
    path = write_csv(tmp_path / "log.csv", rows)
    fastai = {"train_loss": wide["loss"], "valid_loss": wide["val_loss"]}
    fastai |= {"accuracy": wide["val_accuracy"]}
    for source in (wide, path, fastai):
        report = FluctuationReport.from_history(source, 200, n_classes=4)
        found = (report.verdict, report.generalization)
        assert found == ("not_learning", "not_generalizing")


# --- ambiguous names of parts -------------------------------------------------------------------


def lightning_rows(with_accuracy):
    """Yield rows with the training or the validation loss, and with `acc` beside one of the two."""
    for epoch in range(N):
        own = {"train": {}, "val": {}}
        own[with_accuracy] = {"acc": VAL_ACCURACY[epoch]}
        yield {"epoch": epoch, "step": 4 * epoch + 3, "train_loss": LOSS[epoch], **own["train"]}
        yield {"epoch": epoch, "step": 4 * epoch + 3, "val_loss": VAL_LOSS[epoch], **own["val"]}


@pytest.mark.parametrize(
    ("log", "role"),
    [
        ({"train_loss": LOSS, "valid_loss": VAL_LOSS, "accuracy": VAL_ACCURACY}, "val_accuracy"),
        ({"val_loss": VAL_LOSS, "accuracy": VAL_ACCURACY}, "val_accuracy"),
        ({"train/loss": LOSS, "val/loss": VAL_LOSS, "metrics/accuracy_top1": VAL_ACCURACY},
         "val_accuracy"),
        ({"train_loss": LOSS, "test_loss": VAL_LOSS, "accuracy": VAL_ACCURACY}, "val_accuracy"),
        (list(lightning_rows("val")), "val_accuracy"),
        (list(lightning_rows("train")), "accuracy"),
        ({"loss": LOSS, "val_loss": VAL_LOSS, "accuracy": VAL_ACCURACY}, "accuracy"),  # Keras
        ({"train_loss": LOSS, "accuracy": VAL_ACCURACY}, "accuracy"),
        ({"train_loss": LOSS, "val_loss": VAL_LOSS, "acc": VAL_ACCURACY, "val_acc": ACCURACY},
         "accuracy"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*used as validation")
def test_an_accuracy_without_a_part_belongs_to_the_part_of_the_losses(log, role):
    assert columns(read_history(log), [role]) == {role: VAL_ACCURACY}


def test_an_accuracy_with_a_part_leaves_the_other_one_to_validation():
    log = {"train_loss": LOSS, "valid_loss": VAL_LOSS, "accuracy": VAL_ACCURACY}
    assert columns(read_history({**log, "train_accuracy": ACCURACY})) == OURS


def test_a_test_part_counts_as_validation_if_nothing_else_does_with_a_warning(tmp_path):
    named = {"train_loss": LOSS, "train_acc": ACCURACY}
    named |= {"test_loss": VAL_LOSS, "test_acc": VAL_ACCURACY}
    for source in (named, rows_of_parts("split", "train", "test")):
        with pytest.warns(UserWarning, match="used as validation, for lack of other columns: test"):
            assert columns(read_history(source)) == OURS
        without = {"val_loss": None, "val_accuracy": None}
        assert columns(read_history(source, without), ("loss",)) == only("loss")
    rows = [dict(zip(named, values, strict=True)) for values in zip(*named.values(), strict=True)]
    path = write_csv(tmp_path / "log.csv", rows)
    code, _, err = said(
        "diagnose", path, "--column", "val_loss=none", "--column", "val_accuracy=none"
    )
    assert code == 0
    assert "used as validation" not in err
    assert role_of("test_loss") is None


@pytest.mark.parametrize("n_tests", [1, 2])
def test_a_test_at_the_end_is_still_not_judged(tmp_path, n_tests):
    rows = [{"epoch": t, "train_loss": LOSS[t]} for t in range(N)]
    rows += [{"epoch": N, "test_loss": 0.7}] * n_tests
    read = read_history(write_csv(tmp_path / "log.csv", rows))
    assert columns(read, ("loss", "val_loss")) == {"loss": LOSS, "val_loss": [None] * N}


# --- several runs -------------------------------------------------------------------------------


@pytest.mark.parametrize("is_interleaved", [False, True])
@pytest.mark.parametrize("names", [(1, 2, 3), ("a", "b", "last")])
def test_the_last_fold_counts_by_name(tmp_path, names, is_interleaved):
    rows = [
        {"fold": fold, "epoch": t, "loss": LOSS[t] + (fold != names[-1]), "val_loss": VAL_LOSS[t]}
        for fold in names
        for t in range(N)
    ]
    if is_interleaved:
        rows = sorted(rows, key=lambda row: row["epoch"])
    path = write_csv(tmp_path / "log.csv", rows)
    says = (
        rf"fold distinguishes 3 runs.*The last run, fold {names[-1]}, counts.*--column epoch=none"
    )
    with pytest.warns(UserWarning, match=says):
        assert columns(read_history(path), ("loss", "val_loss")) == only("loss", "val_loss")
    assert len(read_history(path, {"epoch": None}).rows) == 3 * N


def test_folds_with_a_row_for_each_part():
    rows = [row for fold in "abc" for row in rows_of_parts(fold=fold)]
    with pytest.warns(UserWarning, match="The last run, fold c, counts"):
        assert columns(read_history(rows)) == OURS


def test_the_last_fit_in_a_file_counts_by_its_line(tmp_path):
    rows = [{"epoch": t, "loss": 9.0} for t in range(N)]
    rows += [{"epoch": t, "loss": LOSS[t]} for t in range(N)]
    path = write_csv(tmp_path / "log.csv", rows)
    says = rf"contains 2 runs.*The last run, from line {N + 2} on, counts.*--column epoch=none"
    with pytest.warns(UserWarning, match=says):
        assert columns(read_history(path), ["loss"]) == only("loss")


def test_rows_side_by_side_without_a_column_of_parts_are_not_called_a_resumed_run():
    rows = [{k: v for k, v in row.items() if k != "phase"} for row in rows_of_parts()]
    with pytest.warns(UserWarning, match=r"side by side, as in rows of several batches, parts"):
        read_history(rows)
