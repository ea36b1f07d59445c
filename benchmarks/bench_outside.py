"""Measures how many planted faults `outside` finds, and how often it raises a false alarm.

Faults are planted in recordings that were not used for training. One channel has a different unit
or the opposite sign, or is stuck or zero; or two channels are swapped; or the timestamps are
scaled, so that the signal seems 2 or 10 times too fast or too slow. Each fault is planted in each
channel or pair of channels in turn. Sets:

- ``motor``: BorealTC, motor currents and wheel speeds at 6.5 Hz, 4 channels, windows of 32 steps;
- ``both``: the recordings that also have an inertial unit, at 50 Hz, 10 channels, 250 steps;
- ``surfaces``: trained on the simulated recordings of `data/`, tested on other robots of the same
  kind;
- ``other robots``: trained on the same recordings, but tested on robots of a different kind
  (heavier, with a different motor and sensor).

In each class of BorealTC, every second recording is for development. The margins and measures of
`TrainedRanges` were chosen with ``--part development``, on four folds of the development recordings
and on robots of seed 51. The reported part has four folds of all recordings, but tests only
recordings that are not for development. Only two of the folds contain such recordings. The robots
of the reported part have seed 61. Methods:

- ``ours``: `TrainedRanges`, which `SensorLSTMClassifier.outside` uses;
- ``min/max``: the range of each channel in training; a window with any value outside is marked;
- ``forest``: scikit-learn's IsolationForest, with its defaults, on mean, standard deviation and
  range.
"""

import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from bench_adapt import cut, drive, fleet
from common.arguments import make_parser
from common.results_file import begin, write_results
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from sensorseq import SensorLSTMClassifier, read_recordings
from sensorseq.datasets import load_surfaces
from sensorseq.prediction.outside import TrainedRanges
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet

SETS = ("motor", "both", "surfaces", "other robots")
METHODS = ("ours", "min/max", "forest")
FACTORS = {"x1000": 1e3, "/1000": 1e-3, "x30": 30.0, "degrees": 180 / np.pi, "sign": -1.0}
SPEEDS = {"2x as fast": 0.5, "2x as slow": 2.0, "10x as fast": 0.1, "10x as slow": 10.0}
FAULTS = ("none", *FACTORS, "stuck", "zero", "swapped", *SPEEDS)
N_FOLDS, SEEDS = 4, {"development": 51, "reported": 61}
LACK_IMU = ["SNOW/12", "FLOORING/04", "FLOORING/06", "ICE/01"]
Floats = NDArray[np.floating[Any]]


class Split(NamedTuple):
    """Training windows, test windows, and test windows of the same signals at different speeds."""

    train: WindowSet
    test: WindowSet
    at_speed: dict[str, Floats]


def at_speeds(recordings: list[Recording], rate_hz: float) -> dict[str, WindowSet]:
    """Return, by speed, the windows of the signals after their timestamps are scaled."""
    windows_by_speed = {}
    for name, factor in SPEEDS.items():
        stretched = [replace(r, timestamps_s=r.timestamps_s * factor) for r in recordings]
        spans = [r.timestamps_s[-1] - r.timestamps_s[0] for r in stretched]
        long = [r for r, span in zip(stretched, spans, strict=True) if span > 6]
        windows_by_speed[name] = cut(long, rate_hz)
    return windows_by_speed


def numbers_in_class(y: Any, groups: Any) -> NDArray[np.int64]:
    """Return the index of each window's recording among its class's recordings, sorted by name."""
    number = {
        name: i for k in np.unique(y) for i, name in enumerate(np.unique(groups[y == k]).tolist())
    }
    return np.array([number[name] for name in groups.tolist()])


def real_splits(name: str, folder: Path, part: str) -> Iterator[Split]:
    """Yield the folds of BorealTC."""
    files: dict[str, Any] = {"files": "pro_*.csv", "exclude": ["MIXED"]}
    if name == "both":
        files = {"files": ["pro_*.csv", "imu_*.csv.gz"], "pair": "{sensor}_{recording}.*"}
        files["exclude"] = ["MIXED", *LACK_IMU]
    recordings = read_recordings(folder, time_column="time", **files)
    rate_hz = 6.5 if name == "motor" else 50.0
    windows, faster = cut(recordings, rate_hz), at_speeds(recordings, rate_hz)
    is_development = numbers_in_class(windows.y, windows.groups) % 2 == 0
    if part == "development":
        windows = windows.take(np.flatnonzero(is_development))
        is_development[:] = False
        is_development = is_development[: len(windows)]
    fold = numbers_in_class(windows.y, windows.groups) % N_FOLDS
    for k in range(N_FOLDS):
        test = windows.take(np.flatnonzero((fold == k) & ~is_development))
        if len(test):
            at_speeds_of_test = {s: w.X[np.isin(w.groups, test.groups)] for s, w in faster.items()}
            yield Split(windows.take(np.flatnonzero(fold != k)), test, at_speeds_of_test)


