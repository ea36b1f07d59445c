"""Print the numbers in docs/validation.md on the effects of calibration and abstention.

python docs/validation.py                    # the embedded SIMULATED surfaces
python docs/validation.py path/to/borealtc   # motors of a Husky on five terrains
"""

import sys
import warnings
from dataclasses import replace

import numpy as np

from sensorseq import (
    PreparePipeline,
    SensorLSTMClassifier,
    WindowSet,
    read_recordings,
)
from sensorseq.datasets import load_surfaces
from sensorseq.errors import InputError
from sensorseq.evaluation import calibration_error
from sensorseq.preprocessing.split import split_by_group

N_SEEDS = 6
ERROR_RATES = (0.05, 0.1, 0.2)


def read_windows(folder: str | None) -> WindowSet:
    """Return windows of 5 s; each recording is a group, so every robot is also in training."""
    if folder is None:
        made = PreparePipeline(sample_rate_hz=20.0, window_s=5.0, hop_s=2.5, split=None)
        windows = made.prepare(load_surfaces())
    else:
        made = PreparePipeline(window_s=5.0, hop_s=2.5, split=None)
        windows = made.prepare(
            read_recordings(folder, files="pro_*.csv", exclude=["MIXED", "SNOW/pro_12"])
        )
    return replace(windows, groups=windows.recording_id)


def part(windows: WindowSet, seed: int) -> list[WindowSet]:
    """Return windows for the fit, for the threshold and for the test, split by recording."""
    split = split_by_group(windows.y, windows.groups, (0.5, 0.25, 0.25), seed)
    return [
        replace(windows.take(np.flatnonzero(split == name)), split=None)
        for name in ("train", "validation", "test")
    ]


def main(folder: str | None) -> None:
    """Print a line for each seed, and a line for each error rate."""
    windows = read_windows(folder)
    print(f"{len(windows)} windows of {len(np.unique(windows.groups))} recordings")
    errors, answers = [], {rate: [] for rate in ERROR_RATES}
    for seed in range(N_SEEDS):
        train, choose, test = part(windows, seed)
        clf = SensorLSTMClassifier(
            calibrate=True, learning_rate=3e-3, dropout=0.3, random_state=seed
        )
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clf.fit(train)
        row = []
        for temperature in (1.0, clf.temperature_):
            clf.temperature_ = temperature
            row.append(
                calibration_error(
                    test.y, clf.predict_proba(test), clf.classes_, groups=test.groups
                ).value
            )
        errors.append(row)
        print(
            f"seed {seed}: accuracy {clf.score(test):.3f}, temperature {clf.temperature_:.2f},"
            f" calibration error {row[0]:.3f} without calibration, {row[1]:.3f} with"
        )
        for warned in caught:
            print(f"  {warned.message}")
        for rate in ERROR_RATES:
            try:
                clf.fit_abstention(choose, error_rate=rate)
            except InputError as refused:
                if rate == ERROR_RATES[-1]:
                    print(f"  {refused}")
                continue
            found = clf.predict_or_abstain(test)
            wrong = (found.label.data != test.y)[found.answered].mean()
            answers[rate].append((found.answered.mean(), wrong))
    before, after = np.median(errors, axis=0)
    print(f"median calibration error {before:.3f} without, {after:.3f} with calibrate=True")
    for rate, pairs in answers.items():
        if pairs:
            coverage, wrong = np.array(pairs).T
            print(
                f"error_rate={rate}: a threshold was found with {len(pairs)} of {N_SEEDS} seeds;"
                f" median: {np.median(coverage):.0%} answered, {np.median(wrong):.1%} wrong;"
                f" more than {rate} wrong with {(wrong > rate).sum()} of these seeds"
            )


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else None)
