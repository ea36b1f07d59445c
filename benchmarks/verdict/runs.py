"""Trains one run of the verdict benchmark, stores its evidence in a file, and reads the file.

The evidence is sufficient to apply every rule again without training. It consists of the history,
the classifier's facts for its report, the TrainingRecord, the inputs of the
rivals' rules, and the results on the fresh part after each epoch, which only the oracle sees.
"""

import json
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy
from verdict.data import DrawnParts, LabeledWindows, draw

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import DivergedError
from sensorseq.history import TrainingRecord

GRADIENTS_EVERY = 3  # in epochs: AutoTrainer's interval; see verdict/rivals.py
# A training run of the LSTM alone, without regularization that would hide a fault.
PLAIN: dict[str, Any] = {
    "optimizer": "adam",
    "dropout": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "features": None,
    "refit": None,
    "learning_rate": 1e-3,
    "max_epochs": 200,
}
EPOCH_ARRAYS = ("fixed_loss", "fixed_accuracy", "val_predicted", "val_margin", "train_margin")


@dataclass(frozen=True)
class Plan:
    """One planned training run.

    Parameters
    ----------
    name : str
        Name of the run and of its file.
    part : str
        ``"calibration"`` or ``"test"``.
    role : str
        ``"healthy"``, ``"control"`` or ``"volatile"``.
    kind : str
        Setting, control or injection.
    data : str
        Name of the data set.
    seed : int
        Seed of data, split, initial weights and order.
    n_train, n_val : int
        Requested number of windows.
    arguments : dict
        Arguments of the classifier; `weight_init` may be ``"normal"``, and `recurrent_init` a gain.
    change : dict
        Changes of the data: hard, imbalance, factor, offset, burst_share, shuffled, n_cycles.
    twin : str
        Name of the healthy run with which a volatile run is compared.
    """

    name: str
    part: str
    role: str
    kind: str
    data: str
    seed: int
    n_train: int
    n_val: int
    arguments: Mapping[str, Any]
    change: Mapping[str, Any]
    twin: str = ""


@dataclass(eq=False)
class Evidence:
    """The stored results of one run.

    Parameters
    ----------
    plan : dict
        The plan's fields.
    rows : list of dict
        The history.
    facts : dict
        n_val, n_train, n_classes, majority_fraction and best_epoch of the classifier.
    record : TrainingRecord or None
        The record.
    fresh : dict of str to ndarray of shape (E,)
        `accuracy`, `balanced` accuracy, mean `probability` of the true class, `loss` in nats, and
        the `counts` of the classes.
    gradients : dict of str to ndarray of shape (D,)
        Norm of each parameter's gradient on the first training batch, every third epoch.
    input_range : (float, float)
        Smallest and largest training value that the network saw.
    stamp : dict
        What was measured, and when.
    """

    plan: dict[str, Any]
    rows: list[dict[str, Any]]
    facts: dict[str, Any]
    record: TrainingRecord | None
    fresh: dict[str, NDArray[np.float64]]
    gradients: dict[str, NDArray[np.float64]]
    input_range: tuple[float, float]
    stamp: dict[str, str] = field(default_factory=dict)


class _Watch:
    """Records results on the fresh part after each epoch, and the gradients every few epochs."""

    def __init__(self, fresh: LabeledWindows, train: LabeledWindows, n_first: int) -> None:
        self.fresh, self.first = _tensors(fresh), _tensors(train.take(slice(n_first)))
        self.figures: dict[str, list[float]] = {
            "accuracy": [],
            "balanced": [],
            "probability": [],
            "loss": [],
        }
        self.gradients: dict[str, list[float]] = {}

    def on_epoch_end(self, module: Any, history: Any) -> None:
        x, lengths, y = self.fresh
        with torch.no_grad():
            log_probability = torch.log_softmax(module(x, lengths), 1).double()
        log_true = log_probability[torch.arange(len(y)), y]
        right = (log_probability.argmax(1) == y).double()
        per_class = [float(right[y == k].mean()) for k in y.unique()]
        self.figures["accuracy"].append(float(right.mean()))
        self.figures["balanced"].append(float(np.mean(per_class)))
        self.figures["probability"].append(float(log_true.exp().mean()))
        self.figures["loss"].append(float(-log_true.mean()))
        if len(history) % GRADIENTS_EVERY == 0:
            self._measure_gradients(module)

    def _measure_gradients(self, module: Any) -> None:
        x, lengths, y = self.first
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        loss = cross_entropy(module(x, lengths), y)
        gradients = torch.autograd.grad(loss, [p for _, p in named])  # does not set .grad
        for (name, _), gradient in zip(named, gradients, strict=True):
            self.gradients.setdefault(name, []).append(float(gradient.norm()))