def simulated_split(part: str, *, is_other: bool) -> Split:
    """Simulate test recordings: each of four robots drives twice on each surface."""
    seed = SEEDS[part]
    robots = fleet(seed, is_other=is_other)[:4]
    recordings = list(drive(robots, seed, 2))
    at_speed = {name: windows.X for name, windows in at_speeds(recordings, 20.0).items()}
    return Split(cut(load_surfaces()), cut(recordings), at_speed)


def planted(split: Split) -> Iterator[tuple[str, Floats]]:
    """Yield the name of each fault and the test windows with this fault."""
    X, channels = split.test.X, range(split.test.X.shape[2])
    yield "none", X
    for c in channels:
        for name, factor in FACTORS.items():
            yield name, changed(X, c, X[:, :, c] * factor)
        yield "stuck", changed(X, c, X[:, :1, c])
        yield "zero", changed(X, c, 0.0)
    for a, b in combinations(channels, 2):
        yield "swapped", changed(X, [a, b], X[:, :, [b, a]])
    yield from split.at_speed.items()


def changed(X: Floats, channel: Any, values: Any) -> Floats:
    """Return a copy of the windows with the values of some channels replaced."""
    changed = X.copy()
    changed[:, :, channel] = values
    return changed


def make_detectors(train: Floats) -> dict[str, Any]:
    """Return, for each method, a function that marks windows (n, t, c) unlike those in training."""

    def full(X: Floats) -> NDArray[np.int64]:
        return np.full(len(X), X.shape[1])

    def features(X: Floats) -> Floats:
        return np.concatenate([X.mean(axis=1), X.std(axis=1), np.ptp(X, axis=1)], axis=1)

    ranges = TrainedRanges.learn(train, full(train))
    low, high = train.min(axis=(0, 1)), train.max(axis=(0, 1))
    forest = IsolationForest(random_state=0).fit(features(train))
    names = [str(c) for c in range(train.shape[2])]
    return {
        "ours": lambda X: ranges.compare(X, full(X), names).mask,
        "min/max": lambda X: (np.clip(X, low, high) != X).any(axis=(1, 2)),
        "forest": lambda X: forest.predict(features(X)) < 0,
    }


def timed(split: Split) -> dict[str, float]:
    """Return the durations of a default fit, of learning the ranges, and of judging one window."""
    X, lengths = split.train.X, np.asarray(split.train.lengths)
    began_s = time.perf_counter()
    model = SensorLSTMClassifier(random_state=0)
    model.fit(X, split.train.y, groups=split.train.groups)
    fit_s = time.perf_counter() - began_s
    learn_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        TrainedRanges.learn(X, lengths)
        learn_s.append(time.perf_counter() - began_s)
    seconds_of_one = {}
    for name in ("outside", "predict_proba"):
        began_s = time.perf_counter()
        for row in range(100):
            getattr(model, name)(split.test.X[row : row + 1])
        seconds_of_one[f"{name}_one_ms"] = 10 * (time.perf_counter() - began_s)
    return {"fit_s": fit_s, "learn_s": float(np.median(learn_s)), **seconds_of_one}


def main() -> None:
    """Measure, print the table, and write it with --write."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path)
    parser.add_argument("--part", choices=SEEDS, default="reported")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--write", action="store_true", help="write to results/")
    args = parser.parse_args()
    code = begin(__file__, partial=not args.write)
    warnings.simplefilter("ignore")
    rows: list[dict[str, Any]] = []
    for name in args.sets:
        if name in ("motor", "both"):
            if args.borealtc is None:
                continue
            splits = list(real_splits(name, args.borealtc, args.part))
        else:
            splits = [simulated_split(args.part, is_other=name == "other robots")]
        masks_by_fault: dict[str, dict[str, list[Any]]] = {}
        for split in splits:
            judge = make_detectors(split.train.X)
            for fault, X in planted(split):
                for method in METHODS if len(X) else ():
                    masks_by_fault.setdefault(fault, {}).setdefault(method, []).append(
                        judge[method](X)
                    )
        for fault in [fault for fault in FAULTS if fault in masks_by_fault]:
            masks = {method: np.concatenate(masks_by_fault[fault][method]) for method in METHODS}
            shares = {method: float(mask.mean()) for method, mask in masks.items()}
            rows.append({"set": name, "fault": fault, "n_windows": len(masks["ours"])} | shares)
            print(f"{name:13}{fault:12}{rows[-1]['n_windows']:7}", end="")
            print("".join(f"  {method} {share:6.1%}" for method, share in shares.items()))
        if name != "other robots":  # "other robots" trains on the same windows
            rows.append({"set": name, "fault": "time", **timed(splits[0])})
            print(rows[-1])
    if args.write:
        is_whole = args.part == "reported" and {row["set"] for row in rows} == set(SETS)
        write_results("outside", rows, code=code, partial=not is_whole)


if __name__ == "__main__":
    main()
