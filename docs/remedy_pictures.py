"""Make the pictures for docs/remedies: curves without and with each remedy, for the same seeds.

    python docs/remedy_pictures.py [--only dropout]

The script prints the numbers that the pages quote: the median over the seeds, and the range.
"""

import argparse
import functools
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from PIL import Image
from sklearn.exceptions import ConvergenceWarning

from sensorseq import SensorLSTMClassifier
from sensorseq.datasets import SURFACES_SAMPLE_RATE_HZ, SURFACES_WINDOW_SAMPLES, load_surfaces
from sensorseq.evaluation.calibration import calibration_error
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.windowing.cut import window_recordings

mpl.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).resolve().parent / "images" / "remedies"
COLORS = ("#9aa5b1", "#0b6bcb", "#d9480f", "#2b8a3e")
STYLE = [Path(__file__).resolve().parent / "pictures.mplstyle", {"savefig.dpi": 90}]
SEEDS = range(5)
SMALL = {
    "hidden_size": 16,
    "optimizer": "adam",
    "dropout": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "features": None,
    "refit": None,
    "learning_rate": 0.01,
    "lr_schedule": "constant",
    "max_epochs": 40,
    "early_stopping": False,
    "restore_best": False,
    "device": "cpu",
}
AXES = {
    "loss": "training loss",
    "val_loss": "validation loss",
    "accuracy": "training accuracy",
    "val_accuracy": "validation accuracy",
    "grad_norm": "norm of the gradient",
}


class Data(NamedTuple):
    """Training and validation windows."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray


Measure = Callable[[SensorLSTMClassifier, Data], float]


@dataclass(frozen=True)
class Study:
    """A picture of variants on one problem; each half shows a history column or a final measure."""

    problem: Callable[[int], Data]
    variants: dict[str, dict[str, Any]]
    left: str | tuple[str, Measure] = "loss"
    right: str | tuple[str, Measure] = "val_loss"
    common: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    limits: tuple[float | None, float | None] = (0.0, None)
    log: bool = False


# Problems


@functools.cache
def _surface_windows() -> Any:
    recordings = load_surfaces()
    pieces = [p for r in recordings for p in resample_recording(r, SURFACES_SAMPLE_RATE_HZ)]
    return window_recordings(pieces, SURFACES_WINDOW_SAMPLES / SURFACES_SAMPLE_RATE_HZ)


def surfaces(seed: int, n_robots: int = 4, every: int = 2) -> Data:
    """Return windows of six surfaces, for training on some robots and validation on four."""
    windows = _surface_windows()
    robots = np.unique(windows.groups)
    train = np.flatnonzero(np.isin(windows.groups, robots[:n_robots]))[::every]
    validation = np.flatnonzero(np.isin(windows.groups, robots[-4:]))[::2]
    return Data(windows.X[train], windows.y[train], windows.X[validation], windows.y[validation])


def few_surfaces(seed: int) -> Data:
    """Return the windows of the surfaces, with only a third of the training windows."""
    return surfaces(seed, every=6)


def tones(n: int, seed: int, *, n_timesteps=24, n_classes=3, noise=0.7, step=0.3) -> tuple:
    """Draw sines with a random phase, whose frequency determines the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    phase = rng.uniform(0, 2 * np.pi, (n, 1))
    X = np.sin(np.arange(n_timesteps) * (0.3 + step * y[:, None]) + phase)
    return (X + noise * rng.normal(size=X.shape))[:, :, None], y


def marked(n: int, seed: int, *, at: int, n_timesteps=40, height=3.0) -> tuple:
    """Draw noise in which the sign of two samples at `at` determines the class."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 2
    X = rng.normal(size=(n, n_timesteps, 1))
    X[:, at : at + 2] += height * (2.0 * y[:, None, None] - 1.0)
    return X, y


def pairs_of(make: Callable[..., tuple], n=60, n_val=300, **options) -> Callable[[int], Data]:
    """Return a function that draws training and validation windows for a seed."""
    return lambda seed: Data(*make(n, seed, **options), *make(n_val, 1000 + seed, **options))


def relabeled(y: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Give a fraction of the windows a wrong class."""
    rng = np.random.default_rng(seed)
    classes, index = np.unique(y, return_inverse=True)
    rows = rng.permutation(len(y))[: round(share * len(y))]
    index[rows] = (index[rows] + rng.integers(1, len(classes), len(rows))) % len(classes)
    return classes[index]


