"""Measures how much smoothing window classes over time helps in drives over several surfaces.

    bench_drives.py --borealtc FOLDER              # 20 draws on each of five folds, for two seeds
    bench_drives.py --borealtc FOLDER --quick      # one fold, two draws; nothing is written

Three sets, in windows of 5 s: BorealTC's motor currents and speeds, BorealTC's IMU, and the
SIMULATED robots of this package. The default classifier is fitted on the recordings outside a fold
(for simulated robots, on the other robots). A drive consists of pieces of the fold's raw signals,
all of one robot. The class of each piece is random but differs from the class of the previous
piece. The pieces are joined and then cut into windows, so windows across a joint are also
classified and scored. The lengths of the pieces are fixed or have a geometric or uniform
distribution; their mean is drawn from 30 s to 180 s. The hidden Markov model is given this mean
times a factor drawn log-uniformly from 1/2 to 2.

The model is compared with single windows, with majority votes, and with the mean probability over
the last windows or over the windows before and after. Votes and means that use later windows delay
decisions as much as the model's fixed lags do. The method was chosen on the folds of BorealTC with
`random_state=0`; the results are from other random states.

Scores are computed as in ``sensorseq evaluate`` (see `sensorseq.sequence.scores`), with the exact
times of the joints. The 95 % intervals over all draws assume a normal distribution; the intervals
of the gain over single windows are based on paired differences. The calibration error is the mean
absolute difference between the probability and the fraction of correct windows, over ten bins with
equal numbers of windows. It is computed both for the probability of each window and for that of
each span. In drives, all classes are equally frequent; `recorded` is the accuracy for the class
frequencies of all recordings, computed from the recall of each class.
"""

import argparse
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accuracy import data
from common.results_file import begin, write_results
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from sensorseq import PreparePipeline, SensorLSTMClassifier
from sensorseq.datasets import SURFACES_SAMPLE_RATE_HZ, SURFACES_WINDOW_SAMPLES, load_surfaces
from sensorseq.evaluation.drives import majority_vote, moving_mean
from sensorseq.sequence import Timeline, timeline_of
from sensorseq.sequence.scores import DRIVE_SCORES, count_drive, drive_scores
from sensorseq.sequence.smoothing import Smoothing

DRIVE_S, SHORTEST_S, LONGEST_S = 1200.0, 30.0, 180.0
SETS = ("motors", "imu", "simulated")
LENGTHS = ("geometric", "uniform", "fixed")
Floats = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Signals:
    """The windows to train on and the complete signals of the recordings."""

    X: Floats
    y: Ints
    groups: Ints  # never divided between folds
    recordings: list[tuple[int, int, Floats]]  # class, group and samples of each recording
    rate_hz: float
    window: int  # samples

    @property
    def window_s(self) -> float:
        """The length of a window in seconds."""
        return self.window / self.rate_hz


class Piece(NamedTuple):
    """A part of a drive on one surface."""

    start_s: float
    end_s: float
    label: int


def read_terrains(folder: Path, sensor: str) -> Signals:
    """Read BorealTC; recordings are in the order of the groups of `data.read_terrains`."""
    of_motor = sensor == "motors"
    held = data.read_terrains(folder, motor=of_motor, imu=not of_motor)
    window = data._MOTOR_SAMPLES if of_motor else data._IMU_SAMPLES
    recordings_by_name = {}
    for place, terrain in enumerate(data.TERRAINS):
        for path in sorted((folder / terrain).glob("pro_*.csv*")):
            name = path.name if of_motor else path.name.replace("pro_", "imu_").split(".")[0]
            for source in sorted((folder / terrain).glob(f"{name}*"))[:1]:
                samples = data._read_csv(source)
                if len(samples) >= window:
                    recordings_by_name[f"{terrain} {path.name}"] = place, samples
    recordings = [
        (recordings_by_name[name][0], at, recordings_by_name[name][1])
        for at, name in enumerate(sorted(recordings_by_name))
    ]
    rate = data._MOTOR_RATE_HZ if of_motor else data._IMU_RATE_HZ
    X = held.motor if of_motor else held.imu
    assert len(recordings) == len(np.unique(held.groups))
    return Signals(X, held.y, held.groups, recordings, rate, window)


def read_surfaces() -> Signals:
    """Read the simulated robots; their signals are joined from windows that do not overlap."""
    rate, window = SURFACES_SAMPLE_RATE_HZ, SURFACES_WINDOW_SAMPLES
    pipeline = PreparePipeline(sample_rate_hz=rate, window_s=window / rate, split=(1.0, 0.0, 0.0))
    cut = pipeline.prepare(load_surfaces())
    y, groups, ids = (
        np.unique(np.asarray(of), return_inverse=True)[1]
        for of in (cut.y, cut.groups, cut.recording_id)
    )
    recordings = []
    for recording in np.unique(ids):
        rows = np.flatnonzero(ids == recording)
        recordings.append((int(y[rows[0]]), int(groups[rows[0]]), np.concatenate(cut.X[rows])))
    return Signals(cut.X, y, groups, recordings, rate, window)


