"""Why do the loss and the accuracy of my LSTM jump around? A case study, from question to repair.

The question was about 98 windows of 100 steps with one channel, six classes and one-hot labels. An
LSTM with over 200 000 parameters was trained with RMSprop at a constant rate, without clipping, for
more than a hundred epochs. The fit's report suspects causes. Fits with the defaults and with the
first cause reset are then compared with the first fit, on windows that no fit has seen.

    python examples/fluctuating_lstm.py --output story
"""

import argparse
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sensorseq import SensorLSTMClassifier, find_label_errors

N_STEPS = 100
N_UNITS = 222  # over 200 000 parameters
NOISE = 0.25  # standard deviation of the noise; that of a wave is about 0.7
FAMILIES = ("cosine", "arccos of a cosine", "square", "sawtooth", "damped", "chirp")
ASKED = {
    "pooling": "last",
    "optimizer": "rmsprop",
    "optimizer_params": {"alpha": 0.9, "eps": 1e-7},
    "dropout": 0.0,
    "weight_decay": 0.0,
    "warmup_epochs": 0,
    "features": None,
    "refit": None,
    "patch": None,
    "learning_rate": 1e-3,
    "lr_schedule": "constant",
    "max_grad_norm": None,
    "batch_size": 32,
    "early_stopping": False,
    "restore_best": False,
    "random_state": 0,
}


class Windows(NamedTuple):
    """Training, validation and fresh windows, each with one-hot labels."""

    X: np.ndarray
    y: np.ndarray
    X_val: np.ndarray
    y_val: np.ndarray
    X_fresh: np.ndarray
    y_fresh: np.ndarray

    @property
    def fitted_on(self) -> dict:
        """Arguments for `fit`."""
        return {"X": self.X, "y": self.y, "X_val": self.X_val, "y_val": self.y_val}


def wave(family: int, phase: float, periods: float) -> np.ndarray:
    """Return a wave of a family: `periods` periods in 100 steps, starting at a phase in radians."""
    t = np.arange(N_STEPS) / N_STEPS
    angle = 2 * np.pi * periods * t + phase
    if family == 0:
        return np.cos(angle)
    if family == 1:  # a triangle wave with the period of the first family
        return 1.22 * (1 - 2 / np.pi * np.arccos(np.cos(angle)))
    if family == 2:
        return 0.7 * np.sign(np.cos(angle))
    if family == 3:
        return 1.22 * (angle / np.pi % 2 - 1)
    if family == 4:
        return 1.6 * np.exp(-2 * t) * np.cos(angle)
    return np.cos(angle * (0.4 + 1.2 * t))


def draw_windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw windows of six families of waves, in equal numbers.

    The phase, the frequency (2.5 to 3.5 periods per window) and the noise are random. The first two
    families differ by less than the noise.

    Parameters
    ----------
    n : int
        Number of windows.
    seed : int
        Seed of the generator.

    Returns
    -------
    X : ndarray of shape (n, 100, 1), float32
    y : ndarray of shape (n, 6), float64
        One-hot labels.
    """
    rng = np.random.default_rng(seed)
    families = rng.permutation(np.arange(n) % len(FAMILIES))
    phases, periods = rng.uniform(0, 2 * np.pi, n), rng.uniform(2.5, 3.5, n)
    X = np.stack([wave(*drawn) for drawn in zip(families, phases, periods, strict=True)])
    X += NOISE * rng.standard_normal(X.shape)
    return X[:, :, None].astype(np.float32), np.eye(len(FAMILIES))[families]


def draw_case(seed: int = 0) -> Windows:
    """Draw 98 training windows, 42 validation windows and 600 fresh windows."""
    parts = [draw_windows(n, 3 * seed + part) for part, n in enumerate((98, 42, 600))]
    return Windows(*(array for pair in parts for array in pair))


def flip_labels(y: np.ndarray, share: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Change the labels of a fraction of the windows; return all labels and the changed indices."""
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.choice(len(y), round(share * len(y)), replace=False))
    label = y.argmax(axis=1)
    label[rows] = (label[rows] + rng.integers(1, y.shape[1], len(rows))) % y.shape[1]
    return np.eye(y.shape[1])[label], rows


