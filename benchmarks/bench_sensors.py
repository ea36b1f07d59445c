"""Motors at 6.5 Hz and an inertial unit at 100 Hz: one grid, own rates, and missing sensors.

    bench_sensors.py --borealtc PATH             # about 20 minutes on two cores
    bench_sensors.py --borealtc PATH --quick     # one fold; nothing is written

Five folds by recording of the windows of 5 s that have both sensors. `one grid` resamples both to
100 Hz; `own rates` prepares and fits each at its rate (`native_rates`, `derive="auto"`); `expected`
also trains on the windows that lack a sensor, and is tested with both sensors and without each.
`zeros` is the model of complete windows, given zeros for what is missing. Each sensor alone is the
model of that sensor within the fit. Seconds are those of the fit.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from common.results_file import write_results
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq import (
    PreparePipeline,
    SensorLSTMClassifier,
    SensorWindows,
    WindowSet,
    read_recordings,
    read_sensors,
)

SENSORS = {"files": ["pro_*.csv", "imu_*.csv*"], "pair": "{sensor}_{recording}.*"}
WINDOW_S, N_FOLDS = 5.0, 5
LACKS = {"motors": "pro", "inertial unit": "imu"}


def read_own(folder: Path) -> SensorWindows:
    """Return the windows of both sensors, with NaN where one is missing."""
    how = {"window_s": WINDOW_S, "native_rates": True, "missing": "expected", "split": None}
    recordings = read_sensors(folder, **SENSORS, exclude="MIXED")
    return PreparePipeline(**how, derive="auto").prepare(recordings)


def read_grid(folder: Path, both: SensorWindows) -> WindowSet:
    """Return the windows of both sensors on one grid of 100 Hz."""
    lacking = sorted(set(both.provenance["sensors"]["imu"]["lacks"]))
    recordings = read_recordings(folder, **SENSORS, exclude=["MIXED", *lacking])
    return PreparePipeline(window_s=WINDOW_S, sample_rate_hz=100, split=None).prepare(recordings)


def without(windows: SensorWindows, name: str, value: float = np.nan) -> dict[str, NDArray[Any]]:
    """Return the samples of each sensor, those of one replaced."""
    X = {key: own.X for key, own in windows.sensors.items()}
    return {**X, name: np.full_like(X[name], value)}


def fit(windows: Any, **more: Any) -> tuple[SensorLSTMClassifier, float]:
    """Fit the defaults; return the model and the seconds that it took."""
    began = time.perf_counter()
    model = SensorLSTMClassifier(random_state=0, **more).fit(windows)
    return model, time.perf_counter() - began


def run_fold(own: SensorWindows, grid: WindowSet, tested: set[str]) -> dict[str, list[float]]:
    """Return the accuracy, and the seconds of the fit, of each way on one fold."""
    is_tested = np.isin(np.asarray(own.recording_id), list(tested))
    complete = own.present.all(axis=1)
    train, test = own[~is_tested & complete], own[is_tested & complete]
    y = np.asarray(test.y)
    found: dict[str, list[float]] = {}
    model, took = fit(train)
    found["own rates"] = [model.score(test), took]
    for said, name in LACKS.items():
        other = next(key for key in own if key != name)
        found[f"{said} alone"] = [model.sensors_[name].score(test[name]), np.nan]
        found[f"zeros without {said}"] = [model.score(without(test, name, 0.0), y), np.nan]
        assert other != name
    model, took = fit(own[~is_tested], missing="expected")
    found["expected"] = [model.score(test), took]
    for said, name in LACKS.items():
        found[f"expected without {said}"] = [model.score(without(test, name), y), np.nan]
    in_grid = np.isin(np.asarray(grid.recording_id), list(tested))
    model, took = fit(grid.take(~in_grid))
    found["one grid"] = [model.score(grid.take(in_grid)), took]
    return found


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--borealtc", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one fold; nothing is written")
    given = parser.parse_args()
    own = read_own(given.borealtc)
    grid = read_grid(given.borealtc, own)
    both = own[own.present.all(axis=1)]
    ids = np.asarray(both.recording_id)
    splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
    folds = []
    for number, (_, rows) in enumerate(splitter.split(ids, both.y, ids)):
        folds.append(run_fold(own, grid, set(ids[rows].tolist())))
        print(number, json.dumps(folds[-1]), flush=True)
        if given.quick:
            break
    rows = []
    for name in folds[0]:
        accuracy, seconds = np.array([fold[name] for fold in folds]).T
        row: dict[str, Any] = {"what": name, "accuracy": round(float(accuracy.mean()), 4)}
        row["accuracy_of_folds"] = accuracy.round(4).tolist()
        if np.isfinite(seconds).all():
            row["fit_s"] = round(float(np.median(seconds)), 1)
        rows.append(row)
        print(f"{name:32} {100 * row['accuracy']:5.1f} %  {row.get('fit_s', '')}")
    write_results("sensors", rows, partial=given.quick)


if __name__ == "__main__":
    main()