def draw_drive(
    rng: np.random.Generator, signals: Signals, fold: Ints, how: str, one_group: bool
) -> tuple[Floats, list[Piece], float]:
    """Return samples, pieces and their mean length in seconds; `one_group` draws from one group."""
    mean_s, rate = float(rng.uniform(SHORTEST_S, LONGEST_S)), signals.rate_hz
    groups = [rng.choice(fold)] if one_group else fold
    recordings = [recording for recording in signals.recordings if recording[1] in groups]
    parts: list[Floats] = []
    pieces: list[Piece] = []
    label, n = -1, 0
    while n < DRIVE_S * rate:
        label = int(rng.choice(sorted({k for k, *_ in recordings} - {label})))
        drawn = {"geometric": rng.exponential(), "uniform": rng.uniform(0, 2), "fixed": 1.0}[how]
        left, first = max(int(drawn * mean_s * rate), signals.window), n
        choices = [samples for k, _, samples in recordings if k == label]
        while left > 0:
            samples = choices[rng.integers(len(choices))]
            size = min(left, len(samples))
            at = int(rng.integers(len(samples) - size + 1))
            parts.append(samples[at : at + size])
            left, n = left - size, n + size
        pieces.append(Piece(first / rate, n / rate, label))
    return np.concatenate(parts), pieces, mean_s


def span_probabilities(timeline: Timeline) -> Floats:
    """Return the probability of the span that contains each window."""
    spans = [np.full(span.n_windows, span.probability) for span in timeline.spans]
    return np.concatenate(spans)


def methods(
    p: Floats, start_s: Floats, signals: Signals, stated_s: float, mean_s: float, shares: Floats
) -> Iterator[tuple[str, Timeline]]:
    """Yield each method's name and its timeline."""
    window_s, k = signals.window_s, p.shape[1]

    def smoothed(
        p: Floats,
        smooth: str,
        dwell_s: float | None = None,
        lag: int | None = None,
        divide: bool = True,
    ) -> Timeline:
        dwell_s = None if dwell_s is None else max(dwell_s, window_s)
        smoothing = Smoothing(smooth, lag, dwell_s)
        class_shares = shares if divide else None
        return timeline_of(
            p, np.arange(k), start_s, window_s, smooth=smoothing, class_shares=class_shares
        )

    plain = {
        "single windows": p,
        "majority of the last 5": majority_vote(p, 4, 0),
        "majority vote of 7 windows (lag 3)": majority_vote(p, 3, 3),
        "mean of the last 5": moving_mean(p, 4, 0),
        "mean of 3 around (lag 1)": moving_mean(p, 1, 1),
        "mean of 7 around (lag 3)": moving_mean(p, 3, 3),
    }
    for name, rows in plain.items():
        yield name, smoothed(rows, "none")
    yield "filter", smoothed(p, "filter", stated_s)
    for lag in (1, 3):
        yield f"fixed lag {lag}", smoothed(p, "lag", stated_s, lag)
    yield "marginals", smoothed(p, "marginals", stated_s)
    for factor in (0.25, 4.0):
        yield f"fixed lag 3, dwell x {factor:g}", smoothed(p, "lag", mean_s * factor)
    yield "marginals, default dwell", smoothed(p, "marginals")
    divided = p / shares
    divided /= divided.sum(axis=1, keepdims=True)
    yield "single windows, divided", smoothed(divided, "none")
    for smooth in ("filter", "lag", "marginals"):
        yield f"{smooth}, not divided", smoothed(p, smooth, stated_s, divide=False)


class DriveResult(NamedTuple):
    """The scores of a drive, and facts about each of its windows."""

    scores: list[float]
    sure: Floats  # (4, n): probability of window and span, correctness, true class


