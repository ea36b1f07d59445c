"""Drives over several surfaces: what smoothing over time adds to the classes of windows.

    bench_drives.py --borealtc FOLDER              # motors: 20 draws on each of five folds
    bench_drives.py --borealtc FOLDER --quick      # one fold, two draws; nothing is written

The default classifier is fitted on the motor currents and speeds of BorealTC, windows of 5 s, of
the recordings outside a fold. A drive is made of pieces of the fold's raw signals, each of a random
class other than the one before: joined, then cut into windows, so that windows across a joint are
classified and scored too, by the class of most of their samples. Lengths of the pieces are
geometric, uniform or fixed, with a mean drawn from 30 s to 180 s. The hidden Markov model is told
that mean times a factor drawn log-uniformly from 1/2 to 2.

Beside it stand what a few lines do: the single windows, the mean probability of the last windows
and of those around (with the delay of the fixed lag), and the majority of the last five. The folds
of `random_state=0` were looked at while the method was written; the figures are of the folds of
other random states. Intervals: 95 %, over all draws (normal); of the gain over single windows,
paired. Calibration error: over ten bins of
equally many windows, the mean difference of probability and share of right ones; of the smoothed
probabilities, and of the mean of the windows' own ones over each stretch.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from accuracy import data
from common.results_file import write_results
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq import SensorLSTMClassifier
from sensorseq.sequence import timeline_of

RATE_HZ, WINDOW = data._MOTOR_RATE_HZ, data._MOTOR_SAMPLES
K = len(data.TERRAINS)
DRIVE_S, SHORTEST_S, LONGEST_S = 1200.0, 30.0, 180.0
Floats = NDArray[np.float64]


def read_recordings(folder: Path) -> list[tuple[int, NDArray[np.float32]]]:
    """Return class and motor samples of every recording that has a window, in order of groups."""
    found = {}
    for place, terrain in enumerate(data.TERRAINS):
        for path in sorted((folder / terrain).glob("pro_*.csv*")):
            samples = data._read_csv(path)
            if len(samples) >= WINDOW:
                found[f"{terrain} {path.name}"] = place, samples
    return [found[name] for name in sorted(found)]


def draw_drive(
    rng: np.random.Generator, recordings: list[tuple[int, NDArray[np.float32]]], how: str
) -> tuple[NDArray[np.float32], NDArray[np.int64], float]:
    """Return samples, the class of each, and the mean length of a piece in seconds."""
    mean_s, n_drive = float(rng.uniform(SHORTEST_S, LONGEST_S)), int(DRIVE_S * RATE_HZ)
    pieces: list[NDArray[np.float32]] = []
    classes: list[int] = []
    own, n = -1, 0
    while n < n_drive:
        own = int(rng.choice(sorted({k for k, _ in recordings} - {own})))
        drawn = {"geometric": rng.exponential(), "uniform": rng.uniform(0, 2), "fixed": 1.0}[how]
        left = max(int(drawn * mean_s * RATE_HZ), WINDOW)
        while left > 0:
            choices = [samples for k, samples in recordings if k == own]
            samples = choices[rng.integers(len(choices))]
            size = min(left, len(samples))
            at = int(rng.integers(len(samples) - size + 1))
            pieces.append(samples[at : at + size])
            classes += [own] * size
            left, n = left - size, n + size
    return np.concatenate(pieces), np.array(classes), mean_s


def spans_right(labels: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Return the F1 of stretches: one is found if it overlaps a true one of its class by half."""

    def stretches(y: NDArray[np.int64]) -> list[tuple[int, int, int]]:
        edges = [0, *(np.flatnonzero(np.diff(y)) + 1).tolist(), len(y)]
        return [(int(y[i]), i, j) for i, j in pairwise(edges)]

    told, true = stretches(labels), stretches(truth)
    hits = sum(
        any(k == c and min(j, b) - max(i, a) > 0.5 * (max(j, b) - min(i, a)) for c, a, b in true)
        for k, i, j in told
    )
    return 2 * hits / (len(told) + len(true))


def false_switches(labels: NDArray[np.int64], truth: NDArray[np.int64], within: int) -> int:
    """Return how many switches are further than so many windows from every true one."""
    told, true = (np.flatnonzero(np.diff(y)) for y in (labels, truth))
    return sum(not len(true) or int(np.abs(true - at).min()) > within for at in told)


def of_stretches(p: Floats, labels: NDArray[np.int64]) -> Floats:
    """Return for each window the mean probability of its label over its stretch."""
    own = p[np.arange(len(p)), labels]
    parts = np.split(own, np.flatnonzero(np.diff(labels)) + 1)
    return np.concatenate([np.full(len(part), part.mean()) for part in parts])


def moving_mean(p: Floats, before: int, after: int) -> Floats:
    """Return the mean of each row with those before and after it."""
    padded = np.pad(p, ((before, after), (0, 0)), mode="edge")
    stacked = [padded[at : at + len(p)] for at in range(before + after + 1)]
    return np.asarray(np.mean(stacked, axis=0))


