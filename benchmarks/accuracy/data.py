"""The data sets of the accuracy benchmark: windows, labels, groups, and the rows of each fold.

Nothing is downloaded: BorealTC is read from a folder; the other recordings are files of installed
packages.

- A, B, C: windows of 5 s from BorealTC's five terrains; A has the motors (6.5 Hz), B has the IMU,
  and C has both at the IMU's 100 Hz, with each motor value held until the next one. Peers get each
  sensor of C at its original rate. No recording is divided between folds; there are three splits
  into five folds each.
- watch: windows of 100 samples from an IMU on the wrist; each of the ten people is one fold.
- surfaces: the SIMULATED recordings of this package; no robot is divided between folds.
- Every other set comes with its own training part and test part.
"""

import gzip
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from sensorseq import PreparePipeline
from sensorseq.datasets import SURFACES_SAMPLE_RATE_HZ, SURFACES_WINDOW_SAMPLES, load_surfaces
from sensorseq.errors import EnvironmentProblemError

ARCHIVE = (
    "BasicMotions",
    "JapaneseVowels",
    "ArrowHead",
    "PickupGestureWiimoteZ",
    "GunPoint",
    "ItalyPowerDemand",
    "OSULeaf",
    "ACSF1",
)
# Settings are chosen on SEARCH and confirmed on CONFIRM, whose test parts are evaluated only once.
# B belongs to SEARCH, because competing kernels and frames were first tried on its test part.
SEARCH = ("A", "B", "C", "BasicMotions", "ArrowHead", "ItalyPowerDemand", "OSULeaf", "GunPoint")
CONFIRM = ("watch", "JapaneseVowels", "PickupGestureWiimoteZ", "ACSF1")
SIMULATED = ("surfaces",)  # not ranked among real sets
DEVELOP_ONLY = ("GunPoint",)  # its test part is never read
ROBOTS = ("A", "B", "C", "watch")  # sets of recordings, which are ranked separately from SHAPES
SETS = (*ROBOTS, *ARCHIVE, *SIMULATED)
SHAPES = tuple(name for name in ARCHIVE if name not in DEVELOP_ONLY)
N_FOLDS = 5
SPLITS = (0, 1, 2)  # random states for the splits of A, B and C
DEVELOP_FOLDS, DEVELOP_SEED = 3, 7

TERRAINS = ("ASPHALT", "FLOORING", "ICE", "SANDY_LOAM", "SNOW")
WINDOW_S = 5
_MOTOR_RATE_HZ, _IMU_RATE_HZ = 6.5, 100.0
_MOTOR_SAMPLES, _MOTOR_STEP = 32, 32.5
_IMU_SAMPLES = 500

Floats = NDArray[Any]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Places:
    """The folder of each set; None means that the set is in an installed package."""

    borealtc: Path | None = None
    seglearn: Path | None = None
    aeon: Path | None = None


@dataclass(frozen=True, eq=False)
class LabeledWindows:
    """Labeled windows: X (n, t, c); y (n,), class numbers from 0; groups and lengths (n,) or None.

    Features are computed from `streams`, arrays (n, t_i, c_i), or from X if there are no streams.
    """

    X: Floats
    y: Ints
    groups: Ints | None = None
    lengths: Ints | None = None
    streams: tuple[Floats, ...] = ()

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Any) -> "LabeledWindows":
        """Return the windows of these rows."""
        return LabeledWindows(
            self.X[rows],
            self.y[rows],
            None if self.groups is None else self.groups[rows],
            None if self.lengths is None else self.lengths[rows],
            tuple(stream[rows] for stream in self.streams),
        )


@dataclass(frozen=True)
class Fold:
    """One division of the windows into training rows and test rows."""

    split: int
    fold: int
    train: Ints
    test: Ints


def choose(names: Sequence[str]) -> list[str]:
    """Return the named sets in the order of `SETS`."""
    unknown = [name for name in names if name not in SETS]
    if unknown:
        raise ValueError(f"no such set: {', '.join(unknown)}; known: {', '.join(SETS)}")
    return [name for name in SETS if name in names]


def load(name: str, places: Places) -> tuple[LabeledWindows, list[Fold]]:
    """Read the windows and folds of a set; raise EnvironmentProblemError if a file is missing."""
    if name in ("A", "B", "C"):
        return _terrains(name, places.borealtc)
    if name == "watch":
        return _watch(places.seglearn)
    if name == "surfaces":
        return _surfaces()
    return read_archive(name, places.aeon)


def develop(windows: LabeledWindows, folds: list[Fold]) -> list[Fold]:
    """Split the training part of the first fold again, so that no test part is used."""
    outer = folds[0].train
    y = windows.y[outer]
    if windows.groups is None:
        n_folds = max(2, min(DEVELOP_FOLDS, int(np.bincount(y)[np.unique(y)].min())))
        cut = StratifiedKFold(n_folds, shuffle=True, random_state=DEVELOP_SEED)
        pairs = cut.split(y, y)
    else:
        n_folds = min(DEVELOP_FOLDS, len(np.unique(windows.groups[outer])))
        cut = StratifiedGroupKFold(n_folds, shuffle=True, random_state=DEVELOP_SEED)
        pairs = cut.split(y, y, windows.groups[outer])
    return [Fold(0, k, outer[train], outer[test]) for k, (train, test) in enumerate(pairs)]


