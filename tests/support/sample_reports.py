"""Handmade reports with causes, and with numbers that a run could have."""

from dataclasses import replace

import numpy as np

from sensorseq.diagnosis.causes import Cause
from sensorseq.diagnosis.metrics import local_trend
from sensorseq.diagnosis.report import FluctuationReport

N_EPOCHS = 150


def history_of(kind, n_epochs=40):
    """Return the columns of a run of one kind: calm, hot, diverged, guessing or short."""
    rng = np.random.default_rng(0)
    loss = 0.4 + 1.4 * np.exp(-np.arange(n_epochs) / 5)
    swing = {"calm": 0.005, "hot": 0.2}.get(kind, 0.005) * rng.normal(size=n_epochs)
    level = 0.85 - 0.6 * np.exp(-np.arange(n_epochs) / 5)
    history = {
        "loss": loss + swing,
        "val_loss": 1.1 * loss + 0.8 * swing,
        "accuracy": np.clip(level - 0.4 * swing, 0, 1),
        "val_accuracy": np.clip(rng.binomial(60, level) / 60 - 0.6 * swing, 0, 1),
    }
    if kind == "diverged":
        history["loss"][25:] = np.nan
    if kind == "guessing":
        history = {"loss": 1.79 + swing, "accuracy": rng.binomial(300, 1 / 6, n_epochs) / 300}
    if kind == "short":
        history = {name: values[:4] for name, values in history.items()}
    return {name: values.tolist() for name, values in history.items()}


def make_report(kind, **facts):
    """Return the report of a run of this kind, with 60 validation windows."""
    facts = {"n_val": 60, "n_train": 300, "n_classes": 6, "best_epoch": 3} | facts
    return FluctuationReport.from_history(history_of(kind), **facts)


VERDICTS = {  # the verdict of each kind of run
    "calm": "normal",
    "hot": "fluctuating",
    "diverged": "diverged",
    "guessing": "not_learning",
    "short": "too_short_to_tell",
}


def make_history(swing, n_val, seed=0):
    """Make 150 epochs that descend to a plateau and fluctuate there by `swing` nats."""
    rng = np.random.default_rng(seed)
    t = np.arange(N_EPOCHS)
    level = 0.55 + 1.2 * np.exp(-t / 14)
    thrown = swing * rng.normal(size=N_EPOCHS)
    accuracy = np.clip(0.84 - 0.66 * np.exp(-t / 14) - 0.35 * thrown, 0, 1)
    return {
        "loss": np.abs(level + thrown).tolist(),
        "val_loss": np.abs(1.15 * level + 0.9 * thrown).tolist(),
        "accuracy": accuracy.tolist(),
        "val_accuracy": (rng.binomial(n_val, 0.95 * accuracy) / n_val).tolist(),
    }


def make_evidence(history, n_val):
    """Make every series that a page can draw."""
    epochs = list(range(1, N_EPOCHS + 1))
    evidence = {}
    for name, band in (("loss", 0.08), ("fixed_loss", 0.06), ("val_accuracy", None)):
        value = np.array(history[name.removeprefix("fixed_")])
        evidence[name] = {
            "epoch": epochs,
            "value": value.tolist(),
            "trend": local_trend(value).tolist(),
        }
        if band is not None:
            evidence[name]["band"] = band
    evidence["val_accuracy"] |= {
        "band_sampling": 1.96 * float(np.sqrt(0.16 / n_val)),
        "band_independent": float(np.sqrt(0.16 / n_val)),
    }
    return evidence


DECAY = {"lr_schedule": "cosine"}
CAUSES = (
    Cause(
        "learning_rate",
        "The rate never falls: averaging the weights of the last epochs alone would save 0.09 nats,"
        " and the loss of the fixed training windows moves by 0.155 nats per epoch (healthy: under"
        " 0.030).",
        finding="schedule missing",
        recommendation=DECAY,
    ),
    Cause(
        "batch_size",
        "4 steps per epoch, and the noise of the gradient asks for 130 windows a step; there were"
        " 32.",
        finding="too small",
        recommendation={"batch_size": 128},
    ),
    Cause(
        "label_noise",
        "3 of 98 training windows keep a negative margin for one and the same other class.",
        advice="Look at the windows below: whether a label is wrong, only a person can say.",
    ),
)


def restless():
    """Return the report of a strongly fluctuating run with three causes."""
    history = make_history(0.16, 42)
    report = FluctuationReport.from_history(history, 42, n_train=98, n_classes=6, best_epoch=141)
    return replace(report, causes=CAUSES, evidence=make_evidence(history, 42))


def expected_roughness():
    """Return the report of a normal run that looks rough because of few validation windows."""
    history = make_history(0.012, 25, seed=4)
    report = FluctuationReport.from_history(history, 25, n_train=300, n_classes=6, best_epoch=120)
    cause = Cause(
        "small_validation_set",
        "25 validation windows that change sides one by one explain 7.1 of the 7.3 points that the"
        " accuracy moves per epoch.",
        advice="Report the accuracy with its interval, or validate on more recordings.",
    )
    return replace(report, causes=(cause,), evidence=make_evidence(history, 25))


SAMPLES = {"restless": restless, "expected": expected_roughness}