class Outcome(NamedTuple):
    """Noise and accuracy of a fit."""

    noise: float  # movement per epoch of the loss of fixed training windows, in nats
    validation: float  # accuracy, mean over the last third of the epochs
    fresh: float  # accuracy on the fresh windows


def measure(clf: SensorLSTMClassifier, windows: Windows) -> Outcome:
    """Measure a fit."""
    noise = clf.fluctuation_.statistics["fixed_loss_noise"].value
    accuracy = [row["val_accuracy"] for row in clf.history_]
    return Outcome(
        noise,
        float(np.mean(accuracy[-(len(accuracy) // 3) :])),
        clf.score(windows.X_fresh, windows.y_fresh),
    )


def compare(name: str, settings: dict, windows: Windows) -> None:
    """Fit two seeds with these settings, and print a line about each fit."""
    for seed in (0, 1):
        clf = SensorLSTMClassifier(**{**settings, "random_state": seed}).fit(**windows.fitted_on)
        print(f"  {name:36}{line(measure(clf, windows))}")


def line(outcome: Outcome) -> str:
    """Return an outcome formatted as a line."""
    return (
        f"loss +-{outcome.noise:.3f} nats per epoch, accuracy {outcome.validation:.2f}"
        f" (validation), {outcome.fresh:.2f} (fresh)"
    )


def tell_the_case(windows: Windows, asked: dict, output: Path) -> None:
    """Fit as in the question, then with the defaults, and with the first cause reset."""
    clf = SensorLSTMClassifier(**asked).fit(**windows.fitted_on)
    n_parameters = sum(parameter.numel() for parameter in clf.module_.parameters())
    print(f"1. THE QUESTION: {len(windows.X)} windows, {n_parameters} parameters\n")
    print(clf.fluctuation_)
    page = output / "fluctuating_lstm.html"
    clf.fluctuation_.to_html(page)
    print(f"\n2. THE PAGE: {page}")

    print("\n3. THE DEFAULTS, AND THE FIRST CAUSE RESET (two seeds each)\n")
    compare("original", asked, windows)
    compare("the defaults", {}, windows)
    first = clf.fluctuation_.causes[0]
    compare(f"{first.name} reset", {**asked, **first.recommendation}, windows)


def main() -> None:
    """Run the case in five parts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(), help="folder for the page")
    parser.add_argument("--quick", action="store_true", help="smaller network, fewer epochs")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    windows = draw_case(arguments.seed)
    small = {**ASKED, "hidden_size": 48, "max_epochs": 40, "random_state": arguments.seed}
    asked = {**small, "max_epochs": 200}
    if not arguments.quick:
        asked.update(hidden_size=N_UNITS, max_epochs=150)
        small.update(hidden_size=64, max_epochs=200)
    tell_the_case(windows, asked, arguments.output)

    print('\n4. ONE ANSWER: "THE BATCH IS TOO SMALL"\n')
    for batch_size in (4, 2):
        of_size = {**small, "batch_size": batch_size}
        compare(f"batches of {batch_size}", of_size, windows)
        decaying = {**of_size, "lr_schedule": "cosine"}
        compare(f"batches of {batch_size}, cosine decay", decaying, windows)

    print("\n5. WRONG LABELS\n")
    y, rows = flip_labels(windows.y, 0.15)
    wrong = windows._replace(y=y)
    compare("15 % of the labels wrong", small, wrong)
    found = find_label_errors(SensorLSTMClassifier(), wrong.X, y, n_seeds=1, random_state=0)
    first = found.row[: len(rows)]
    print(
        f"  find_label_errors: about {found.n_estimated} labels look wrong; of its first"
        f" {len(rows)} windows {len(set(first) & set(rows))} have a wrong label"
    )
    print(f"\n{time.perf_counter() - started:.0f} s in total")


if __name__ == "__main__":
    main()