def run(
    signals: Signals, random_states: list[int], n_draws: int, n_folds: int, one_group: bool
) -> Iterator[tuple[str, str, DriveResult]]:
    """Yield the hop, method and scores of each drive."""
    for state in random_states:
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=state)
        parts = list(folds.split(signals.X, signals.y, signals.groups))[:n_folds]
        for fold, (train, test) in enumerate(parts):
            clf = SensorLSTMClassifier(random_state=0)
            y = signals.y[train]
            clf.fit(signals.X[train], y, groups=signals.groups[train])
            rng = np.random.default_rng([state, fold])
            for draw in range(n_draws):
                test_groups = np.unique(signals.groups[test])
                how = LENGTHS[draw % len(LENGTHS)]
                samples, pieces, mean_s = draw_drive(rng, signals, test_groups, how, one_group)
                stated_s = mean_s * 2 ** rng.uniform(-1, 1)
                ends_s = np.array([piece.end_s for piece in pieces])
                starts = np.arange(0, len(samples) - signals.window + 1, signals.window // 2)
                X = np.stack([samples[at : at + signals.window] for at in starts])
                every, start_s = clf.predict_proba(X), starts / signals.rate_hz
                places = np.searchsorted(ends_s, start_s + signals.window_s / 2, side="right")
                labels = np.array([piece.label for piece in pieces])[
                    places.clip(max=len(pieces) - 1)
                ]
                for step, name in ((2, "5 s"), (1, "2.5 s")):
                    p, truth = every[::step], labels[::step]
                    inputs = p, start_s[::step], signals, stated_s, mean_s, clf.model_.class_shares
                    for method, timeline in methods(*inputs):
                        counts = np.array(count_drive(timeline.spans, pieces, signals.window_s))
                        scores = [float(value) for value in drive_scores(counts).values()]
                        index = np.searchsorted(timeline.classes, timeline.labels)
                        sure = timeline.probabilities[np.arange(len(index)), index]
                        rows = np.stack(
                            [sure, span_probabilities(timeline), timeline.labels == truth, truth]
                        )
                        yield name, method, DriveResult(scores, rows)
            print(f"random state {state}, fold {fold}", flush=True)


def summarize(
    kept: dict[tuple[str, str], list[DriveResult]], shares: Floats
) -> list[dict[str, Any]]:
    """Return one row for each hop and method."""
    rows = []
    for (hop, method), drives in kept.items():
        values = np.array([drive.scores for drive in drives])
        gains = (
            values[:, :1] - np.array([drive.scores for drive in kept[hop, "single windows"]])[:, :1]
        )
        row: dict[str, Any] = {"hop": hop, "method": method, "n": len(values)}
        together = np.column_stack([values, gains])
        for name, column in zip((*DRIVE_SCORES, "gain"), together.T, strict=True):
            column = (100 if name in ("accuracy", "f1", "gain") else 1) * column
            column = column[np.isfinite(column)]
            half = 1.96 * column.std(ddof=1) / np.sqrt(len(column))
            row |= {name: round(float(column.mean()), 2), f"{name}_half_width": round(half, 2)}
        sure = np.concatenate([drive.sure for drive in drives], axis=1)
        true_class = sure[3].astype(int)
        recall = np.bincount(true_class, sure[2], len(shares)) / np.bincount(
            true_class, minlength=len(shares)
        )
        row["accuracy_recorded"] = round(100 * float(recall @ shares), 2)
        for name, p in zip(("windows", "stretches"), sure[:2], strict=True):
            bins = np.array_split(np.argsort(p, kind="stable"), 10)
            off = [abs(float(p[in_bin].mean() - sure[2, in_bin].mean())) for in_bin in bins]
            row[f"calibration_error_{name}"] = round(100 * float(np.mean(off)), 2)
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table of a set."""
    heads = ("accuracy", "gain", "F1", "delay s", "false/h", "off", "stretches", "recorded")
    print(f"{'hop':6}{'method':36}" + "".join(f"{head:>14}" for head in heads))
    for row in rows:
        cells = [
            f"{row[name]:.1f} ±{row[f'{name}_half_width']:.1f}"
            for name in ("accuracy", "gain", "f1", "delay_s", "false_switches_per_h")
        ]
        cells += [f"{row[f'calibration_error_{name}']:.1f}" for name in ("windows", "stretches")]
        cells.append(f"{row['accuracy_recorded']:.1f}")
        print(f"{row['hop']:6}{row['method']:36}" + "".join(f"{cell:>14}" for cell in cells))


def table_of(
    name: str, options: argparse.Namespace, n_draws: int, n_folds: int
) -> list[dict[str, Any]]:
    """Return the rows of a set."""
    of_robots = name == "simulated"
    signals = read_surfaces() if of_robots else read_terrains(options.borealtc, name)
    kept: dict[tuple[str, str], list[DriveResult]] = defaultdict(list)
    for hop, method, drive in run(signals, options.random_states, n_draws, n_folds, of_robots):
        kept[hop, method].append(drive)
    shares = np.bincount(signals.y) / len(signals.y)
    return [{"set": name, **row} for row in summarize(kept, shares)]


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--borealtc", type=Path, required=True)
    parser.add_argument("--random-states", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    code = begin(__file__, partial=options.quick)
    n_draws, n_folds = (2, 1) if options.quick else (options.draws, 5)
    rows = []
    with ProcessPoolExecutor(len(SETS)) as pool:
        tables = pool.map(
            table_of, SETS, *([arguments] * len(SETS) for arguments in (options, n_draws, n_folds))
        )
        for name, table in zip(SETS, tables, strict=True):
            print(f"\n{name}")
            show(table)
            rows += table
    write_results("drives", rows, code=code, partial=options.quick)


if __name__ == "__main__":
    main()
