"""Logs in the exact formats of other programs are read into our columns."""

import doctest
import json
import math
import re
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensorseq.diagnosis import log_names, logs
from sensorseq.diagnosis.log_names import role_of
from sensorseq.diagnosis.logs import read_history
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import ArgumentError, InputError
from sensorseq.history import History

T = np.arange(30)
LOSS = (0.4 + np.exp(-T / 5)).tolist()
VAL_LOSS = (0.5 + np.exp(-T / 5)).tolist()
ACCURACY = (0.9 - 0.6 * np.exp(-T / 5)).round(4).tolist()
VAL_ACCURACY = (0.8 - 0.5 * np.exp(-T / 5)).round(4).tolist()
OURS = {"loss": LOSS, "accuracy": ACCURACY, "val_loss": VAL_LOSS, "val_accuracy": VAL_ACCURACY}
ROWS = [dict(zip(OURS, values, strict=True)) for values in zip(*OURS.values(), strict=True)]


def column(history, name):
    return [row.get(name) for row in history.rows]


def assert_is_ours(history):
    assert {name: column(history, name) for name in OURS} == OURS


def write(tmp_path, text, name="log.csv"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def lines(*rows, separator=","):
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


# --- names --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "loss") for name in ("loss", "Loss", "train_loss", "training loss", "Loss/train",
          "train_loss_epoch", "trainLoss", "train/epoch_loss", "loss_train/loss", "train/loss",
          "cross_entropy")),
        *((name, "val_loss") for name in ("val_loss", "valid_loss", "eval_loss", "Loss/valid",
          "validation/epoch_loss", "ValLoss", "eval/loss", "dev-loss", "Loss_val/Loss")),
        *((name, "accuracy") for name in ("acc", "accuracy", "train_acc", "binary_accuracy",
          "sparse_categorical_accuracy", "train/epoch_accuracy", "Train Accuracy", "error_rate")),
        *((name, "val_accuracy") for name in ("val_acc", "valid_acc", "eval_accuracy",
          "val_sparse_categorical_accuracy", "Accuracy/validation", "val_MulticlassAccuracy")),
        *((name, "learning_rate") for name in ("lr", "learning_rate", "lr-Adam", "lr-SGD/pg1",
          "train/learning_rate", "epoch_learning_rate")),
        *((name, "epoch") for name in ("epoch", "Epoch", "train/epoch")),
        *((name, "step") for name in ("step", "global_step", "train/global_step", "batch")),
        *((name, None) for name in ("test_loss", "test/acc", "train_loss_step", "batch_loss",
          "valid_loss_best", "train_loss_best", "evaluation_loss_vs_iterations", "val_lr", "f1",
          "val_loss/dataloader_idx_1", "out_loss", "val_out_loss", "top_k_categorical_accuracy",
          "balanced_accuracy", "gloss", "dur", "", "___", "train_val_loss")),
    ],
)  # fmt: skip
def test_the_role_of_a_name(name, role):
    assert role_of(name) == role


PAIRS = [
    *[("trn_loss", "val_loss"), ("train_loss", "vald_loss"), ("loss_trn", "loss_vld")],
    *[("tr_loss", "va_loss"), ("tloss", "vloss"), ("t_loss", "v_loss"), ("train_loss", "cv_loss")],
    *[("trainloss", "valloss"), ("lossTrain", "lossVal"), ("Train Loss", "Vald Loss")],
    *[("train/ce", "val/ce"), ("train_nll", "valid_nll")],
]


@pytest.mark.parametrize(("train", "validation"), PAIRS)
def test_parts_are_read_under_any_usual_abbreviation(train, validation):
    history = {train: [1.0, 0.5], validation: [1.5, 0.9], "accuracy": [0.4, 0.6]}
    names = read_history(history).names
    assert names == {"loss": train, "val_loss": validation, "val_accuracy": "accuracy"}
    accuracies = {name.replace("loss", "acc"): values for name, values in history.items()}
    if "loss" in train:
        expected = {"accuracy": train.replace("loss", "acc")}
        expected["val_accuracy"] = validation.replace("loss", "acc")
        del accuracies["accuracy"]
        assert read_history(accuracies).names == expected