def mislabeled(seed: int) -> Data:
    """Draw noisy tones; a quarter of the training windows have a wrong label."""
    data = pairs_of(tones, noise=1.0)(seed)
    return data._replace(y=relabeled(data.y, 0.25, seed))


def rare(seed: int) -> Data:
    """Draw 200 windows of one class and 20 of another, both partly hidden in noise."""
    data = pairs_of(tones, n=400, n_classes=2, noise=2.0)(seed)
    kept = (data.y == 0) | (np.cumsum(data.y == 1) <= 20)
    return data._replace(X=data.X[kept], y=data.y[kept])


def with_offset(seed: int) -> Data:
    """Return tones with an offset of 50."""
    data = pairs_of(tones)(seed)
    return data._replace(X=data.X + 50, X_val=data.X_val + 50)


# Final measures


def recall_of_the_rare(classifier: SensorLSTMClassifier, data: Data) -> float:
    """Return the recall of the second class."""
    return float((classifier.predict(data.X_val) == 1)[data.y_val == 1].mean())


def confidence(classifier: SensorLSTMClassifier, data: Data) -> float:
    """Return the mean probability of the predicted label."""
    return float(classifier.predict_proba(data.X_val).max(axis=1).mean())


def accuracy(classifier: SensorLSTMClassifier, data: Data) -> float:
    """Return the accuracy on the validation windows."""
    return classifier.score(data.X_val, data.y_val)


def steep(logits: torch.Tensor, class_index: torch.Tensor) -> torch.Tensor:
    """Return a cross-entropy that has cliffs."""
    return torch.nn.functional.cross_entropy(100 * logits, class_index, reduction="none")


SURFACES = "motor current on six surfaces (simulated), validated on other robots"
TONES = "tones in noise (synthetic)"
WRONG = "tones in noise (synthetic), a quarter of the labels wrong"

