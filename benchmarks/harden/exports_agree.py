"""Checks that every export answers as its model: `python benchmarks/harden/exports_agree.py`.

The program draws data, a preparation and the arguments of a classifier, fits for one or two epochs
and compares the probabilities of `predict_proba` with those of the saved model (read by the
estimator, by `sensorseq.prediction` and by the runtime), of the ONNX graph in onnxruntime, and of
the C code compiled by gcc, for windows and for a stream. Some windows have gaps, dead channels,
infinity, or anything beyond their length. An export must answer a window that `predict_proba`
refuses with NaN (in C with -1). C code does not bridge gaps, so it must refuse them.

`--seed 17 --models 1 --verbose` repeats one model. The last line of the output is a JSON summary.
"""

import argparse
import json
import os
import sys
import tempfile
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from c_models import CModel, CSensors  # noqa: E402
from checkout import script  # noqa: E402

from sensorseq import (  # noqa: E402
    PreparePipeline,
    Recording,
    SensorFusionClassifier,
    SensorLSTMClassifier,
    prediction,
)
from sensorseq.errors import InputError, SensorseqError  # noqa: E402

BOUND = 1e-5
# The exceptions in docs/deploy_c.md: convolutions count how often a signal exceeds a value, so the
# last bit of a sample that the C code has filtered or resampled can change a count, and the weight
# of a sensor that hardly varies enlarges the rounding errors of its float32 probabilities.
BOUND_OF_EXCEPTIONS = 1e-3
KINDS = ("arrays", "recordings", "sensors")
_RATES = (20.0, 50.0, 100.0)


def draw_arguments(rng):
    """Draw the arguments of a classifier."""
    pick = lambda *values: values[rng.integers(len(values))]  # noqa: E731
    features = pick(
        "auto", None, None, "rocket", "hydra", "summary", "boosting", ["summary", "boosting"]
    )
    return {
        "hidden_size": pick(1, 5, 8, 16),
        "max_epochs": pick(1, 2),
        "random_state": 0,
        "device": "cpu",
        "features": features,
        "patch": pick("auto", None, 4, 8),
        "bidirectional": pick(False, False, True),
        "num_layers": pick(1, 1, 2),
        "pooling": pick("last", "mean", "max", "meanmax"),
        "head_norm": pick("none", "none", "layer", "batch"),
        "scale": pick("standard", "standard", "robust", None),
        "n_models": pick(1, 1, 2),
        "refit": pick("auto", None),
        "calibrate": pick(False, False, True),
        "missing": pick("error", "expected"),
        "dtype": pick("float32", "float32", "float64"),
    }


def draw_signal(rng, y, n_steps, n_channels, rate_hz=10.0):
    """Draw signals (n, t, c) whose frequency depends on the class, at any amplitude and offset."""
    t = np.arange(n_steps) / rate_hz
    phase = rng.uniform(0, 2 * np.pi, (len(y), 1, n_channels))
    X = np.sin(2 * np.pi * (1 + y)[:, None, None] * t[:, None] + phase)
    X = X + rng.choice([0.2, 1.0, 3.0]) * rng.normal(size=X.shape)
    X = X + rng.choice([0.0, 0.0, 10.0]) * rng.normal(size=n_channels)
    if rng.random() < 0.2:  # a coarse sensor
        X = np.round(2 * X) / 2
    if rng.random() < 0.1:
        X[:, :, 0] = 0.3
    return (X * 10.0 ** rng.integers(-4, 5)).astype(np.float32)


def spoiled(rng, X, lengths):
    """Return copies of a few windows with values that are missing or cannot be used."""
    X, lengths = X[:8].copy(), lengths[:8].copy()
    n_steps, channel = X.shape[1], rng.integers(X.shape[2])
    for at, window in enumerate(X):
        end = lengths[at]
        first = rng.integers(end)
        gap = slice(first, first + rng.integers(1, n_steps))
        if at == 0:
            window[end:] = rng.choice([np.nan, np.inf, -1e30])
        elif at == 1:
            window[gap, channel] = np.nan
        elif at == 2:
            window[:, channel] = np.nan
        elif at == 3:
            window[:] = np.nan
        elif at == 4:
            window[first, channel] = rng.choice([np.inf, -np.inf])
        elif at == 5:
            window[first, channel] = 1e6 * np.nanmax(np.abs(window))
        elif at == 6:
            window[gap] = np.nan
    return X, lengths