def test_an_abbreviation_without_its_other_part_is_not_used_and_the_option_is_named():
    for name, role in (("vloss", "val_loss"), ("cv_loss", "val_loss"), ("my_loss", "val_loss")):
        history = {name: [1.5, 0.9], "accuracy": [0.4, 0.6], "val_accuracy": [0.4, 0.5]}
        with pytest.warns(UserWarning, match=rf"{name} is not used.*--column {role}={name}\)"):
            read_history(history)


def test_further_losses_and_accuracies_of_a_complete_log_are_left_out_without_a_warning():
    ours = {name: [0.4, 0.5] for name in ("loss", "val_loss", "accuracy", "val_accuracy")}
    others = ("head_loss", "val_head_loss", "binary_crossentropy", "top5_acc", "v_loss", "val/ce")
    history = {**ours, **{name: [0.1, 0.2] for name in others}}
    assert set(read_history(history).names) == set(ours)


ERROR_RATES = [0.7, 0.4, 0.25]


@pytest.mark.parametrize(
    ("name", "role"),
    [
        *((name, "val_accuracy") for name in ("error_rate", "val_error", "valid_err", "verr",
          "val/top1_err", "test_error", "err", "val_misclassification_rate", "val_err_top1")),
        *((name, "accuracy") for name in ("train_err", "train/top1_error", "trainErrorRate")),
    ],
)  # fmt: skip
def test_an_error_rate_is_read_as_one_minus_accuracy(name, role):
    history = {"train_loss": [1.0, 0.5, 0.4], "valid_loss": [1.5, 0.9, 0.8], name: ERROR_RATES}
    read = read_history(history, {role: name} if name in ("verr", "test_error") else None)
    assert read.names[role] == f"1 - {name}"
    assert column(read, role) == pytest.approx([0.3, 0.6, 0.75])
    rows = [{"part": "val", "error": rate, "loss": 1.0} for rate in ERROR_RATES]
    assert column(read_history(rows), "val_accuracy") == pytest.approx([0.3, 0.6, 0.75])


def test_an_error_that_may_be_no_rate_is_not_used_and_the_option_is_named():
    losses = {"train_loss": [1.0, 0.5, 0.4], "valid_loss": [1.5, 0.9, 0.8]}
    for name, values in (
        ("error_rate", [30, 4, 0.9]),
        ("Error (%)", [0.9, 0.5, 0.4]),
        ("val_error", [0, 1, 0]),
        ("val_state_error", ERROR_RATES),
        ("error", ["", "killed", "1.2"]),
    ):
        said = rf"{re.escape(name)} is not used. If it is 1 - val_accuracy, .*=val_accuracy="
        with pytest.warns(UserWarning, match=said.replace("=val_accuracy=", "--column val_acc")):
            assert set(read_history({**losses, name: values}).names) == {"loss", "val_loss"}
    named = read_history({**losses, "my_error": ERROR_RATES}, {"val_accuracy": "my_error"})
    assert column(named, "val_accuracy") == pytest.approx([0.3, 0.6, 0.75])
    history = {**losses, "error_rate": [30, 4, 0.9]}
    with pytest.raises(ArgumentError, match=r"is 30; expected a fraction.*Divide percentages"):
        FluctuationReport.from_history(history, columns={"val_accuracy": "error_rate"})


def test_other_errors_and_an_error_rate_beside_its_accuracy_are_left_out_without_a_warning():
    losses = {"train_loss": [1.0, 0.5, 0.4], "valid_loss": [1.5, 0.9, 0.8]}
    others = ("mean_squared_error", "val_mean_absolute_error", "std_err")
    read_history({**losses, **dict.fromkeys(others, ERROR_RATES)})
    fastai = {**losses, "error_rate": ERROR_RATES, "accuracy": [0.3, 0.6, 0.75]}
    assert read_history(fastai).names["val_accuracy"] == "accuracy"