STUDIES: dict[str, Study] = {
    "learning_rate": Study(
        surfaces,
        {f"learning_rate={r:g}": {"learning_rate": r} for r in (0.3, 0.02, 0.0001)},
        common={"max_epochs": 60},
        title=SURFACES,
        limits=(0.0, 3.0),
    ),
    "schedules_and_warmup": Study(
        surfaces,
        {
            "constant": {"lr_schedule": "constant"},
            "cosine": {"lr_schedule": "cosine"},
            "cosine, warmup_epochs=5": {"lr_schedule": "cosine", "warmup_epochs": 5},
        },
        common={"learning_rate": 0.05, "batch_size": 8, "max_epochs": 60},
        limits=(0.0, 2.5),
        title=SURFACES,
    ),
    "batch_size": Study(
        surfaces,
        {
            "batch_size=2": {"batch_size": 2},
            "batch_size=32": {"batch_size": 32},
            "batch_size=None": {"batch_size": None},
        },
        title=SURFACES,
    ),
    "sequence_length": Study(
        pairs_of(marked, at=3, n_timesteps=120),
        {"all 120 steps": {}, "max_timesteps=12": {"max_timesteps": 12}},
        common={"pooling": "last"},
        left="loss",
        right="val_accuracy",
        title="a mark at the start of noise (synthetic)",
    ),
    "network_size": Study(
        mislabeled,
        {f"hidden_size={h}": {"hidden_size": h} for h in (64, 8, 1)},
        title=WRONG,
    ),
    "early_stopping": Study(
        mislabeled,
        {
            "the last epoch": {},
            "early_stopping=True": {
                "early_stopping": True,
                "patience": 10,
                "restore_best": True,
            },
        },
        left="val_loss",
        right=("loss of the model kept", lambda c, d: log_loss(c, d)),
        common={"max_epochs": 60},
        title=WRONG,
    ),
    "gradient_clipping": Study(
        pairs_of(tones),
        {
            "max_grad_norm=None": {"max_grad_norm": None},
            "max_grad_norm=1.0": {"max_grad_norm": 1.0},
        },
        common={"loss": steep, "optimizer": "sgd", "learning_rate": 0.1},
        right="accuracy",
        title=f"{TONES}, a loss with cliffs, sgd",
        log=True,
    ),
    "scaling_and_padding": Study(
        with_offset,
        {
            "scale=None": {"scale": None},
            'scale="standard"': {"scale": "standard"},
        },
        right="val_accuracy",
        title=f"{TONES} with an offset of 50",
    ),
    "initialization": Study(
        pairs_of(marked, at=1, n_timesteps=60),
        {f"forget_bias={b:g}": {"forget_bias": b} for b in (-2.0, 1.0, 3.0)},
        common={"pooling": "last", "hidden_size": 8},
        title="a mark at the start of noise (synthetic)",
    ),
    "losses": Study(
        mislabeled,
        {f'loss="{x}"': {"loss": x} for x in ("cross_entropy", "focal")},
        left="val_accuracy",
        right=("cross-entropy on validation", lambda c, d: log_loss(c, d)),
        common={"max_epochs": 60},
        limits=(None, None),
        title=WRONG,
    ),
    "weight_decay": Study(
        mislabeled,
        {
            "none": {},
            "weight_decay=0.01": {"weight_decay": 0.01},
        },
        common={"max_epochs": 60},
        title=WRONG,
    ),
    "dropout": Study(
        mislabeled,
        {
            "none": {},
            "dropout=0.5": {"dropout": 0.5},
            "recurrent_dropout=0.5": {"recurrent_dropout": 0.5},
        },
        common={"max_epochs": 60},
        title=WRONG,
    ),
    "normalization": Study(
        surfaces,
        {f'head_norm="{x}"': {"head_norm": x} for x in ("none", "batch", "layer")},
        title=SURFACES,
    ),
    "optimizers": Study(
        surfaces,
        {
            "sgd, momentum=0": {"optimizer": "sgd", "optimizer_params": {"momentum": 0.0}},
            "sgd, momentum=0.9": {"optimizer": "sgd"},
            "rmsprop": {"optimizer": "rmsprop"},
            "adam": {"optimizer": "adam"},
        },
        title=f"{SURFACES}, learning_rate=0.01",
    ),
    "weight_averaging": Study(
        surfaces,
        {"ema_decay=None": {}, "ema_decay=0.98": {"ema_decay": 0.98}},
        common={"batch_size": 8, "learning_rate": 0.03},
        right="val_accuracy",
        left="val_loss",
        title=SURFACES,
    ),
    "augmentation": Study(
        few_surfaces,
        {
            "augment=None": {},
            'augment="standard"': {"augment": "standard"},
            'augment={"window_shift": 0.2}': {"augment": {"window_shift": 0.2}},
        },
        common={"max_epochs": 60},
        title=f"few windows: {SURFACES}",
    ),
    "label_smoothing": Study(
        mislabeled,
        {"label_smoothing=0": {}, "label_smoothing=0.2": {"label_smoothing": 0.2}},
        left=("probability of the label chosen", confidence),
        right=("cross-entropy on validation", lambda c, d: log_loss(c, d)),
        common={"max_epochs": 60},
        title=WRONG,
    ),
    "class_weights": Study(
        rare,
        {
            "none": {},
            'class_weight="balanced"': {"class_weight": "balanced"},
            'sampler="balanced"': {"sampler": "balanced"},
            'loss="focal"': {"loss": "focal"},
        },
        left=("recall of the rare class", recall_of_the_rare),
        right=("balanced accuracy", accuracy),
        common={"max_epochs": 15, "hidden_size": 8},
        title="200 windows of a class and 20 of another (synthetic)",
    ),
}