def answers(predict_proba, n_classes, windows):
    """Return the probabilities of windows, and NaN for those that are refused."""
    rows = np.full((len(windows), n_classes), np.nan)
    for row, window in zip(rows, windows, strict=True):
        with suppress(InputError):
            row[:] = predict_proba(window)[0]
    return rows


def difference(found, expected):
    """Return the largest difference; infinity if different windows are refused."""
    found = np.asarray(found, np.float64).reshape(-1, expected.shape[1])
    if found.shape != expected.shape or (np.isnan(found) != np.isnan(expected)).any():
        return np.inf
    return float(np.nanmax(np.abs(found - expected), initial=0.0))


class Trial:
    """A drawn model, and the differences of its exports from `predict_proba`."""

    def __init__(self, seed, folder, runtime=None):
        self.rng, self.folder, self.runtime = np.random.default_rng(seed), Path(folder), runtime
        self.kind = KINDS[self.rng.choice(3, p=[0.5, 0.35, 0.15])]
        self.arguments = draw_arguments(self.rng)
        self.differences, self.refusals, self.facts = {}, [], {}
        self.options = {}

    def run(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                getattr(self, f"_fit_{self.kind}")()
            except SensorseqError as error:
                self.refusals.append(f"fit: {error}")
                return self
            if self.kind == "sensors":
                self._compare_sensors()
            else:
                self._compare()
        return self

    # One sensor

    def _fit_arrays(self):
        rng = self.rng
        n, n_steps, n_channels = (
            int(rng.choice(sizes)) for sizes in ([12, 30, 90], [9, 24, 61], [1, 2, 4])
        )
        y = np.arange(n) % int(rng.integers(2, 5))
        X, lengths = draw_signal(rng, y, n_steps, n_channels), np.full(n, n_steps)
        if rng.random() < 0.3:
            lengths[1:] = rng.integers(3, n_steps + 1, n - 1)
            X[np.arange(n_steps) >= lengths[:, None]] = 0
        self._model = SensorLSTMClassifier(**self.arguments)
        self._model.fit(X, y, lengths=lengths)
        self.options["n_timesteps"] = n_steps
        self._windows = X, lengths

    def _fit_recordings(self):
        rng, rate = self.rng, float(self.rng.choice(_RATES))
        names = ["ax", "ay", "gz"][: int(rng.integers(1, 4))]
        y = np.arange(6) % 3
        signals = draw_signal(rng, y, int(15 * rate), len(names), rate).astype(np.float64)
        window_s = float(rng.choice([1.0, 2.0]))
        configured = {
            "window_s": window_s,
            "hop_s": float(rng.choice([window_s, window_s / 2, 0.37])),
            "steps": draw_steps(rng, rate) or None,
        }
        if rng.random() < 0.3:
            configured["sample_rate_hz"] = rate * float(rng.choice([0.5, 0.8]))
        recordings = [
            Recording.evenly_sampled(x, rate, names, f"r{i}", label="abc"[y[i]], group=f"r{i}")
            for i, x in enumerate(signals)
        ]
        self.facts = {"rate_hz": rate, **configured}
        windows = PreparePipeline(**configured, split=None).prepare(recordings)
        self._model = SensorLSTMClassifier(**self.arguments).fit(windows)
        if "sample_rate_hz" in configured:
            self.options["sample_rate_hz"] = rate
        self._windows = windows.X, np.full(len(windows), windows.X.shape[1])
        self._signal = signals[0][: int(9 * rate)]

    def _compare(self):
        model, (X, lengths) = self._model, self._windows
        n_classes = len(model.classes_)
        bad, bad_lengths = spoiled(self.rng, X, lengths)

        def one(predict_proba):
            return lambda window: predict_proba(window[0][None], lengths=[window[1]])

        good = model.predict_proba(X, lengths=lengths)
        pairs = list(zip(bad, bad_lengths.tolist(), strict=True))
        refused = answers(one(model.predict_proba), n_classes, pairs)
        expected = np.concatenate([good, refused])
        path = self.folder / "model.safetensors"
        model.save(path)
        loaded = {"estimator": SensorLSTMClassifier.load(path), "prediction": prediction.load(path)}
        if self.runtime is not None:
            loaded["runtime"] = self.runtime.load(path)
        for name, other in loaded.items():
            found = (
                answers(one(other.predict_proba), n_classes, pairs)
                if name != "runtime"
                else refused
            )
            self._note(name, [other.predict_proba(X, lengths=lengths), found], expected)
        X, lengths = np.concatenate([X, bad]), np.concatenate([lengths, bad_lengths])
        with self._refusing("onnx"):
            self._note("onnx", self._onnx({"X": X, "lengths": lengths}), expected)
        with self._refusing("c"):
            self._compare_c(X, lengths, expected)

    def _compare_c(self, X, lengths, expected):
        export = self._model.to_c(self.folder, **self.options)
        preparation = self._model.preparation_ or {}
        inputs = preparation.get("input_channels") or preparation.get("channels") or X[0, 0]
        n_classes = expected.shape[1]
        compiled = CModel(export, len(inputs), n_classes)
        rows = [compiled.predict(x[:end]) for x, end in zip(X, lengths, strict=True)]
        rows = [np.full(n_classes, np.nan) if isinstance(row, int) else row for row in rows]
        has_nan = [np.isnan(x[:end]).any() for x, end in zip(X, lengths, strict=True)]
        self._note("c", rows, np.where(np.array(has_nan)[:, None], np.nan, expected))
        compiled.reset()
        if self.kind == "arrays":
            full = np.flatnonzero(
                (lengths == X.shape[1]) & np.isfinite(expected[:, 0]) & ~np.array(has_nan)
            )[:5]
            signal, expected = X[full].reshape(-1, X.shape[2]), expected[full]
        else:
            signal, stream = self._signal, self._model.stream(self.options.get("sample_rate_hz"))
            decided = stream.push(signal)
            expected = np.array([decision.probabilities for decision in decided]).reshape(
                -1, n_classes
            )
        bad = np.full((1, signal.shape[1]), np.nan)
        middle = len(signal) // 2
        rows = compiled.stream(np.concatenate([signal[:middle], bad, signal[middle:]]))
        self._note("c stream", rows, expected)

    # Several sensors

    def _fit_sensors(self):
        rng, n = self.rng, int(self.rng.choice([24, 60]))
        y = np.arange(n) % 3
        X = {"imu": draw_signal(rng, y, 24, 3), "motor": draw_signal(rng, y, 9, 1)}
        self._model = SensorFusionClassifier(SensorLSTMClassifier(**self.arguments)).fit(X, y)
        self._windows = X

    def _compare_sensors(self):
        model, X = self._model, self._windows
        full = {name: np.full(len(x), x.shape[1]) for name, x in X.items()}
        bad = {name: spoiled(self.rng, x, full[name])[0] for name, x in X.items()}
        bad["motor"] = bad["motor"][self.rng.permutation(8)]
        X = {name: np.concatenate([X[name], bad[name], bad[name], X[name][:8]]) for name in X}
        X["motor"] = np.concatenate([X["motor"][:-16], self._windows["motor"][:8], bad["motor"]])
        n, n_classes = len(X["imu"]), len(model.classes_)
        windows = [{name: x[at : at + 1] for name, x in X.items()} for at in range(n)]
        expected = answers(model.predict_proba, n_classes, windows)
        path = self.folder / "model.safetensors"
        model.save(path)
        for name, load in (
            ("estimator", SensorFusionClassifier.load),
            ("prediction", prediction.load),
        ):
            self._note(name, answers(load(path).predict_proba, n_classes, windows), expected)
        with self._refusing("onnx"):
            self._note("onnx", self._onnx({f"X_{name}": x for name, x in X.items()}), expected)
        with self._refusing("c"):
            compiled = CSensors(model.to_c(self.folder), n_classes)
            by_sensor = [[compiled.stream(name, x) for x in X[name]] for name in model.sensors_]
            whole = [all(np.isfinite(x[at]).all() for x in X.values()) for at in range(n)]
            rows = [
                compiled.join([of[0] if of else None for of in both])
                for both in zip(*by_sensor, strict=True)
            ]
            rows = [np.full(n_classes, np.nan) if isinstance(row, int) else row for row in rows]
            whole = np.array(whole) & np.isfinite(expected[:, 0])
            self._note("c", np.array(rows)[whole], expected[whole])

    # All

    def _onnx(self, feed):
        import onnxruntime

        path = self.folder / "model.onnx"
        self._model.to_onnx(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        names = {declared.name for declared in session.get_inputs()}
        return session.run(None, {name: x for name, x in feed.items() if name in names})[0]

    def _note(self, name, found, expected):
        rows = np.concatenate(found) if isinstance(found, list) and len(found) else found
        self.differences[name] = difference(rows, expected)

    def _refusing(self, name):
        return _Refusing(self, name)

    def failures(self):
        """Return the exports that differ by more than the bound."""
        bounds = dict.fromkeys(self.differences, BOUND)
        is_filtered = self.facts.get("steps") or "sample_rate_hz" in self.options
        if "c stream" in bounds and is_filtered and self._model.features is not None:
            bounds["c stream"] = BOUND_OF_EXCEPTIONS
        if "c" in bounds and self.kind == "sensors":
            bounds["c"] = BOUND_OF_EXCEPTIONS
        return {
            name: value for name, value in self.differences.items() if not value <= bounds[name]
        }

    def __str__(self):
        return f"{self.kind} {self.arguments} {self.facts} {self.differences} {self.refusals}"


class _Refusing:
    """Note errors of the package as refusals of a trial."""

    def __init__(self, trial, name):
        self.trial, self.name = trial, name

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if isinstance(error, SensorseqError):
            self.trial.refusals.append(f"{self.name}: {error}")
            return True
        return False


def draw_steps(rng, rate):
    """Draw up to two steps of a preparation."""
    steps = []
    for _ in range(rng.integers(3)):
        phase = str(rng.choice(["causal", "causal", "zero"]))
        statistics = ["rms", "mean", "std", "range", "min", "max", "mean_absolute"]
        steps.append(
            [
                {
                    "kind": "moving",
                    "statistic": str(rng.choice(statistics)),
                    "window_s": 0.5,
                    "phase": phase,
                },
                {"kind": "detrend", "window_s": float(rng.choice([0.5, 2.0])), "phase": phase},
                {"kind": "derivative", "phase": phase},
                {"kind": "difference", "keep": True},
                {"kind": "band_pass", "high_hz": rate / 5, "phase": phase},
                {"kind": "band_pass", "low_hz": rate / 20, "high_hz": rate / 4, "phase": phase},
                {"kind": "notch", "frequency_hz": rate / 6, "width_hz": rate / 10, "phase": phase},
            ][rng.integers(7)]
        )
    return steps


def room(folder):
    """Return the package of the runtime, copied into a folder."""
    script(ROOT / "runtime" / "room.py").copy(Path(folder))
    (library,) = (ROOT / "sensorseq").glob("_core*.so")
    os.link(library, Path(folder) / "sensorseq_runtime" / "_core.so")
    sys.path.insert(0, str(folder))
    import sensorseq_runtime

    return sensorseq_runtime


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="seed of the first model")
    parser.add_argument("--verbose", action="store_true", help="print every model")
    asked = parser.parse_args()
    parts, refusals, n_bad = {}, Counter(), 0
    with tempfile.TemporaryDirectory() as folder:
        runtime = room(folder)
        for seed in range(asked.seed, asked.seed + asked.models):
            with tempfile.TemporaryDirectory() as of_trial:
                trial = Trial(seed, of_trial, runtime).run()
            refusals.update(refusal[:80] for refusal in trial.refusals)
            failures = trial.failures()
            n_bad += bool(failures)
            if asked.verbose or failures:
                print(f"seed {seed}: {trial}", flush=True)
            for name, value in trial.differences.items():
                part = parts.setdefault(name, {"cases": 0, "findings": {}, "largest": 0.0})
                part["cases"] += 1
                part["largest"] = max(part["largest"], value)
                if name in failures:
                    part["findings"][f"seed {seed}"] = 1
    for name, part in parts.items():
        print(f"{name}: {part['cases']} models, largest difference {part['largest']:.1e}")
        part["absent"] = f"largest difference {part['largest']:.1e}"
    for refusal, n in refusals.most_common():
        print(f"{n} refused: {refusal}")
    print(json.dumps({"trials": asked.models, "failures": n_bad, "parts": parts}))
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
