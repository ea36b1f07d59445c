"""Compares a common grid with separate rates for motors at 6.5 Hz and an IMU at 100 Hz.

    bench_sensors.py --borealtc PATH             # about 20 minutes on two cores
    bench_sensors.py --borealtc PATH --quick     # one fold; nothing is written

The windows of 5 s that have both sensors are divided into five folds by recording. `one grid`
resamples both sensors to 100 Hz; `own rates` prepares and fits each sensor at its own rate
(`native_rates`). `expected` also trains on the windows that lack a sensor, and is
tested with both sensors and with each sensor missing in turn. `zeros` is the model that is trained
on complete windows and tested with zeros in place of the missing sensor. The rows `motors alone`
and `inertial unit alone` show each sensor's own model from the fit of `own rates`. Seconds are the
CPU time of the fit.

`gaps` removes one second in every five from each sensor. `in windows` makes these gaps in the test
windows of the `expected` model. `in recordings` makes them in all recordings, which are then
prepared with ``max_gap_s=2`` for training and testing. In other tests of the `expected` model, a
failed sensor repeats its first sample (stuck), returns zeros (dead), or returns values scaled by
0.1 or 10 (wrong unit). The `masked` rows are the same tests with ``missing="outside"``. The rule
for masking was chosen on fold 0, so the rows for failures and for `healthy` omit fold 0.
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common.results_file import begin, write_results
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq import (
    PreparePipeline,
    Recording,
    SensorFusionClassifier,
    SensorLSTMClassifier,
    SensorWindows,
    WindowSet,
    read_recordings,
    read_sensors,
)
from sensorseq.estimator import AnyClassifier
from sensorseq.options import ReadOptions
from sensorseq.prediction import TrainedModel

SENSORS = {"files": ["pro_*.csv", "imu_*.csv*"], "pair": "{sensor}_{recording}.*"}
WINDOW_S, N_FOLDS = 5.0, 5
LACKS = {"motors": "pro", "inertial unit": "imu"}
EVERY_S, GAP_S = 5.0, 1.0
FAILURES = {
    "stuck": lambda values: np.broadcast_to(values[:1], values.shape),
    "dead": np.zeros_like,
    "scaled by 0.1": lambda values: values / 10,
    "scaled by 10": lambda values: values * 10,
}
Recordings = dict[str, list[Recording]]


def read_both(folder: Path) -> Recordings:
    """Return the recordings of each sensor."""
    by_sensor = read_sensors(folder, ReadOptions(**SENSORS, exclude="MIXED"))
    return {name: list(recordings) for name, recordings in by_sensor.items()}


def prepare_own(recordings: Recordings, max_gap_s: float | None = None) -> SensorWindows:
    """Return the windows of both sensors, with NaN where a sensor is missing."""
    how = {"window_s": WINDOW_S, "native_rates": True, "missing": "expected", "split": None}
    return PreparePipeline(**how, max_gap_s=max_gap_s).prepare(recordings)


def gap_starts(n: int, seed: int) -> NDArray[np.float64]:
    """Return the start of the gap, in seconds, in each of n periods of `EVERY_S` seconds."""
    return np.random.default_rng(seed).uniform(0, EVERY_S - GAP_S, n)


def with_gaps(recording: Recording, seed: int) -> Recording:
    """Return the recording without one second in every five."""
    after_s = recording.timestamps_s - recording.timestamps_s[0]
    number = (after_s // EVERY_S).astype(int)
    into_s = after_s - EVERY_S * number - gap_starts(number[-1] + 1, seed)[number]
    kept = (into_s < 0) | (into_s >= GAP_S)
    return replace(
        recording, values=recording.values[kept], timestamps_s=recording.timestamps_s[kept]
    )


def with_holes(windows: WindowSet, seed: int) -> NDArray[Any]:
    """Return the samples with one second of each window replaced by NaN."""
    at_s = np.arange(windows.n_timesteps) / windows.sample_rate_hz
    into_s = at_s - gap_starts(len(windows), seed)[:, None]
    return np.where(((into_s >= 0) & (into_s < GAP_S))[:, :, None], np.nan, windows.X)


def with_missing(model: SensorFusionClassifier, missing: str) -> TrainedModel:
    """Return the trained model with a different treatment of missing sensors."""
    trained = model.model_
    inputs = {name: replace(each, missing=missing) for name, each in trained.inputs.items()}
    return replace(trained, inputs=inputs)


def score_failures(model: SensorFusionClassifier, healthy: Recordings) -> dict[str, list[float]]:
    """Return the accuracy for each failure of each sensor, without and with masking."""
    label_of = {recording.recording_id: recording.label for recording in healthy["imu"]}
    cases = {"healthy": healthy}
    for failure, change in FAILURES.items():
        for sensor, name in LACKS.items():
            failed = [replace(log, values=change(log.values)) for log in healthy[name]]
            cases[f"{sensor} {failure}"] = {**healthy, name: failed}
    scores = {}
    for case, recordings in cases.items():
        windows = with_missing(model, "error").cut(recordings)
        y = [label_of[name] for name in np.asarray(windows.recording_id).tolist()]
        X = {name: of_sensor.X for name, of_sensor in windows.sensors.items()}
        for prefix, missing in (("", "expected"), ("masked ", "outside")):
            predicted = with_missing(model, missing).predict(X)
            scores[prefix + case] = [float(np.mean(predicted == np.asarray(y))), np.nan]
    return scores


def read_grid(folder: Path, both: SensorWindows) -> WindowSet:
    """Return the windows of both sensors on a common grid of 100 Hz."""
    lacking = sorted(set(both.provenance["sensors"]["imu"]["lacks"]))
    recordings = read_recordings(folder, **SENSORS, exclude=["MIXED", *lacking])
    return PreparePipeline(window_s=WINDOW_S, sample_rate_hz=100, split=None).prepare(recordings)


def without(windows: SensorWindows, name: str, value: float = np.nan) -> dict[str, NDArray[Any]]:
    """Return each sensor's samples, with one sensor's samples replaced by `value`."""
    X = {key: windows_of_sensor.X for key, windows_of_sensor in windows.sensors.items()}
    return {**X, name: np.full_like(X[name], value)}


def fit(windows: Any, **more: Any) -> tuple[AnyClassifier, float]:
    """Fit with the defaults; return the model and the CPU time of the fit in seconds."""
    began = time.process_time()
    model: AnyClassifier = SensorLSTMClassifier(random_state=0, **more)
    if isinstance(windows, SensorWindows):
        model = SensorFusionClassifier(model)
    model.fit(windows)
    return model, time.process_time() - began


def run_fold(
    windows: SensorWindows,
    grid: WindowSet,
    gappy: SensorWindows,
    recordings: Recordings,
    tested: set[str],
) -> dict[str, list[float]]:
    """Return, for each method, the accuracy on one fold and the CPU time of the fit."""
    is_tested = np.isin(np.asarray(windows.recording_id), list(tested))
    complete = windows.present.all(axis=1)
    train, test = windows[~is_tested & complete], windows[is_tested & complete]
    y = np.asarray(test.y)
    scores: dict[str, list[float]] = {}
    model, took = fit(train)
    scores["own rates"] = [model.score(test), took]
    for sensor, name in LACKS.items():
        other = next(key for key in windows if key != name)
        scores[f"{sensor} alone"] = [model.sensors_[name].score(test[name]), np.nan]
        scores[f"zeros without {sensor}"] = [model.score(without(test, name, 0.0), y), np.nan]
        assert other != name
    model, took = fit(windows[~is_tested], missing="expected")
    scores["expected"] = [model.score(test), took]
    for sensor, name in LACKS.items():
        scores[f"expected without {sensor}"] = [model.score(without(test, name), y), np.nan]
    holed = {
        name: with_holes(windows_of_sensor, len(name))
        for name, windows_of_sensor in test.sensors.items()
    }
    scores["gaps in windows"] = [model.score(holed, y), np.nan]
    scores |= score_failures(
        model,
        {
            k: [
                windows_of_sensor
                for windows_of_sensor in v
                if windows_of_sensor.recording_id in tested
            ]
            for k, v in recordings.items()
        },
    )
    is_gappy = np.isin(np.asarray(gappy.recording_id), list(tested))
    gaps, took = fit(gappy[~is_gappy], missing="expected")
    here = gappy[is_gappy & gappy.present.all(axis=1)]
    scores["gaps in recordings"] = [gaps.score(here), took]
    in_grid = np.isin(np.asarray(grid.recording_id), list(tested))
    model, took = fit(grid.take(~in_grid))
    scores["one grid"] = [model.score(grid.take(in_grid)), took]
    return scores


def is_chosen_on_fold_0(name: str) -> bool:
    """Return whether a row is a failure test, whose masking rule was chosen on fold 0."""
    return name.endswith(("healthy", *FAILURES))


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--borealtc", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one fold; nothing is written")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    recordings = read_both(options.borealtc)
    windows = prepare_own(recordings)
    holed = {
        name: [with_gaps(recording, at) for at, recording in enumerate(each)]
        for name, each in recordings.items()
    }
    gappy = prepare_own(holed, max_gap_s=2.0)
    grid = read_grid(options.borealtc, windows)
    both = windows[windows.present.all(axis=1)]
    ids = np.asarray(both.recording_id)
    splitter = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
    folds = []
    for number, (_, rows) in enumerate(splitter.split(ids, both.y, ids)):
        folds.append(run_fold(windows, grid, gappy, recordings, set(ids[rows].tolist())))
        print(number, json.dumps(folds[-1]), flush=True)
        if options.quick:
            break
    rows = []
    for name in folds[0]:
        first = int(not options.quick and is_chosen_on_fold_0(name))
        accuracy, seconds = np.array([fold[name] for fold in folds[first:]]).T
        row: dict[str, Any] = {"what": name, "accuracy": round(float(accuracy.mean()), 4)}
        row["accuracy_of_folds"] = accuracy.round(4).tolist()
        if np.isfinite(seconds).all():
            row["fit_s"] = round(float(np.median(seconds)), 1)
        rows.append(row)
        print(f"{name:32} {100 * row['accuracy']:5.1f} %  {row.get('fit_s', '')}")
    write_results("sensors", rows, code=code, partial=options.quick)


if __name__ == "__main__":
    main()