def log_loss(classifier: SensorLSTMClassifier, data: Data) -> float:
    """Return the mean of -ln p of the true class over the validation windows."""
    p = classifier.predict_proba(data.X_val)
    column = np.searchsorted(classifier.classes_, data.y_val)
    return float(-np.log(np.maximum(p[np.arange(len(p)), column], 1e-12)).mean())


def fit(data: Data, seed: int, **arguments: Any) -> SensorLSTMClassifier:
    """Fit the small network, changed by `arguments`."""
    classifier = SensorLSTMClassifier(**{**SMALL, "random_state": seed, **arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # some variants diverge on purpose
        return classifier.fit(data.X, data.y, X_val=data.X_val, y_val=data.y_val)


def carry_out(study: Study) -> dict[str, list[tuple[SensorLSTMClassifier, Data]]]:
    """Fit every variant with the same seeds on the same windows."""
    problems = {seed: study.problem(seed) for seed in SEEDS}
    return {
        name: [
            (fit(data, seed, **{**study.common, **own}), data) for seed, data in problems.items()
        ]
        for name, own in study.variants.items()
    }


def curves_of(fits: list, column: str) -> np.ndarray:
    """Return one row for each seed, with NaN after the end of a run."""
    columns = [classifier.history_[column] for classifier, _ in fits]
    rows = np.full((len(columns), max(map(len, columns))), np.nan)
    for row, values in zip(rows, columns, strict=True):
        row[: len(values)] = values
    return rows


def draw_curves(axis: Any, done: dict, column: str, study: Study) -> None:
    """Draw a thin line for each seed, and their median."""
    for color, (name, fits) in zip(COLORS, done.items(), strict=False):
        rows = curves_of(fits, column)
        epochs = np.arange(1, rows.shape[1] + 1)
        axis.plot(epochs, rows.T, color=color, lw=0.6, alpha=0.45)
        enough = np.isfinite(rows).sum(axis=0) == len(rows)
        axis.plot(epochs[enough], np.median(rows[:, enough], axis=0), color=color, lw=2, label=name)
    axis.set(xlabel="epoch", ylabel=AXES[column])
    if "accuracy" in column:
        axis.set_ylim(0, 1.02)
    elif study.log:
        axis.set_yscale("log")
    else:
        axis.set_ylim(*study.limits)


def draw_dots(axis: Any, done: dict, label: str, measure: Measure) -> None:
    """Draw a dot for each seed, and a line at the median."""
    for place, (color, (name, fits)) in enumerate(zip(COLORS, done.items(), strict=False)):
        values = [measure(*one) for one in fits]
        axis.plot(np.full(len(values), place), values, "o", color=color, ms=4, alpha=0.7)
        axis.hlines(np.median(values), place - 0.25, place + 0.25, color=color, lw=2.5, label=name)
    axis.set(xlabel="one dot for each seed", xticks=[], xlim=(-0.6, len(done) - 0.4), ylabel=label)
    axis.set_ylim(bottom=0)


def say(done: dict, shown: str | tuple[str, Measure]) -> None:
    """Print the numbers that a page quotes."""
    for name, fits in done.items():
        if isinstance(shown, str):
            values = [float(classifier.history_[shown][-1]) for classifier, _ in fits]
        else:
            values = [shown[1](*one) for one in fits]
        what = shown if isinstance(shown, str) else shown[0]
        low, high = min(values), max(values)
        print(f"  {what:34s} {name:32s} {np.median(values):.3g} [{low:.3g}, {high:.3g}]")


def draw(study: Study) -> plt.Figure:
    """Fit, draw and print one study."""
    done = carry_out(study)
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9))
    for axis, shown in zip(axes, (study.left, study.right), strict=True):
        if isinstance(shown, str):
            draw_curves(axis, done, shown, study)
        else:
            draw_dots(axis, done, *shown)
        say(done, shown)
    axes[0].set_title(study.title)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
    return figure


