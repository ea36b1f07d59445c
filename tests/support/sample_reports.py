"""Handmade reports with causes and probes, and with numbers that a run could have."""

from dataclasses import replace

import numpy as np

from sensorseq.diagnosis.causes import Cause, NotTested, Probes, Trial
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


def make_curves(swing, seed=0, n_epochs=12):
    """Make losses by epoch for the run (A) and for other settings (B); B varies by `swing` nats."""
    rng = np.random.default_rng(seed)
    run = 0.6 - 0.001 * np.arange(N_EPOCHS) + 0.1 * rng.normal(size=N_EPOCHS)
    other = 0.6 - 0.006 * np.arange(n_epochs) + swing * rng.normal(size=n_epochs)
    return {"A": [run.tolist()], "B": [other.tolist()]}


DECAY = {"lr_schedule": "cosine"}
CAUSES = (
    Cause(
        "learning_rate",
        "proved",
        "The rate never falls: averaging the weights of the last epochs alone would save 0.09 nats,"
        " and the loss of the fixed training windows moves by 0.155 nats per epoch (healthy: under"
        " 0.030).",
        finding="schedule missing",
        recommendation=DECAY,
    ),
    Cause(
        "batch_size",
        "suspected",
        "4 steps per epoch, and the noise of the gradient asks for 130 windows a step; there were"
        " 32.",
        finding="too small",
        recommendation={"batch_size": 128},
    ),
    Cause(
        "label_noise",
        "suspected",
        "3 of 98 training windows keep a negative margin for one and the same other class.",
        advice="Look at the windows below: whether a label is wrong, only a person can say.",
    ),
)
TRIALS = (
    Trial(
        "learning_rate",
        "learning_rate / 10",
        {"learning_rate": 1e-4},
        "race",
        "rejected",
        "learning_rate / 10: the validation loss is 0.23 +- 0.09 nats higher than in the run.",
        noise_ratio=0.42,
        raw_change=0.23,
        change_error=0.09,
        accuracy_change=-0.061,
        accuracy_error=0.022,
        curves=make_curves(0.04, seed=2),
        cost_epochs=16.0,
    ),
    Trial(
        "learning_rate",
        "cosine decay",
        DECAY,
        "race",
        "confirmed",
        "cosine decay: the validation loss is 0.21 +- 0.05 nats lower than in the run.",
        noise_ratio=0.31,
        raw_change=-0.21,
        change_error=0.05,
        accuracy_change=0.041,
        accuracy_error=0.019,
        curves=make_curves(0.02, seed=1),
        cost_epochs=21.5,
    ),
    Trial(
        "weight_init",
        "the default initial weights",
        {"weight_init": "xavier", "recurrent_init": "orthogonal"},
        "race",
        "undecided",
        "the default initial weights: the validation loss is 0.04 +- 0.06 nats lower.",
        raw_change=-0.04,
        change_error=0.06,
        accuracy_change=0.005,
        accuracy_error=0.018,
        curves=make_curves(0.08, seed=3, n_epochs=15),
        cost_epochs=30.0,
    ),
    Trial(
        "optimizer",
        "the default optimizer",
        {"optimizer": "adam"},
        "race",
        "rejected",
        "the default optimizer: the loss was not finite after epoch 3.",
        cost_epochs=0.5,
    ),
    Trial(
        "evaluation_not_deterministic",
        "learning rate 0",
        {},
        "inference",
        "rejected",
        "Two evaluations of the same weights agree in every bit.",
        cost_epochs=0.1,
    ),
)
NOT_TESTED = (
    NotTested(
        "sequence_length",
        "the recordings were not given",
        "report.probe(X, y, groups=groups, recordings=recordings)",
    ),
    NotTested("model_complexity", "the budget was spent", "report.probe(X, y, budget=2.0)"),
    NotTested("loss", "nothing in the run speaks for it"),
)


def restless():
    """Return the report of a strongly fluctuating run with one proved and two observed causes."""
    history = make_history(0.16, 42)
    report = FluctuationReport.from_history(history, 42, n_train=98, n_classes=6, best_epoch=141)
    return replace(
        report,
        causes=CAUSES,
        evidence=make_evidence(history, 42),
        probes=Probes(
            budget=1.0,
            cost=0.68,
            fit_s=41.2,
            probes_s=28.0,
            trials=TRIALS,
            not_tested=NOT_TESTED,
            repair={"lr_schedule": "cosine", "learning_rate": 3e-3},
            previous={"lr_schedule": "constant", "learning_rate": 1e-3},
            note="With cosine decay, after 12 epochs, the loss is 0.21 +- 0.05 nats lower.",
        ),
    )


def expected_roughness():
    """Return the report of a normal run that looks rough because of few validation windows."""
    history = make_history(0.012, 25, seed=4)
    report = FluctuationReport.from_history(history, 25, n_train=300, n_classes=6, best_epoch=120)
    cause = Cause(
        "small_validation_set",
        "suspected",
        "25 validation windows that change sides one by one explain 7.1 of the 7.3 points that the"
        " accuracy moves per epoch.",
        advice="Report the accuracy with its interval, or validate on more recordings.",
    )
    return replace(report, causes=(cause,), evidence=make_evidence(history, 25))


def unproved():
    """Return the report of a fluctuating run whose probes found no cause."""
    full = restless()
    trials = tuple(
        replace(trial, outcome="undecided" if trial.outcome == "confirmed" else trial.outcome)
        for trial in TRIALS
    )
    causes = (
        replace(CAUSES[0], grade="suspected"),
        Cause("unknown", "suspected", "No statistic points at one of the known causes."),
        CAUSES[2],
    )
    probes = replace(
        full.probes,
        trials=trials,
        repair={},
        previous={},
        note="No change passed its stop rule.",
    )
    return replace(full, causes=causes, probes=probes)


SAMPLES = {"restless": restless, "expected": expected_roughness, "unproved": unproved}