# BorealTC.


@dataclass(frozen=True, eq=False)
class Recordings:
    """Windows of 5 s from all recordings, one array per sensor; one of the two arrays may be None.

    `first_s` is the time from the start of each window to its first motor sample.
    """

    y: Ints
    groups: Ints
    motor: Floats | None
    first_s: Floats | None
    imu: Floats | None


def _terrains(name: str, folder: Path | None) -> tuple[LabeledWindows, list[Fold]]:
    if folder is None or not (folder / "ICE").is_dir():
        where = "no folder given" if folder is None else f"not in {folder}"
        raise EnvironmentProblemError(f"BorealTC: {where}; name its folder with --borealtc.")
    windows = _joined(read_terrains(folder, motor=name != "B", imu=name != "A"))
    folds = []
    for split in SPLITS:
        cut = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=split)
        pairs = cut.split(windows.y, windows.y, windows.groups)
        folds += [Fold(split, k, *pair) for k, pair in enumerate(pairs)]
    return windows, folds


@cache
def read_terrains(folder: Path, *, motor: bool, imu: bool) -> Recordings:
    """Cut every recording into windows of 5 s; window k begins after 5 * k seconds."""
    columns: dict[str, list[Any]] = {name: [] for name in ("y", "group", "motor", "first_s", "imu")}
    for terrain in TERRAINS:
        for path in sorted((folder / terrain).glob("pro_*.csv*")):
            counts = []
            if motor:
                motors = _read_csv(path)
                counts.append(_count_motor(len(motors)))
            if imu:
                other = path.with_name(path.name.replace("pro_", "imu_"))
                either = [other, other.with_name(f"{other.name}.gz")]
                present = [p for p in either if p.exists()]
                if not present:
                    continue  # three recordings have no IMU
                inertial = _read_csv(present[0])
                counts.append(len(inertial) // _IMU_SAMPLES)
            for k in range(min(counts)):
                columns["y"].append(terrain)
                columns["group"].append(f"{terrain} {path.name}")
                if motor:
                    start = int(np.ceil(_MOTOR_STEP * k))
                    columns["motor"].append(motors[start : start + _MOTOR_SAMPLES])
                    columns["first_s"].append(start / _MOTOR_RATE_HZ - WINDOW_S * k)
                if imu:
                    columns["imu"].append(inertial[_IMU_SAMPLES * k : _IMU_SAMPLES * (k + 1)])
    arrays = {
        name: np.stack(columns[name]) if columns[name] else None
        for name in ("motor", "first_s", "imu")
    }
    y = np.unique(columns["y"], return_inverse=True)[1]
    return Recordings(y, np.unique(columns["group"], return_inverse=True)[1], **arrays)


def _read_csv(path: Path) -> Floats:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        return np.loadtxt(lines, delimiter=",", skiprows=1, dtype=np.float32, ndmin=2)[:, 1:]


def _count_motor(n_samples: int) -> int:
    k = 0
    while int(np.ceil(_MOTOR_STEP * k)) + _MOTOR_SAMPLES <= n_samples:
        k += 1
    return k


def _joined(held: Recordings) -> LabeledWindows:
    if held.imu is None:
        return LabeledWindows(held.motor, held.y, held.groups)
    if held.motor is None:
        return LabeledWindows(held.imu, held.y, held.groups)
    times_s = np.arange(_IMU_SAMPLES) / _IMU_RATE_HZ
    both = [hold(held.motor, held.first_s, times_s), held.imu]
    X = np.concatenate(both, axis=2)
    return LabeledWindows(X, held.y, held.groups, streams=(held.motor, held.imu))


def hold(motor: Floats, first_sample_s: Floats, times_s: Floats) -> Floats:
    """Return the last motor sample at or before each time, or the first sample if all are later.

    `first_sample_s` is the time from the start of each window to its first motor sample.
    """
    index = np.floor((times_s[None] - first_sample_s[:, None]) * _MOTOR_RATE_HZ + 1e-6)
    index = np.clip(index, 0, motor.shape[1] - 1).astype(np.int64)
    return np.take_along_axis(motor, index[:, :, None], axis=1)


# The other sets.


def cut(
    series: Sequence[Floats], labels: Any, groups: Any, n_steps: int, hop: int
) -> LabeledWindows:
    """Cut recordings (t, c) into windows, none of which spans two recordings."""
    X, y, of = [], [], []
    for values, label, group in zip(series, labels, groups, strict=True):
        for start in range(0, len(values) - n_steps + 1, hop):
            X.append(values[start : start + n_steps])
            y.append(label)
            of.append(group)
    y, of = (np.unique(names, return_inverse=True)[1] for names in (y, of))
    return LabeledWindows(np.asarray(X), y, of)


def read_watch(place: Path | None) -> dict[str, Any]:
    """Return the recordings `X` of an IMU on the wrist, with `y` and `subject`."""
    path = find("seglearn", place, "data/watch_dataset.npy")
    held: dict[str, Any] = np.load(
        path, allow_pickle=True
    ).item()  # a trusted file of an installed package
    return held


def _watch(place: Path | None) -> tuple[LabeledWindows, list[Fold]]:
    held = read_watch(place)
    windows = cut(held["X"], held["y"], held["subject"], 100, 100)
    people = windows.groups
    return replace(windows, X=windows.X.astype(np.float32)), [
        Fold(0, k, np.flatnonzero(people != k), np.flatnonzero(people == k))
        for k in range(people.max() + 1)
    ]


def _surfaces() -> tuple[LabeledWindows, list[Fold]]:
    pipeline = PreparePipeline(
        sample_rate_hz=SURFACES_SAMPLE_RATE_HZ,
        window_s=SURFACES_WINDOW_SAMPLES / SURFACES_SAMPLE_RATE_HZ,
        split=None,
    )
    cut = pipeline.prepare(load_surfaces())
    y = np.unique(cut.y, return_inverse=True)[1]
    groups = np.unique(cut.groups, return_inverse=True)[1]
    split = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=0)
    folds = [Fold(0, k, *pair) for k, pair in enumerate(split.split(y, y, groups))]
    return LabeledWindows(cut.X, y, groups), folds