def reliability() -> plt.Figure:
    """Draw a reliability diagram, and print the calibration error."""
    variants = {"calibrate=False": False, "calibrate=True": True}
    errors: dict[str, list[float]] = {name: [] for name in variants}
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
    left.plot([0, 1], [0, 1], color="black", lw=0.6, ls=":")
    for color, (name, calibrate) in zip(COLORS, variants.items(), strict=False):
        for seed in SEEDS:
            X_test, y_test = tones(2000, 5000 + seed, noise=1.0)
            clf = fit(mislabeled(seed), seed, calibrate=calibrate, max_epochs=60)
            p = clf.predict_proba(X_test)
            error = calibration_error(y_test, p, clf.classes_, n_resamples=20)
            errors[name].append(error.value)
            points = np.array([(b.probability, b.accuracy) for b in error.bins])
            left.plot(*points.T, color=color, lw=1, alpha=0.6, label=name if not seed else None)
        place = list(variants).index(name)
        right.plot(np.full(len(SEEDS), place), errors[name], "o", color=color, ms=4, alpha=0.7)
        middle, low, high = np.median(errors[name]), min(errors[name]), max(errors[name])
        right.hlines(middle, place - 0.25, place + 0.25, color=color, lw=2.5)
        print(f"  calibration error  {name:20s} {middle:.3g} [{low:.3g}, {high:.3g}]")
    left.set(xlabel="probability of the label chosen", ylabel="share that is right")
    left.set(xlim=(0.3, 1), ylim=(0, 1), title=f"{WRONG}, 2000 windows to test")
    right.set(xlim=(-0.6, 1.6), ylim=(0, None), xticks=[], xlabel="one dot for each seed")
    right.set(ylabel="calibration error")
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def members() -> plt.Figure:
    """Draw the scores of single networks and of their ensembles."""
    sizes, scores = (1, 3, 10), []
    for seed in SEEDS:
        data = surfaces(seed)
        fits = [fit(data, seed, n_models=n, max_epochs=30) for n in sizes]
        scores.append([(accuracy(clf, data), log_loss(clf, data)) for clf in fits])
    figure, axes = plt.subplots(1, 2, figsize=(8.4, 2.9))
    for axis, values, label in zip(
        axes, np.transpose(scores), ("validation accuracy", "validation loss"), strict=True
    ):
        for color, place in zip(COLORS, range(len(sizes)), strict=False):
            name = f"n_models={sizes[place]}"
            axis.plot(np.full(len(SEEDS), place), values[place], "o", color=color, ms=4, alpha=0.7)
            middle = np.median(values[place])
            axis.hlines(middle, place - 0.25, place + 0.25, color=color, lw=2.5, label=name)
            low, high = min(values[place]), max(values[place])
            print(f"  {label:20s} {name:12s} {middle:.3g} [{low:.3g}, {high:.3g}]")
        axis.set(ylabel=label, ylim=(0, 1), xlim=(-0.6, 2.6), xticks=[])
        axis.set_xlabel("one dot for each seed")
    axes[0].set_title(SURFACES)
    figure.legend(
        *axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sizes)
    )
    return figure


SPECIAL: dict[str, Callable[[], plt.Figure]] = {
    "calibration": reliability,
    "ensembles": members,
}


def shrink(path: Path) -> None:
    """Store a picture with 48 colors, which suffice for a few lines."""
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(48)
    small.save(path, optimize=True)


def main() -> None:
    """Make the requested pictures."""
    names = [*STUDIES, *SPECIAL]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    chosen = parser.parse_args().only
    IMAGES.mkdir(parents=True, exist_ok=True)
    with plt.style.context(STYLE):
        for name in chosen:
            started = time.perf_counter()
            print(name)
            figure = SPECIAL[name]() if name in SPECIAL else draw(STUDIES[name])
            figure.savefig(IMAGES / f"{name}.png")
            shrink(IMAGES / f"{name}.png")
            plt.close(figure)
            print(f"  {time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