def test_an_error_without_a_loss_beside_it_may_be_the_loss():
    errors = {"train_error": ERROR_RATES, "val_error": ERROR_RATES}
    with pytest.warns(UserWarning, match=r"train_error is not used. If it is 1 - accuracy"):
        read = read_history(errors, {"val_loss": "val_error"})
    assert read.names == {"val_loss": "val_error"}
    assert read.rows[0]["val_loss"] == 0.7


@pytest.mark.parametrize("weights", [(1, 1), (1, 0.2)])
def test_a_loss_that_is_a_sum_of_outputs_asks_for_one_output(weights):
    rng = np.random.default_rng(0)
    names = ("state_loss", "ground_loss", "val_state_loss", "val_ground_loss")
    log = {name: (np.exp(-T / 5) + rng.uniform(0.3, 0.4, len(T))).round(4) for name in names}
    for total, *parts in (("loss", *names[:2]), ("val_loss", *names[2:])):
        log[total] = sum(w * log[part] for w, part in zip(weights, parts, strict=True)).round(4)
    log |= {"val_state_accuracy": VAL_ACCURACY, "state_accuracy": ACCURACY}
    with pytest.raises(InputError, match="loss is a sum of state_loss, ground_loss") as caught:
        read_history(log)
    chosen = json.loads(re.findall(r"columns=({.*?})", str(caught.value))[0])
    assert chosen == {
        role: role.replace("loss", "state_loss").replace("acc", "state_acc") for role in OURS
    }
    assert read_history(log, chosen).names == chosen
    sums = {"loss": "loss", "val_loss": "val_loss"}
    with pytest.warns(UserWarning, match=r"is not used") as said:
        assert read_history(log, sums).names == sums
    assert any("--column accuracy=state_accuracy" in str(warning.message) for warning in said)
    log["loss"] = log["loss"] + rng.uniform(0, 0.05, len(T))
    with pytest.raises(InputError, match="val_loss is a sum"):
        read_history(log)


def test_two_columns_for_one_role_are_an_error_that_names_both_and_the_remedy():
    history = {"loss": LOSS, "acc": ACCURACY, "binary_accuracy": ACCURACY[::-1]}
    with pytest.raises(InputError, match=r"'acc' or 'binary_accuracy'.*--column accuracy"):
        read_history(history)
    chosen = read_history(history, {"accuracy": "binary_accuracy"})
    assert column(chosen, "accuracy") == ACCURACY[::-1]
    assert chosen.names == {"loss": "loss", "accuracy": "binary_accuracy"}
    assert column(chosen, "acc") == ACCURACY  # the column is kept under its own name


def test_an_empty_column_is_not_a_candidate(tmp_path):
    path = write(tmp_path, "epoch,loss,acc,accuracy\n0,1.0,0.5,\n1,0.9,0.6,\n")
    assert read_history(path).names["accuracy"] == "acc"


def test_a_column_marked_as_unused_is_not_used():
    history = read_history({"loss": LOSS, "val_loss": VAL_LOSS}, {"loss": None})
    assert column(history, "loss") == [None] * 30
    assert history.names == {"val_loss": "val_loss"}


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"los": "loss"}, "`columns`: role='los' is not known. Did you mean 'loss'"),
        ({"loss": "los"}, "history has no such column. Did you mean 'loss'"),
        ({"loss": 3}, "no such column"),
        ({"loss": "loss", "accuracy": "loss"}, "a column cannot have two roles"),
        ("loss", "expected a mapping"),
    ],
)
def test_a_mistake_in_columns_is_named(columns, says):
    with pytest.raises(ArgumentError, match=says):
        FluctuationReport.from_history({"loss": LOSS}, columns=columns)


def test_the_report_keeps_the_names_of_the_columns_that_were_read():
    report = FluctuationReport.from_history({"train_loss": LOSS, "eval_acc": VAL_ACCURACY})
    assert report.columns_read == {"loss": "train_loss", "val_accuracy": "eval_acc"}


# --- kinds of source ----------------------------------------------------------------------------


