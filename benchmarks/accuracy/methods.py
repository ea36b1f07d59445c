"""The compared methods: each fits on windows and returns a function that predicts classes."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accuracy.data import LabeledWindows
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.linear_model import RidgeClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from sensorseq import SensorLSTMClassifier
from sensorseq.evaluation import calibration_error
from sensorseq.evaluation.baselines import make_baseline, summary_features
from sensorseq.features import RandomConvolutions

METHODS = {
    "defaults": "SensorLSTMClassifier() with default arguments",
    "minirocket": "MiniRocket with 10,000 features and a ridge classifier",
    "multirocket": "MultiRocket (aeon) and a ridge classifier",
    "hydra": "Hydra (aeon) and a ridge classifier",
    "quant": "QUANT (aeon): quantiles of intervals and 200 extremely randomised trees",
    "boosting": "histogram gradient boosting on summary statistics of the channels",
    "extra_trees": "500 extremely randomised trees on summary statistics of the channels",
    "lstm": "SensorLSTMClassifier(features=None), the LSTM alone",
    "motors": "SensorLSTMClassifier(motors=[('curL', 'velL'), ('curR', 'velR')])",
}
OURS = ("defaults", "motors")
MOTORS = {"A": [(0, 2), (1, 3)]}  # the sets whose channels are motors, and the pairs of channels
# the methods with which ours are compared pairwise
PEERS = ("minirocket", "multirocket", "hydra", "quant", "boosting", "extra_trees")
_AEON = ("multirocket", "hydra", "quant")

Predict = Callable[[LabeledWindows], NDArray[np.int64]]


class AbsentError(Exception):
    """A method cannot be run here; the message gives the reason."""


@dataclass(frozen=True, eq=False)
class MethodOutcome:
    """The predictions and the cost of a fit."""

    predicted: NDArray[np.int64]
    fit_s: float
    predict_s: float
    judged: Mapping[str, Any] = field(default_factory=dict)


class Runner:
    """Runs methods, and keeps aeon's interpreter alive between methods."""

    def __init__(self, n_threads: int = 1, aeon_python: str | None = None) -> None:
        self.n_threads = n_threads
        self._warm: set[str] = set()
        self.aeon = Aeon(aeon_python or sys.executable, n_threads)

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *_: Any) -> None:
        self.aeon.close()

    def _warm_up(self, method: str) -> None:
        """Fit a network once before any timing, because the first fit imports modules."""
        if method in (*OURS, "lstm") and method not in self._warm:
            rng = np.random.default_rng(0)
            X, y = rng.normal(size=(80, 20, 4)).astype(np.float32), np.arange(80) % 2
            _fit(method, LabeledWindows(X, y), 0, self.n_threads)(LabeledWindows(X, y))
            self._warm.add(method)

    def uses_aeon(self, method: str) -> bool:
        """Return whether a method runs in aeon's interpreter."""
        return method in _AEON

    def why_absent(self, method: str) -> str:
        """Return the reason why a method cannot run here, or an empty string if it can."""
        try:
            if self.uses_aeon(method):
                self.aeon.ask({"what": "available", "method": method})
        except AbsentError as error:
            return str(error)
        return ""

    def describe(self, method: str) -> str:
        """Return a method's description, with the implementation in use if there are several."""
        if method == "minirocket":
            return METHODS[method] + " (sensorseq.features)"
        return METHODS[method]

    def run(
        self, method: str, train: LabeledWindows, test: LabeledWindows, seed: int
    ) -> MethodOutcome:
        """Fit on one part and predict the other."""
        torch.set_num_threads(self.n_threads)
        with threadpool_limits(self.n_threads):
            if self.uses_aeon(method):
                return self.aeon.run(method, train, test, seed)
            self._warm_up(method)
            started = time.perf_counter()
            predict = _fit(method, train, seed, self.n_threads)
            fitted = time.perf_counter()
            predicted = np.asarray(predict(test))
            done = time.perf_counter()
            judged = predict.judge(test) if isinstance(predict, Ours) else {}
        return MethodOutcome(predicted, fitted - started, done - fitted, judged)


