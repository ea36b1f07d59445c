"""One run of the fluctuation benchmark: train it, and keep its evidence in one file.

The evidence, and the file, are those of `verdict/runs.py`, with the fields of a `FaultPlan`. Here
windows go to the classifier as they are, and its own `scale` scales them.
"""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fluctuation.data import change_parts
from fluctuation.plan import FaultPlan
from torch import Tensor
from torch.nn.functional import cross_entropy, softmax
from verdict.data import Parts, Windows, draw
from verdict.runs import PLAIN, Evidence, _Gain, _joined, _joined_record, _plain, _Watch, load, save

from sensorseq import SensorLSTMClassifier
from sensorseq.errors import DivergedError
from sensorseq.training.crop import crop_windows

__all__ = ["SEEDS_APART", "FreshWatch", "draw_parts", "fit", "load", "make_classifier", "save"]

SEEDS_APART = 1_000_000  # from one repeat of a run to the next


class _Normal:
    """Fill weights with N(0, sd)."""

    def __init__(self, sd: float) -> None:
        self.sd = sd

    def __call__(self, name: str, tensor: Any, generator: Any) -> None:
        tensor.normal_(0.0, self.sd, generator=generator)


def softmax_twice(logits: Tensor, class_index: Tensor) -> Tensor:
    """Return the cross-entropy of a softmax of probabilities, which are mistaken for logits."""
    return cross_entropy(softmax(logits, 1), class_index, reduction="none")


def read_arguments(arguments: Mapping[str, Any], n_classes: int) -> dict[str, Any]:
    """Return a plan's arguments as the classifier takes them."""
    read = dict(arguments)
    for name in ("weight_init", "recurrent_init"):
        word, _, number = str(read.get(name, "")).partition(" ")
        if number:
            read[name] = (_Normal if word == "normal" else _Gain)(float(number))
    if read.get("loss") == "softmax twice":
        read["loss"] = softmax_twice
    if str(read.get("class_weight")).startswith("first x"):
        factor = float(read["class_weight"].removeprefix("first x"))
        read["class_weight"] = {k: factor if k == 0 else 1.0 for k in range(n_classes)}
    if read.get("optimizer_params") and "betas" in read["optimizer_params"]:
        betas = tuple(read["optimizer_params"]["betas"])
        read["optimizer_params"] = {**read["optimizer_params"], "betas": betas}
    return read


def draw_parts(plan: FaultPlan, borealtc: Path | None = None) -> Parts:
    """Return the data of a run as its user has it, and the fresh part in the same units."""
    change = plan.change
    parts = draw(
        plan.data,
        plan.seed,
        plan.n_train,
        plan.n_val,
        hard=bool(change.get("hard", False)),
        imbalance=int(change.get("imbalance", 1)),
        borealtc=borealtc,
    )
    return change_parts(parts, change, np.random.default_rng([plan.seed, 101]))


class FreshWatch(_Watch):
    """Measure the fresh part after each epoch as the classifier would see it."""

    def __init__(self, parts: Parts, n_first: int) -> None:
        super().__init__(parts.fresh, parts.train, n_first)
        self.parts, self.n_first = parts, n_first
        self.classifier: SensorLSTMClassifier | None = None

    def on_epoch_end(self, module: Any, history: Any) -> None:
        """Scale once the classifier knows how, and measure."""
        if self.classifier is not None:
            self.fresh = self._seen(self.parts.fresh, self.classifier)
            self.first = self._seen(self.parts.train.take(slice(self.n_first)), self.classifier)
            self.classifier = None
        super().on_epoch_end(module, history)

    @staticmethod
    def _seen(windows: Windows, classifier: SensorLSTMClassifier) -> tuple[Any, Any, Any]:
        lengths = windows.lengths
        n, n_steps, _ = windows.X.shape
        valid = np.full(n, n_steps) if lengths is None else lengths
        X, valid = crop_windows(windows.X, valid, classifier.max_timesteps, classifier.crop)
        if classifier.scaler_ is not None:
            X = classifier.scaler_.transform(X, valid)
        X = torch.from_numpy(np.ascontiguousarray(X, np.float32))
        kept = None if lengths is None else torch.from_numpy(valid)
        return X, kept, torch.from_numpy(windows.y)


def make_classifier(plan: FaultPlan, n_classes: int) -> SensorLSTMClassifier:
    """Return the unfitted classifier of a plan."""
    n_cycles = int(plan.change.get("n_cycles", 1))
    common = {"early_stopping": False, "restore_best": True, "device": "cpu"}
    return SensorLSTMClassifier(
        **{**PLAIN, **common, **read_arguments(plan.arguments, n_classes)},
        warm_start=n_cycles > 1,
        random_state=plan.seed + SEEDS_APART * plan.repeat,
    )


def fit_keywords(parts: Parts) -> dict[str, Any]:
    """Return what `fit` and `probe` get beside X and y."""
    return {
        "groups": parts.train.groups,
        "lengths": parts.train.lengths,
        "X_val": parts.validation.X,
        "y_val": parts.validation.y,
        "groups_val": parts.validation.groups,
        "lengths_val": parts.validation.lengths,
    }


def fit(
    classifier: SensorLSTMClassifier, parts: Parts, n_cycles: int = 1
) -> tuple[list[Any], FreshWatch]:
    """Fit, and return (rows, report) of each cycle and what was seen of the fresh part."""
    watch = FreshWatch(parts, classifier.batch_size or 32)
    watch.classifier = classifier
    classifier.set_params(callbacks=[watch])
    cycles = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is planned to go wrong does
        for _ in range(n_cycles):
            # A loss that is not finite in the first epoch raises; history and report are there.
            with suppress(DivergedError):
                classifier.fit(parts.train.X, parts.train.y, **fit_keywords(parts))
            cycles.append((classifier.history_.to_rows(), classifier.fluctuation_))
    classifier.set_params(callbacks=None)
    return cycles, watch


def evidence_of(
    plan: FaultPlan, parts: Parts, cycles: Sequence[Any], watch: FreshWatch
) -> Evidence:
    """Gather what a fit left."""
    counts = np.bincount(parts.validation.y)
    told = cycles[-1][1]
    return Evidence(
        plan={field.name: _plain(getattr(plan, field.name)) for field in fields(plan)},
        rows=_joined([rows for rows, _ in cycles]),
        facts={
            "n_val": told.n_val,
            "n_train": told.n_train,
            "n_classes": len(np.unique(parts.train.y)),
            "majority_fraction": float(counts.max() / counts.sum()),
            "best_epoch": told.best_epoch if len(cycles) == 1 else None,
        },
        record=_joined_record([report.record for _, report in cycles]),
        fresh={
            **{name: np.array(values) for name, values in watch.figures.items()},
            "counts": np.bincount(parts.fresh.y),
        },
        gradients={name: np.array(values) for name, values in watch.gradients.items()},
        input_range=(float(watch.first[0].min()), float(watch.first[0].max())),
    )


def train(plan: FaultPlan, borealtc: Path | None = None) -> Evidence:
    """Train one planned run and gather its evidence."""
    parts = draw_parts(plan, borealtc)
    classifier = make_classifier(plan, len(np.unique(parts.train.y)))
    cycles, watch = fit(classifier, parts, int(plan.change.get("n_cycles", 1)))
    return evidence_of(plan, parts, cycles, watch)


def repeated(plan: FaultPlan, repeat: int) -> FaultPlan:
    """Return a run on the same data from other first weights, in another order."""
    twin = f"{plan.twin}@{repeat}" if plan.twin else ""
    return replace(plan, name=f"{plan.name}@{repeat}", twin=twin, repeat=repeat)