def test_our_own_history_is_read_unchanged(tmp_path):
    history = History({"epoch": i, **row} for i, row in enumerate(ROWS, 1))
    history.to_frame().to_csv(tmp_path / "h.csv", index=False)
    history.to_json(tmp_path / "h.json")
    expected = FluctuationReport.from_history(history, 42).to_dict()
    for source in (
        tmp_path / "h.csv",
        str(tmp_path / "h.json"),
        history.to_rows(),
        history.to_frame(),
    ):
        assert_is_ours(read_history(source))
        assert FluctuationReport.from_history(source, 42).to_dict() == expected


def test_a_history_object_of_keras():
    given = SimpleNamespace(
        history={"loss": LOSS, "sparse_categorical_accuracy": ACCURACY, "val_loss": VAL_LOSS,
                 "val_sparse_categorical_accuracy": VAL_ACCURACY, "learning_rate": [1e-3] * 30},
        epoch=list(range(30)),
        params={"epochs": 30},
    )  # fmt: skip
    history = read_history(given)
    assert_is_ours(history)
    assert column(history, "learning_rate") == [1e-3] * 30


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_csv_of_keras(tmp_path, separator):
    head = ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    body = [(i, ACCURACY[i], LOSS[i], VAL_ACCURACY[i], VAL_LOSS[i]) for i in range(30)]
    history = read_history(write(tmp_path, lines(head, *body, separator=separator)))
    assert_is_ours(history)
    assert column(history, "epoch") == list(range(1, 31))


def test_a_csv_of_keras_where_training_was_stopped_has_no_validation_at_the_end(tmp_path):
    text = "epoch,loss,val_loss\n0,1.0,1.1\n1,nan,NA\n"
    history = read_history(write(tmp_path, text))
    assert column(history, "val_loss") == [1.1, None]
    assert math.isnan(column(history, "loss")[1])


def lightning_rows():
    """Yield a log with on_step, on_epoch, a learning rate monitor and a test; 4 steps per epoch."""
    head = ["epoch", "lr-Adam", "step", "test_loss", "train_acc", "train_loss_epoch",
            "train_loss_step", "val_acc", "val_loss"]  # fmt: skip
    yield head
    for i in range(30):
        last = 4 * i + 3
        yield ["", 0.001, 4 * i, "", "", "", "", "", ""]
        yield [i, "", 4 * i + 1, "", "", "", 9.9, "", ""]
        yield [i, "", last, "", "", "", "", VAL_ACCURACY[i], VAL_LOSS[i]]
        yield [i, "", last, "", ACCURACY[i], LOSS[i], "", "", ""]
    yield [30, "", 120, 0.7, "", "", "", "", ""]


def test_metrics_csv_of_lightning(tmp_path):
    path = write(tmp_path, lines(*lightning_rows()), "metrics.csv")
    for source in (path, tmp_path):
        history = read_history(source)
        assert_is_ours(history)
        assert column(history, "learning_rate") == [0.001] * 30
        assert history.names["loss"] == "train_loss_epoch"


def test_metrics_csv_of_lightning_through_pandas(tmp_path):
    pd = pytest.importorskip("pandas")
    path = write(tmp_path, lines(*lightning_rows()), "metrics.csv")
    history = read_history(pd.read_csv(path))
    for name, values in OURS.items():  # older versions of pandas round otherwise
        assert column(history, name) == pytest.approx(values, rel=1e-15)


def test_a_training_loss_of_single_batches_is_not_used_unless_it_is_named(tmp_path):
    rows = [["epoch", "step", "train_loss", "val_loss"]]
    for i in range(30):
        rows += [[i, 4 * i + 1, 1.0, ""], [i, 4 * i + 3, 3.0, ""], [i, 4 * i + 3, "", VAL_LOSS[i]]]
    path = write(tmp_path, lines(*rows))
    with pytest.warns(UserWarning, match="train_loss .*--column loss=train_loss"):
        history = read_history(path)
    assert column(history, "loss") == [None] * 30
    assert column(history, "val_loss") == VAL_LOSS
    assert history.names == {"val_loss": "val_loss", "epoch": "epoch"}
    assert column(read_history(path, {"loss": "train_loss"}), "loss") == [2.0] * 30


