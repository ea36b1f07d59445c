"""Stopping early is proved by what a run noted, and not by luck."""

import numpy as np
import pytest

from sensorseq.fluctuation.probes.early_stopping import stopping_probe
from sensorseq.history import History
from sensorseq.training_record import TrainingRecord


def a_run(
    rng,
    n_epochs=60,
    *,
    n_val=120,
    n_groups=None,
    rise=0.0,
    fall=0.0,
    noise=0.02,
    rho=0.0,
    jumps=0.0,
):
    """Validation that gets worse from epoch 20 on, by so much in 10 epochs, and training."""
    epoch = np.arange(n_epochs)
    shocks = rng.normal(0, noise, n_epochs)
    wave = np.zeros(n_epochs)
    for t in range(n_epochs):
        wave[t] = (rho * wave[t - 1] if t else 0.0) + np.sqrt(1 - rho**2) * shocks[t]
    late = np.maximum(epoch - 20, 0) / 10
    val_loss = 0.6 + np.exp(-epoch / 5) + rise * late + wave
    loss = 0.3 * np.exp(-epoch / 20) + 0.002 * rng.normal(size=n_epochs)
    level = np.clip(0.85 - np.exp(-epoch / 5) - fall * late, 0.05, 1)
    groups = None if n_groups is None else np.arange(n_val) % n_groups
    hard = rng.normal(0, 1, n_val)
    level = level + rng.normal(0, jumps, n_epochs)
    margin = hard + rng.normal(0, 0.7, (n_epochs, n_val)) + 3 * (level[:, None] - 0.5)
    predicted = np.where(margin > 0, 1, 0)
    record = TrainingRecord(
        epoch_steps=np.arange(n_epochs + 1),
        fixed_loss=loss,
        val_target=np.ones(n_val, np.int64),
        val_groups=groups,
        val_predicted=predicted.astype(np.uint16),
        val_margin=margin.astype(np.float16),
    )
    rows = [{"epoch": t + 1, "loss": loss[t], "val_loss": val_loss[t]} for t in range(n_epochs)]
    return record, History(rows)


def outcomes(n_runs, **options):
    rng = np.random.default_rng(5)
    return [stopping_probe(*a_run(rng, **options)).trials[0].outcome for _ in range(n_runs)]


def test_overtraining_is_confirmed_with_a_repair():
    record, history = a_run(np.random.default_rng(0), rise=0.1, fall=0.05)
    (trial,) = stopping_probe(record, history).trials
    assert trial.outcome == "confirmed"
    assert trial.change["restore_best"] is True
    assert trial.change["monitor"] == "val_loss"
    assert trial.change["patience"] >= 10
    assert "From epoch 41 to 60 the validation loss changed by +0.085" in trial.sentence
    assert "against the last epoch" in trial.sentence


@pytest.mark.parametrize("options", [{"rise": 0.1}, {"fall": 0.08}], ids=str)
def test_either_witness_is_enough(options):
    assert outcomes(15, **options).count("confirmed") >= 14


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"noise": 0.1},
        {"noise": 0.1, "rho": 0.7},
        {"n_groups": 12},
        {"jumps": 0.1},
        {"n_epochs": 24},
    ],
    ids=str,
)
def test_a_plateau_is_acquitted(options):
    assert outcomes(60, **options).count("confirmed") <= 3


def test_a_calm_plateau_is_surely_none_and_a_noisy_one_is_left_open():
    assert outcomes(20).count("rejected") >= 18
    assert outcomes(20, noise=0.3).count("undecided") >= 5


def test_one_unlucky_last_epoch_is_no_overtraining():
    record, history = a_run(np.random.default_rng(0))
    record.val_predicted[-1, :60] = 0
    record.val_margin[-1, :60] = -1
    (trial,) = stopping_probe(record, history).trials
    assert trial.outcome == "rejected"


def test_where_the_best_epoch_was_kept_nothing_is_left_to_repair():
    record, history = a_run(np.random.default_rng(0), rise=0.1, fall=0.05)
    best = int(np.argmin(history["val_loss"])) + 1
    (trial,) = stopping_probe(record, history, best_epoch=best).trials
    assert trial.outcome == "rejected"
    assert f"The weights of epoch {best} of 60 were kept" in trial.sentence
    assert not trial.change
    (trial,) = stopping_probe(record, history, best_epoch=58).trials  # by another monitor
    assert trial.outcome == "confirmed"


def test_what_cannot_be_told_is_said():
    record, history = a_run(np.random.default_rng(0), n_epochs=9, n_val=6)
    (gap,) = stopping_probe(record, history).not_tested
    assert "too few" in gap.reason
    (gap,) = stopping_probe(None, History([{"epoch": 1, "loss": 1.0}])).not_tested
    assert "no validation" in gap.reason
    few, history = a_run(np.random.default_rng(0), rise=0.1, n_groups=4)
    (trial,) = stopping_probe(few, history).trials  # the slope alone
    assert trial.outcome == "confirmed"
    assert "other half" not in trial.sentence


def test_a_history_without_a_record_is_judged_by_its_slope():
    _, history = a_run(np.random.default_rng(0), rise=0.1)
    assert stopping_probe(None, history).trials[0].outcome == "confirmed"
    falling = History([{**row, "loss": 0.4 + row["epoch"] / 100} for row in history])
    assert stopping_probe(None, falling).trials[0].outcome == "rejected"  # training gets worse, too


def test_a_loss_that_is_not_finite_is_no_witness():
    record, history = a_run(np.random.default_rng(0))
    rows = history.to_rows()
    rows[-1]["val_loss"] = float("nan")
    assert stopping_probe(record, History(rows)).trials[0].outcome == "rejected"
