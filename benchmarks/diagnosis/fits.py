"""One fit: settings, the classifier, and the accuracy on fresh windows after each epoch."""

import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from verdict.data import DrawnParts
from verdict.runs import Gain, Normal

from sensorseq import SensorLSTMClassifier
from sensorseq.diagnosis.metrics import mean_noise
from sensorseq.diagnosis.report import FluctuationReport
from sensorseq.errors import DivergedError
from sensorseq.estimator.fit_windows import check_arguments, hold_out, read_windows, scale_windows
from sensorseq.prediction.checked_windows import Windows

DEFAULTS = {
    name: value
    for name, value in SensorLSTMClassifier().get_params(deep=False).items()
    if name not in ("random_state", "callbacks")
} | {"momentum": 0.9}  # of sgd; `as_arguments` moves it to optimizer_params
# Arguments of every fit, unless a repair adds features or keeps the best epoch: one network that
# reads every sample and keeps its last weights, on the CPU.
FIXED = {
    "features": None,
    "refit": None,
    "early_stopping": False,
    "restore_best": False,
    "patch": None,
    "device": "cpu",
}
Settings = dict[str, Any]


class _Unjudged(SensorLSTMClassifier):
    """A classifier that makes no fluctuation report.

    The runs that test single resets (resets.py) do not need a report.
    """

    def _make_report(self, record: Any = None) -> None:
        self.fluctuation_ = FluctuationReport("too_short_to_tell", None, (), record=record)


@dataclass(frozen=True, eq=False)
class Fit:
    """The outcome of one fit.

    Parameters
    ----------
    classifier : SensorLSTMClassifier
        The fitted classifier, or the state in which it diverged.
    accuracy : ndarray of shape (E,)
        Accuracy on fresh windows after each epoch, NaN where it was not measured.
    fit_s : float
        Duration in seconds.
    score : float, optional
        Accuracy of the classifier on fresh windows if it uses features or the best epoch's weights.
    """

    classifier: SensorLSTMClassifier
    accuracy: NDArray[np.float64]
    fit_s: float
    score: float | None = None

    @property
    def level(self) -> float:
        """Median accuracy on fresh windows over the last third of the epochs; 0 for a diverged fit.

        If the fit used features or kept the weights of the best epoch, the level is the accuracy of
        the fitted classifier.
        """
        if not hasattr(self.classifier, "module_") or not len(self.accuracy):
            return 0.0
        if self.score is not None:
            return self.score
        return float(np.median(self.accuracy[-max(len(self.accuracy) // 3, 1) :]))

    @property
    def level_at_best(self) -> float:
        """Accuracy on fresh windows after the epoch of the lowest validation loss."""
        loss = np.asarray(self.classifier.history_["val_loss"], float)
        if not np.isfinite(loss).any() or not np.isfinite(self.accuracy).any():
            return 0.0
        return float(self.accuracy[int(np.nanargmin(loss))])

    @property
    def movement(self) -> float | None:
        """Noise, in nats, of the late loss on fixed training windows; None if not computable."""
        record = self.classifier.fluctuation_.record
        loss = np.zeros(0) if record is None else np.asarray(record.fixed_loss, float)
        late = loss[len(loss) // 2 :]
        return float(mean_noise(late)) if len(late) >= 4 and np.isfinite(late).all() else None


class _FreshWatch:
    """Measures the accuracy on fresh windows after each epoch, scaled like training windows."""

    def __init__(
        self, parts: DrawnParts, classifier: SensorLSTMClassifier, first_epoch: int
    ) -> None:
        self.parts, self.classifier, self.first_epoch = parts, classifier, first_epoch
        self.accuracy: list[float] = []
        self._seen: Any = None

    def on_epoch_end(self, module: Any, history: Any) -> None:
        if len(history) < self.first_epoch:
            self.accuracy.append(np.nan)
            return
        x, lengths = self._seen = self._seen or self._see()
        with torch.no_grad():
            right = module(x, lengths).argmax(1).numpy() == self.parts.fresh.y
        self.accuracy.append(float(right.mean()))

    def _see(self) -> Any:
        fresh, train = self.parts.fresh, self.parts.train
        arguments = check_arguments(self.classifier.get_params(deep=False))
        read = read_windows(arguments, train.X, train.y, **self.parts.of_fit)
        model = scale_windows(arguments, hold_out(arguments, read)).model
        lengths = fresh.lengths
        valid = np.full(len(fresh.X), fresh.X.shape[1]) if lengths is None else lengths
        cropped = Windows(fresh.X, valid).cropped(model.input.max_timesteps, model.input.crop)
        X, valid = cropped.X, cropped.lengths
        if model.scaler is not None:
            X = model.scaler.transform(X, valid)
        kept = None if lengths is None else torch.from_numpy(valid)
        return torch.from_numpy(np.ascontiguousarray(X, np.float32)), kept


def fit(
    parts: DrawnParts,
    settings: Mapping[str, Any],
    seed: int,
    *,
    every_epoch: bool = False,
    judged: bool = True,
) -> Fit:
    """Fit; measure the accuracy on fresh windows in the last third of the epochs or in all."""
    n_classes = int(parts.train.y.max()) + 1
    make = SensorLSTMClassifier if judged else _Unjudged
    clf = make(**as_arguments(settings, n_classes), random_state=seed)
    n_epochs = settings.get("max_epochs", "auto")
    late = 0 if every_epoch or n_epochs == "auto" else n_epochs - max(n_epochs // 3, 1)
    watch = _FreshWatch(parts, clf, late)
    clf.set_params(callbacks=[watch])
    started = time.perf_counter()
    with warnings.catch_warnings(), suppress(DivergedError):
        warnings.simplefilter("ignore")  # many fits fail on purpose
        clf.fit(parts.train.X, parts.train.y, **parts.of_fit)
    clf.set_params(callbacks=None)
    fit_s, score = time.perf_counter() - started, None
    if hasattr(clf, "module_") and (clf.features is not None or clf.restore_best):
        predicted = clf.predict(parts.fresh.X, parts.fresh.lengths)
        score = float(np.mean(predicted == parts.fresh.y))
    return Fit(clf, np.array(watch.accuracy), fit_s, score)


def as_arguments(settings: Mapping[str, Any], n_classes: int) -> Settings:
    """Convert settings, with values from JSON, to arguments of the classifier."""
    made: Settings = {**FIXED, **settings}
    momentum = made.pop("momentum", None)
    if momentum is not None and made.get("optimizer") == "sgd":
        made["optimizer_params"] = {**(made.get("optimizer_params") or {}), "momentum": momentum}
    for name, kinds in {
        "weight_init": {"normal": Normal, "gain": Gain},
        "recurrent_init": {"normal": Normal, "gain": Gain},
    }.items():
        word, _, number = str(made.get(name, "")).partition(" ")
        if number:
            made[name] = kinds[word](float(number))
    if str(made.get("class_weight")).startswith("first x"):
        factor = float(made["class_weight"].removeprefix("first x"))
        made["class_weight"] = {k: factor if k == 0 else 1.0 for k in range(n_classes)}
    return made