def test_one_logged_batch_is_not_the_loss_of_an_epoch_either(tmp_path):
    rows = [["epoch", "step", "train_loss", "val_loss"]]
    for i in range(30):
        rows += [[i, 60 * i + 49, LOSS[i], ""], [i, 60 * i + 59, "", VAL_LOSS[i]]]
    with pytest.warns(UserWarning, match="single steps"):
        history = read_history(write(tmp_path, lines(*rows)))
    assert column(history, "loss") == [None] * 30


def skorch_history():
    return [
        {"batches": [{"train_loss": 1.0, "train_batch_size": 32}], "epoch": i, "dur": 0.1,
         "train_batch_count": 4, "valid_batch_count": 1, "train_loss": row["loss"],
         "train_loss_best": True, "train_acc": row["accuracy"], "valid_loss": row["val_loss"],
         "valid_loss_best": False, "valid_acc": row["val_accuracy"], "valid_acc_best": True}
        for i, row in enumerate(ROWS, 1)
    ]  # fmt: skip


def test_a_history_of_skorch_from_memory_and_from_its_file(tmp_path):
    assert_is_ours(read_history(skorch_history()))
    path = write(tmp_path, json.dumps(skorch_history()), "history.json")
    assert_is_ours(read_history(path))


def test_the_state_of_a_trainer_of_transformers(tmp_path):
    log = []
    for i in range(30):
        for half in (1, 2):  # each loss is the mean since the previous entry
            log.append({"epoch": i + half / 2, "step": 10 * i + 5 * half, "grad_norm": 1.0,
                        "learning_rate": 1e-5, "loss": LOSS[i] + (half - 1.5) / 10})  # fmt: skip
        log.append({"epoch": float(i + 1), "step": 10 * i + 10, "eval_loss": VAL_LOSS[i],
                    "eval_accuracy": VAL_ACCURACY[i], "eval_runtime": 0.5})  # fmt: skip
    log.append({"epoch": 30.0, "step": 300, "train_loss": 1.0, "train_runtime": 9.0})
    state = {"best_metric": None, "epoch": 30.0, "log_history": log, "max_steps": 300}
    history = read_history(write(tmp_path, json.dumps(state), "trainer_state.json"))
    assert column(history, "val_loss") == VAL_LOSS
    assert column(history, "loss") == pytest.approx(LOSS)
    assert column(history, "epoch") == list(range(1, 31))


def test_json_of_columns_and_of_lines(tmp_path):
    assert_is_ours(read_history(write(tmp_path, json.dumps(OURS), "columns.json")))
    text = "".join(json.dumps(row) + "\n" for row in ROWS)
    assert_is_ours(read_history(write(tmp_path, text, "log.txt")))


class Frame:
    """The part of a DataFrame that is used: its column names, and its columns by name."""

    def __init__(self, columns):
        self.of = columns
        self.columns = list(columns)

    def __getitem__(self, name):
        return list(self.of[name])


def test_a_frame_that_is_not_pandas_keeps_none_and_nan_apart():
    history = read_history(Frame({"loss": [1.0, math.nan, 0.9], "val_acc": [0.5, None, 0.6]}))
    assert math.isnan(column(history, "loss")[1])
    assert column(history, "val_accuracy") == [0.5, None, 0.6]


def test_in_pandas_nan_is_a_gap_but_at_the_end_it_is_divergence():
    pd = pytest.importorskip("pandas")
    gaps = [v if i % 5 == 4 else math.nan for i, v in enumerate(VAL_LOSS)]
    diverged = LOSS[:20] + [math.nan] * 10
    history = read_history(pd.DataFrame({"loss": diverged, "val_loss": gaps}))
    assert column(history, "val_loss") == [None if math.isnan(v) else v for v in gaps]
    assert column(history, "loss")[:20] == LOSS[:20]
    assert all(math.isnan(value) for value in column(history, "loss")[20:])
    report = FluctuationReport.from_history(pd.DataFrame({"loss": diverged}))
    assert report.verdict == "diverged"
    never = FluctuationReport.from_history(pd.DataFrame({"loss": [math.nan] * 20}))
    assert never.verdict == "diverged"