def _tensors(windows: LabeledWindows) -> tuple[Any, Any, Any]:
    lengths = None if windows.lengths is None else torch.from_numpy(windows.lengths)
    return torch.from_numpy(windows.X), lengths, torch.from_numpy(windows.y)


def train(plan: Plan, borealtc: Path | None = None) -> Evidence:
    """Train one planned run and gather its evidence."""
    change = dict(plan.change)
    parts = draw(
        plan.data,
        plan.seed,
        plan.n_train,
        plan.n_val,
        hard=bool(change.get("hard", False)),
        imbalance=int(change.get("imbalance", 1)),
        borealtc=borealtc,
    )
    parts = _changed(parts, change, np.random.default_rng([plan.seed, 99]))
    arguments = dict(plan.arguments)
    n_cycles = int(change.get("n_cycles", 1))
    if arguments.get("weight_init") == "normal":
        arguments["weight_init"] = arguments["recurrent_init"] = Normal(1.0)
    elif isinstance(arguments.get("recurrent_init"), float):
        arguments["recurrent_init"] = Gain(arguments["recurrent_init"])
    watch = _Watch(parts.fresh, parts.train, arguments.get("batch_size") or 32)
    classifier = SensorLSTMClassifier(
        **{**PLAIN, **arguments},
        scale=None,  # scaled by `_changed`, so that the rules' input range is known
        early_stopping=False,
        restore_best=True,
        patch=None,
        warm_start=n_cycles > 1,
        device="cpu",
        callbacks=[watch],
        random_state=plan.seed,
    )
    runs = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # many runs fail on purpose
        for _ in range(n_cycles):
            # A non-finite loss in the first epoch raises an error, but the history and report
            # exist.
            with suppress(DivergedError):
                classifier.fit(parts.train.X, parts.train.y, **parts.of_fit)
            runs.append((classifier.history_.to_rows(), classifier.fluctuation_))
    n_classes = len(np.unique(parts.train.y))
    counts = np.bincount(parts.validation.y)
    last_report = runs[-1][1]
    return Evidence(
        plan={field.name: _plain(getattr(plan, field.name)) for field in fields(plan)},
        rows=_joined([rows for rows, _ in runs]),
        facts={
            "n_val": last_report.n_val,
            "n_train": last_report.n_train,
            "n_classes": n_classes,
            "majority_fraction": float(counts.max() / counts.sum()),
            "best_epoch": last_report.best_epoch if n_cycles == 1 else None,
        },
        record=_joined_record([report.record for _, report in runs]),
        fresh={
            **{name: np.array(values) for name, values in watch.figures.items()},
            "counts": np.bincount(parts.fresh.y),
        },
        gradients={name: np.array(values) for name, values in watch.gradients.items()},
        input_range=(float(parts.train.X.min()), float(parts.train.X.max())),
    )


def _changed(parts: DrawnParts, change: Mapping[str, Any], rng: np.random.Generator) -> DrawnParts:
    """Scale the parts like `scale="standard"`, then apply the planned changes."""
    mean = parts.train.X.mean(axis=(0, 1), dtype=np.float64)
    sd = parts.train.X.std(axis=(0, 1), dtype=np.float64)
    factor, offset = float(change.get("factor", 1.0)), float(change.get("offset", 0.0))
    sets = []
    for windows in (parts.train, parts.validation, parts.fresh):
        X = factor * (windows.X - mean) / np.where(sd > 0, sd, 1.0) + offset
        sets.append(
            LabeledWindows(np.asarray(X, np.float32), windows.y, windows.groups, windows.lengths)
        )
    train, validation, fresh = sets
    if change.get("burst_share"):
        struck = rng.random(len(train)) < change["burst_share"]
        struck[rng.integers(len(train))] = True
        train.X[struck] += 20.0 * rng.choice([-1.0, 1.0], (int(struck.sum()), 1, train.X.shape[2]))
    if change.get("shuffled"):
        train = LabeledWindows(train.X, rng.permutation(train.y), train.groups, train.lengths)
        shuffled = rng.permutation(validation.y)
        validation = LabeledWindows(validation.X, shuffled, validation.groups, validation.lengths)
    return DrawnParts(train, validation, fresh)