def methods(
    p: Floats, start_s: Floats, told_s: float, mean_s: float
) -> Iterator[tuple[str, Floats]]:
    """Yield each method's name and its probabilities; those of a path have ones."""

    def smoothed(dwell_s: float, **how: Any) -> Floats:
        dwell_s = max(dwell_s, WINDOW / RATE_HZ)
        made = timeline_of(p, np.arange(K), start_s, WINDOW / RATE_HZ, mean_dwell_s=dwell_s, **how)
        return np.eye(K)[made.labels] if how["smooth"] == "viterbi" else made.probabilities

    votes = moving_mean(np.eye(K)[p.argmax(axis=1)], 4, 0)
    yield "single windows", p
    yield "majority of the last 5", votes + 1e-6 * p
    yield "mean of the last 5", moving_mean(p, 4, 0)
    yield "mean of 3 around (lag 1)", moving_mean(p, 1, 1)
    yield "mean of 7 around (lag 3)", moving_mean(p, 3, 3)
    yield "filter", smoothed(told_s, smooth="filter")
    for lag in (1, 3):
        yield f"fixed lag {lag}", smoothed(told_s, smooth="lag", lag=lag)
    yield "viterbi", smoothed(told_s, smooth="viterbi")
    yield "marginals", smoothed(told_s, smooth="marginals")
    for factor in (0.25, 4.0):
        yield f"fixed lag 3, dwell x {factor:g}", smoothed(mean_s * factor, smooth="lag", lag=3)
    yield "marginals, default dwell", smoothed(60.0, smooth="marginals")


def run(
    folder: Path, random_states: list[int], n_draws: int, n_folds: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Return a row for each hop and method."""
    held = data.read_terrains(folder, motor=True, imu=False)
    recordings = read_recordings(folder)
    kept: dict[tuple[str, str], list[list[float]]] = defaultdict(list)
    sure: dict[tuple[str, str], list[Floats]] = defaultdict(list)
    for state in random_states:
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=state)
        for fold, (train, test) in enumerate(folds.split(held.motor, held.y, held.groups)):
            if fold >= n_folds:
                break
            clf = SensorLSTMClassifier(random_state=0)
            clf.fit(held.motor[train], held.y[train], groups=held.groups[train])
            own = [recordings[group] for group in np.unique(held.groups[test])]
            rng = np.random.default_rng([state, fold])
            for draw in range(n_draws):
                how = ("geometric", "uniform", "fixed")[draw % 3]
                samples, classes, mean_s = draw_drive(rng, own, how)
                told_s = mean_s * 2 ** rng.uniform(-1, 1)
                for hop, name in ((WINDOW, "5 s"), (WINDOW // 2, "2.5 s")):
                    starts = np.arange(0, len(samples) - WINDOW + 1, hop)
                    X = np.stack([samples[at : at + WINDOW] for at in starts])
                    truth = np.array(
                        [np.bincount(classes[at : at + WINDOW]).argmax() for at in starts]
                    )
                    p = clf.predict_proba(X)
                    for method, found in methods(p, starts / RATE_HZ, told_s, mean_s):
                        labels = found.argmax(axis=1)
                        wrong = false_switches(labels, truth, round(WINDOW / hop))
                        right = labels == truth
                        sure[name, method].append(
                            np.stack([found.max(axis=1), of_stretches(p, labels), right])
                        )
                        kept[name, method].append(
                            [
                                100 * float(right.mean()),
                                100 * wrong / (len(starts) * hop / WINDOW),
                                100 * spans_right(labels, truth),
                            ]
                        )
            say(f"random state {state}, fold {fold}")
    columns = ("accuracy", "false_switches", "f1_of_stretches")
    rows = []
    for (hop, method), found in kept.items():
        values = np.array(found)
        mean, half = values.mean(axis=0), 1.96 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
        row: dict[str, Any] = {"hop": hop, "method": method, "n": len(values)}
        for name, middle, width in zip(columns, mean, half, strict=True):
            row |= {name: round(float(middle), 2), f"{name}_half_width": round(float(width), 2)}
        gains = values[:, 0] - np.array(kept[hop, "single windows"])[:, 0]
        row["gain"] = round(float(gains.mean()), 2)
        row["gain_half_width"] = round(float(1.96 * gains.std(ddof=1) / np.sqrt(len(gains))), 2)
        together = np.concatenate(sure[hop, method], axis=1)
        for name, p in zip(("smoothed", "stretches"), together[:2], strict=True):
            bins = np.array_split(np.argsort(p, kind="stable"), 10)
            off = [abs(float(p[own].mean() - together[2, own].mean())) for own in bins]
            row[f"calibration_error_{name}"] = round(100 * float(np.mean(off)), 2)
        rows.append(row)
    return rows


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--borealtc", type=Path, required=True)
    parser.add_argument("--random-states", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    n_draws, n_folds = (2, 1) if asked.quick else (asked.draws, 5)
    rows = run(asked.borealtc, asked.random_states, n_draws, n_folds, lambda words: print(words))
    print(
        f"{'hop':6}{'method':32}{'accuracy':>13}{'gain':>13}{'false/100':>14}{'F1':>8}{'off':>10}{'stretches':>11}"
    )
    for row in rows:
        print(
            f"{row['hop']:6}{row['method']:32}{row['accuracy']:8.1f}"
            f" ±{row['accuracy_half_width']:.1f}{row['gain']:+8.1f} ±{row['gain_half_width']:.1f}"
            f"{row['false_switches']:9.2f} ±{row['false_switches_half_width']:.2f}"
            f"{row['f1_of_stretches']:8.1f}{row['calibration_error_smoothed']:10.1f}"
            f"{row['calibration_error_stretches']:11.1f}"
        )
    write_results("drives", rows, partial=asked.quick)


if __name__ == "__main__":
    main()