def test_event_files_of_summary_writer_and_of_lightning(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path / "plain") as plain:
        for i in range(30):
            plain.add_scalar("Loss/train", LOSS[i], i)
            plain.add_scalars("Accuracy", {"train": ACCURACY[i], "val": VAL_ACCURACY[i]}, i)
            plain.add_scalar("Loss/val", VAL_LOSS[i], i)
    with tensorboard.SummaryWriter(tmp_path / "lightning") as lightning:
        lightning.add_scalar("hp_metric", -1, 0)
        for i in range(30):
            step = 10 * i + 9
            lightning.add_scalar("train_loss_step", 7.0, step - 3)
            lightning.add_scalar("epoch", i, step - 3)
            for name, value in (("train_loss_epoch", LOSS), ("val_loss", VAL_LOSS),
                                ("val_acc", VAL_ACCURACY), ("train_acc", ACCURACY)):  # fmt: skip
                lightning.add_scalar(name, value[i], step)
                lightning.add_scalar("epoch", i, step)
    for folder in ("plain", "lightning"):
        history = read_history(tmp_path / folder)
        for name, values in OURS.items():
            assert column(history, name) == [float(np.float32(v)) for v in values], (folder, name)


def test_batch_losses_beside_validation_in_event_files_are_not_taken_for_epochs(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard")
    with tensorboard.SummaryWriter(tmp_path) as writer:
        for i in range(30):
            for step in range(4 * i, 4 * i + 4):
                writer.add_scalar("train/loss", 1.0, step)
            writer.add_scalar("val/loss", VAL_LOSS[i], step)
    with pytest.warns(UserWarning, match="single steps"):
        history = read_history(tmp_path)
    assert column(history, "val_loss") == pytest.approx(VAL_LOSS)
    assert column(history, "loss") == [None] * 30


# --- epochs -------------------------------------------------------------------------------------


def test_rows_out_of_order_are_put_in_order():
    order = np.random.default_rng(0).permutation(30)
    shuffled = [{"epoch": int(i) + 1, **ROWS[i]} for i in order]
    assert_is_ours(read_history(shuffled))


@pytest.mark.parametrize("restart", [0, 7, 9])
def test_the_later_epochs_of_a_resumed_run_count(tmp_path, restart):
    first = [(i, 9.0, 9.0) for i in range(10)]
    again = [(i, LOSS[i], VAL_LOSS[i]) for i in range(restart, 30)]
    text = lines(("epoch", "loss", "val_loss"), *first, ("epoch", "loss", "val_loss"), *again)
    with pytest.warns(UserWarning, match=rf"epoch {restart}\b.* occurred more than once"):
        history = read_history(write(tmp_path, text))
    assert column(history, "loss") == [9.0] * restart + LOSS[restart:]


def test_epochs_that_a_resumed_run_never_reached_again_are_dropped(tmp_path):
    text = lines(("epoch", "loss"), *((i, LOSS[i]) for i in range(20)), (15, 1.0), (16, 1.0))
    with pytest.warns(UserWarning, match="more than once"):
        history = read_history(write(tmp_path, text))
    assert column(history, "loss") == [*LOSS[:15], 1.0, 1.0]


def test_a_step_count_that_does_not_increase_is_not_an_epoch():
    assert_is_ours(read_history({"steps": [100] * 30, **OURS}))


def test_steps_count_as_epochs_if_there_is_no_epoch_column(tmp_path):
    rows = [("Step", "val_loss", "train_loss")]
    for i in range(30):
        rows += [(10 * i, VAL_LOSS[i], ""), (10 * i, "", LOSS[i]), (10 * i + 1, "", "")]
    history = read_history(write(tmp_path, lines(*rows)))
    assert column(history, "loss") == LOSS
    assert column(history, "val_loss") == VAL_LOSS


def test_missing_epochs_keep_the_numbers_of_the_others():
    rows = [{"epoch": i, "loss": LOSS[i]} for i in (1, 2, 5, 6)]
    history = read_history(rows)
    assert column(history, "loss") == [LOSS[1], LOSS[2], None, None, LOSS[5], LOSS[6]]
    assert column(history, "epoch") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("epoch,loss\n1,1.0\n1e12,0.9\n", "epochs go up to 1000000000000.*--column epoch=none"),
        ("epoch,loss\n-1,1.0\n", "epoch -1 is negative or infinite"),
        ("epoch,loss\ninf,1.0\n", "epoch inf is negative or infinite"),
        ("epoch,loss\none,1.0\n", "epoch of line 2 is 'one'"),
        ("epoch,loss\n1,1.0\n2,0.9,3\n", "line 3: 3 entries for 2 columns"),
        ("epoch,loss\n1,1.0\n2\n", "line 3: 1 entries for 2 columns"),
        ("epoch,loss\n1,1.0\n\n2,high\n", "loss of line 4 is 'high'"),
        ("epoch,loss,loss\n1,1,1\n", "the column 'loss' twice"),
        ("epoch,loss\n", "no rows"),
        ("", "no rows"),
        ("epoch,cost\n1,2\n", "has epoch, cost. None is recognized as one of loss"),
        ("epoch,train_acc\n1,0.2\n", "None is recognized as one of loss"),
        ("epoch,val_acc\n1,87.5\n", "val_accuracy of epoch 1 is 87.5.*by 100.*val_acc"),
        ("loss\n" + "-9.0\n" * 30, "cross-entropy.*Read: loss <- loss"),
        ("epoch,loss\n1,1\x00\n", "log.csv"),
        ('[{"loss": 1}, 2]', "not a table of results"),
        ('{"loss": 1}', "not a table of results"),
        ('{"loss": [1, 2], "val_loss": [1]}', "differ in length: loss 2, val_loss 1"),
        ('[{"loss": 1}', "is not JSON"),
        ('[{"loss": [1]}]', r"loss of row 1 is \[1\]"),
        ("[" * 100_000, "log.csv"),
        ('[{"loss": 1' + "0" * 400 + "}]", "loss of row 1"),
        ("[]", "no rows"),
    ],
)
def test_errors_for_unreadable_logs_name_the_file_and_the_place(tmp_path, text, says):
    path = write(tmp_path, text)
    with pytest.raises(InputError, match=says) as caught:
        FluctuationReport.from_history(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, ArgumentError)