def read_archive(name: str, place: Path | None) -> tuple[LabeledWindows, list[Fold]]:
    """Read a set of the time-series archive that has its own training and test parts."""
    series, labels, n_train = read_series(name, place)
    y = np.unique(labels, return_inverse=True)[1]
    X, lengths = padded(series)
    uneven = lengths if lengths.min() < lengths.max() else None
    fold = Fold(0, 0, np.arange(n_train), np.arange(n_train, len(y)))
    return LabeledWindows(X.astype(np.float32), y, lengths=uneven), [fold]


def read_series(name: str, place: Path | None) -> tuple[list[Floats], list[str], int]:
    """Return the series (t, c) and labels of a set, and the size of its training part."""
    parts = [
        read_ts(find("aeon", place, f"datasets/data/{name}/{name}_{part}.ts"))
        for part in ("TRAIN", "TEST")
    ]
    series, labels = ([entry for part in parts for entry in part[i]] for i in (0, 1))
    return series, labels, len(parts[0][0])


def padded(series: Sequence[Floats]) -> tuple[Floats, Ints]:
    """Return the series as windows, with zeros appended to the shorter ones, and their lengths."""
    lengths = np.array([len(values) for values in series])
    X = np.zeros((len(series), lengths.max(), series[0].shape[1]))
    for row, values in enumerate(series):
        X[row, : len(values)] = values
    return X, lengths


def read_ts(path: Path) -> tuple[list[Floats], list[str]]:
    """Read series (t, c) and labels of a file in the archive's .ts format.

    If values are missing at the end of all channels, the series is shortened; all other missing
    values are interpolated.
    """
    series, labels, in_data = [], [], False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        text = line.strip()
        if not text or text[0] == "#":
            continue
        if text[0] == "@":
            in_data |= text.lower() == "@data"
            if text.lower().split()[:2] == ["@timestamps", "true"]:
                raise ValueError(f"{path.name}: files with timestamps cannot be read")
            continue
        if not in_data:
            raise ValueError(f"{path.name}, line {number}: values before @data")
        *channels, label = text.split(":")
        values = [_read_values(channel) for channel in channels]
        if not values:
            raise ValueError(f"{path.name}, line {number}: no label")
        longest = max(map(len, values))
        held = np.full((longest, len(values)), np.nan)
        for column, channel in enumerate(values):
            held[: len(channel), column] = channel
        series.append(_fill(held))
        labels.append(label.strip())
    return series, labels


def _read_values(text: str) -> list[float]:
    return [np.nan if item.strip() in ("?", "") else float(item) for item in text.split(",")]


def _fill(values: Floats) -> Floats:
    finite = np.isfinite(values)
    used = np.flatnonzero(finite.any(axis=1))
    n = used[-1] + 1 if len(used) else 1
    values, finite, steps = values[:n].copy(), finite[:n], np.arange(n)
    for column in range(values.shape[1]):
        here = finite[:, column]
        values[:, column] = (
            np.interp(steps, steps[here], values[here, column]) if here.any() else 0.0
        )
    return values


def find(package: str, place: Path | None, inside: str) -> Path:
    """Find a package's file below `place` or in the installed package, without importing it."""
    parts = Path(inside).parts
    if place is not None and place.is_file() and place.name == parts[-1]:
        return place
    if place is not None:
        # `place` may be the parent folder of the package, the package, or a folder inside it
        wanted = [place / package / inside]
        wanted += [place.joinpath(*parts[i:]) for i in range(len(parts))]
    else:
        spec = importlib.util.find_spec(package)
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        wanted = [Path(folder) / inside for folder in folders]
    for path in wanted:
        if path.is_file():
            return path
    where = place or "an installed package"
    raise EnvironmentProblemError(
        f"{parts[-1]} of {package} is not in {where}; install {package}, or name its folder."
    )