class Normal:
    """Fill weights with N(0, sd)."""

    def __init__(self, sd: float) -> None:
        self.sd = sd

    def __call__(self, name: str, tensor: Any, generator: Any) -> None:
        """Fill a tensor."""
        tensor.normal_(0.0, self.sd, generator=generator)


class Gain:
    """Fill recurrent weights with N(0, gain / sqrt(H))."""

    def __init__(self, gain: float) -> None:
        self.gain = gain

    def __call__(self, name: str, tensor: Any, generator: Any) -> None:
        """Fill a tensor."""
        tensor.normal_(0.0, self.gain / tensor.shape[-1] ** 0.5, generator=generator)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def _joined(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    rows = [row for run in runs for row in run]
    return [{**row, "epoch": epoch} for epoch, row in enumerate(rows, 1)]


def _joined_record(records: list[TrainingRecord | None]) -> TrainingRecord | None:
    """Return one record that joins the epochs and steps of consecutive fits."""
    first = records[0]
    if first is None or any(record is None for record in records):
        return None
    held = [record for record in records if record is not None]
    if len(held) == 1:
        return first
    joined = TrainingRecord(**{f.name: getattr(held[-1], f.name) for f in fields(TrainingRecord)})
    starts = np.cumsum([0, *[record.epoch_steps[-1] for record in held[:-1]]])
    steps = [record.epoch_steps[1:] + start for record, start in zip(held, starts, strict=True)]
    joined.epoch_steps = np.concatenate([[0], *steps])
    joined.steps = {
        name: np.concatenate([record.steps[name] for record in held]) for name in first.steps
    }
    joined.class_counts = np.concatenate([record.class_counts for record in held])
    for name in EPOCH_ARRAYS:
        setattr(joined, name, np.concatenate([getattr(record, name) for record in held]))
    return joined


def save(evidence: Evidence, path: Path) -> None:
    """Write one file atomically."""
    description = {
        "plan": evidence.plan,
        "rows": evidence.rows,
        "facts": evidence.facts,
        "input_range": evidence.input_range,
        "record": None,
        "stamp": evidence.stamp,
    }
    arrays = {f"fresh.{name}": values for name, values in evidence.fresh.items()}
    arrays |= {f"gradients.{name}": values for name, values in evidence.gradients.items()}
    if evidence.record is not None:
        description["record"] = {}
        for field in fields(TrainingRecord):
            value = getattr(evidence.record, field.name)
            if isinstance(value, np.ndarray):
                arrays[f"record.{field.name}"] = value
            elif isinstance(value, dict):
                for name, values in value.items():
                    arrays[f"record.{field.name}.{name}"] = values
            elif value is not None:
                description["record"][field.name] = value
    arrays["told"] = np.array(json.dumps(description))
    beside = path.with_suffix(f".{os.getpid()}.part")
    try:
        with beside.open("wb") as file:
            np.savez_compressed(file, **arrays)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: Path) -> Evidence:
    """Read a file written by `save`."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    description = json.loads(str(arrays.pop("told")))
    record = None
    if description["record"] is not None:
        values: dict[str, Any] = dict(description["record"])
        for name, array in arrays.items():
            kind, _, entry = name.partition(".")
            field, _, inner = entry.partition(".")
            if kind == "record" and inner:
                values.setdefault(field, {})[inner] = array
            elif kind == "record":
                values[field] = array
        record = TrainingRecord(**values)
    return Evidence(
        plan=description["plan"],
        rows=description["rows"],
        facts=description["facts"],
        record=record,
        fresh=_named(arrays, "fresh"),
        gradients=_named(arrays, "gradients"),
        input_range=tuple(description["input_range"]),
        stamp=description.get("stamp", {}),
    )


def _named(arrays: Mapping[str, Any], kind: str) -> dict[str, Any]:
    return {
        name.removeprefix(f"{kind}."): values
        for name, values in arrays.items()
        if name.startswith(f"{kind}.")
    }