@dataclass(frozen=True, eq=False)
class Ours:
    """A fitted classifier of this package."""

    model: SensorLSTMClassifier

    def __call__(self, test: LabeledWindows) -> NDArray[np.int64]:
        """Return the predicted classes."""
        return np.asarray(self.model.predict(test.X, lengths=test.lengths))

    def judge(self, test: LabeledWindows) -> dict[str, Any]:
        """Return the log-loss, the calibration error and the accuracy of each member alone."""
        probability = self.model.predict_proba(test.X, lengths=test.lengths)
        given = np.searchsorted(self.model.classes_, test.y)
        of_class = np.maximum(probability[np.arange(len(given)), given], 1e-12)
        known = self.model.classes_
        error = calibration_error(test.y, probability, known, groups=test.groups, n_resamples=1)
        known_error = bool(np.isfinite(error.squared))
        return {
            "log_loss": round(float(-np.log(of_class).mean()), 5),
            # unbiased, so that means over folds are meaningful; None with a single group
            "squared_calibration_error": round(error.squared, 6) if known_error else None,
            "members": {name: self._alone(name, test) for name in self.model.model_.sum.members},
        }

    def _alone(self, name: str, test: LabeledWindows) -> float:
        whole = self.model.model_
        weights = {**dict.fromkeys(whole.sum.members, 0.0), name: 1.0}
        alone = replace(whole.sum, weights=weights, bias=np.zeros(len(whole.classes)))
        predicted = replace(whole, sum=alone).predict(test.X, lengths=test.lengths)
        return round(float((predicted == test.y).mean()), 5)


def _fit(method: str, train: LabeledWindows, seed: int, n_threads: int) -> Predict:
    """Fit a method in this interpreter; return its prediction function."""
    if method in (*OURS, "lstm"):
        features = "auto" if method in OURS else None
        motors = MOTORS["A"] if method == "motors" else None
        model = SensorLSTMClassifier(features=features, motors=motors, random_state=seed)
        model.fit(train.X, train.y, groups=train.groups, lengths=train.lengths)
        return Ours(model)
    if method == "minirocket":
        return _fit_minirocket(train, seed, n_threads)
    if method == "extra_trees":
        learner = ExtraTreesClassifier(500, n_jobs=n_threads, random_state=seed)
    else:
        learner = make_baseline("gradient_boosting", seed)
    learner.fit(_summaries(train), train.y)
    return lambda test: learner.predict(_summaries(test))


def streams_of(windows: LabeledWindows) -> tuple[Any, ...]:
    """Return the arrays from which features are computed."""
    return windows.streams or (windows.X,)


def scaling(X: Any, lengths: Any) -> tuple[Any, Any]:
    """Return the mean and standard deviation of each channel over the valid steps."""
    steps = np.arange(X.shape[1])
    values = X.reshape(-1, X.shape[2]) if lengths is None else X[steps < lengths[:, None]]
    mean, sd = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    return mean, np.where(sd > 1e-12, sd, 1.0)


def standardize(X: Any, lengths: Any, mean: Any, sd: Any) -> Any:
    """Scale the channels and set padding to zero."""
    X = ((X - mean) / sd).astype(np.float32)
    if lengths is not None:
        X[np.arange(X.shape[1]) >= lengths[:, None]] = 0.0
    return X


def scaled_streams(train: LabeledWindows, *parts: LabeledWindows) -> list[list[Any]]:
    """Scale the streams of each part with the training part's statistics."""
    scales = [scaling(X, train.lengths) for X in streams_of(train)]
    return [
        [standardize(X, part.lengths, *of) for X, of in zip(streams_of(part), scales, strict=True)]
        for part in parts
    ]