def test_a_file_of_a_different_kind_or_a_missing_file_is_named(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    for name in ("picture.png", "missing.csv"):
        with pytest.raises(InputError, match=name):
            FluctuationReport.from_history(tmp_path / name)


@pytest.mark.parametrize("epochs", [[None] * 30, range(30), range(1, 31)])
def test_columns_in_memory_may_have_epochs(epochs):
    assert_is_ours(read_history({"epoch": list(epochs), **OURS}))


def test_infinity_and_nan_are_read_as_spelled(tmp_path):
    text = "epoch,loss\n1,inf\n2,-Infinity\n3,NaN\n4,1e-3\n5,None\n"
    first, second, third, fourth, fifth = column(read_history(write(tmp_path, text)), "loss")
    assert (first, second, fourth, fifth) == (math.inf, -math.inf, 1e-3, None)
    assert math.isnan(third)


WHOLE = lines(*lightning_rows()).encode()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, 300), stop=st.integers(0, 2000), junk=st.binary(max_size=12),
    name=st.sampled_from(["metrics.csv", "log.json"]),
)  # fmt: skip
def test_a_damaged_log_is_judged_or_rejected_by_name(tmp_path, start, stop, junk, name):
    path = tmp_path / name
    path.write_bytes(WHOLE[:start] + junk + WHOLE[start:stop])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            report = FluctuationReport.from_history(path)
        except InputError as error:
            told = str(error)
        else:
            told = f"{path} {report.verdict}"
    assert str(path) in told


def test_the_examples_in_the_docstrings_are_true():
    for module in (log_names, logs):
        assert doctest.testmod(module) == (0, 1)