def _summaries(windows: LabeledWindows) -> NDArray[np.float64]:
    return np.hstack([summary_features(s, windows.lengths) for s in streams_of(windows)])


def _fit_minirocket(train: LabeledWindows, seed: int, n_threads: int) -> Predict:
    convolutions = []
    features = []
    for X in scaled_streams(train, train)[0]:
        fitted = RandomConvolutions(n_features=10_000, random_state=seed, n_threads=n_threads)
        fitted.fit(X, lengths=train.lengths)
        convolutions.append(fitted)
        features.append(fitted.transform(X, lengths=train.lengths))
    linear = make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(-3, 3, 10)))
    linear.fit(np.hstack(features), train.y)

    def predict(test: LabeledWindows) -> NDArray[np.int64]:
        streams = scaled_streams(train, test)[0]
        return linear.predict(
            np.hstack(
                [
                    fitted.transform(X, lengths=test.lengths)
                    for fitted, X in zip(convolutions, streams, strict=True)
                ]
            )
        )

    return predict


class Aeon:
    """Runs aeon in another interpreter, whose process starts with the first request."""

    def __init__(self, python: str, n_threads: int) -> None:
        self.python, self.n_threads = python, n_threads
        self._process: subprocess.Popen[str] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request; raise AbsentError if it cannot be answered."""
        if self._process is None:
            self._process = self._start()
        line = json.dumps({"threads": self.n_threads, **request})
        try:
            self._process.stdin.write(line + "\n")  # type: ignore[union-attr]
            self._process.stdin.flush()  # type: ignore[union-attr]
            reply = self._process.stdout.readline()  # type: ignore[union-attr]
        except BrokenPipeError:
            reply = ""
        if not reply:
            self.close()
            raise AbsentError(f"aeon's process ({self.python}) ended")
        answer = json.loads(reply)
        if "error" in answer:
            raise AbsentError(f"aeon ({Path(self.python).name}): {answer['error']}")
        return answer

    def run(
        self, method: str, train: LabeledWindows, test: LabeledWindows, seed: int
    ) -> MethodOutcome:
        """Fit and predict in aeon's process; passing the arrays in a file is not timed."""
        # aeon's transforms need equal lengths, so the padding stays; a scaled value of 0 is the
        # mean
        streams, test_streams = scaled_streams(train, train, test)
        with tempfile.TemporaryDirectory() as folder:
            arrays = {"y": train.y}
            for i, (X, X_test) in enumerate(zip(streams, test_streams, strict=True)):
                arrays[f"train_{i}"] = X.transpose(0, 2, 1)
                arrays[f"test_{i}"] = X_test.transpose(0, 2, 1)
            inputs, outputs = Path(folder) / "given.npz", Path(folder) / "found.npy"
            np.savez(inputs, **arrays)
            answer = self.ask(
                {
                    "what": "run",
                    "method": method,
                    "seed": seed,
                    "streams": len(streams),
                    "input": str(inputs),
                    "output": str(outputs),
                }
            )
            return MethodOutcome(np.load(outputs), answer["fit_s"], answer["predict_s"])

    def versions(self) -> dict[str, str]:
        """Return the versions of aeon and numba, or nothing if these cannot be imported."""
        try:
            return self.ask({"what": "version"})
        except AbsentError:
            return {}

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            with contextlib.suppress(BrokenPipeError):  # the process may have ended already
                self._process.stdin.close()  # type: ignore[union-attr]
            self._process.terminate()
            self._process.wait()
            self._process.stdout.close()  # type: ignore[union-attr]
            self._process = None

    def _start(self) -> "subprocess.Popen[str]":
        threads = str(self.n_threads)
        limits = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        try:
            return subprocess.Popen(
                [self.python, "-W", "ignore", str(Path(__file__).with_name("aeon_worker.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                env={**os.environ, **dict.fromkeys(limits, threads)},
            )
        except OSError as error:
            raise AbsentError(f"cannot start {self.python}: {error}") from None
