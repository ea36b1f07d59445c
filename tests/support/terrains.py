"""Recordings of terrains in CSV files, and ways to prepare them."""

from itertools import pairwise

import numpy as np
from tables import write_csv


def signals(seed, n_samples=400, rate_hz=20.0):
    rng = np.random.default_rng(seed)
    t = np.arange(n_samples) / rate_hz
    return {
        "time": t,
        "current": np.sin(t * (1 + seed % 3)) + rng.normal(size=n_samples),
        "speed": t + 0.3 * np.sin(9 * t),  # not monotonic, unlike a counter
    }


def make_terrains(folder, per_class=4, classes=("Eis", "great snow", "sand")):
    for number, label in enumerate(classes):
        for recording in range(per_class):
            suffix = ".csv.gz" if recording % 2 else ".csv"
            path = folder / label / f"pro_{recording:02d}{suffix}"
            seed, n_samples = 10 * number + recording, 300 + 40 * recording
            if (seed, n_samples) not in WRITTEN:  # formatting numbers takes a long time
                WRITTEN[seed, n_samples] = write_csv(path, signals(seed, n_samples)).read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(WRITTEN[seed, n_samples])
    return folder


WRITTEN = {}


STEPS = [
    {"kind": "difference", "channels": ["current"], "keep": True},
    {"kind": "moving", "window_s": 0.5, "statistic": "rms", "channels": ["current"]},
]
WAYS = [
    {"window_s": 2.0, "hop_s": 0.7},
    {"window_s": 1.5, "sample_rate_hz": 13.0, "channels": ["speed", "current"]},
    {"window_s": 3, "scale": "robust", "balance": "undersample", "random_state": 5},
    {"window_s": 3, "scale": "robust", "split": [0.5, 0.5, 0.0], "balance": "oversample"},
    {"window_s": 2, "steps": STEPS},
    {"window_s": 2, "train_hop_s": 0.5, "random_state": 3},
    {"window_s": 1, "split_by": "time", "embargo_s": 2.0, "scale": "robust"},
    {"window_s": 17, "short": "pad", "scale": "standard"},
    {"window_s": 2, "normalize": "recording"},
    {"window_s": 2, "scale": "physical", "rated": {"current": 20.0, "speed": 3.0}},
    {"window_s": 1, "balance": "oversample", "max_per_recording": 0.6},
    {"window_s": 1, "balance": "oversample"},
]


def write_spans(folder):
    """Write six logs with a manifest of labeled spans, some of them shorter than a window."""
    rows = ["path,label,start_s,end_s"]
    edges = [0.0, 3.3, 4.1, 8.0, 11.05, 17.7, 20.0]
    for number in range(6):
        write_csv(folder / f"run_{number}.csv", signals(number))
        for place, (start_s, end_s) in enumerate(pairwise(edges)):
            if place != 3:
                label = ("ice", "mud", "tar")[(place + number) % 3]
                rows.append(f"run_{number}.csv,{label},{start_s},{end_s}")
    (folder / "manifest.csv").write_text("\n".join(rows))
    return folder, {}


def write_label_columns(folder):
    for number in range(6):
        columns = signals(number)
        place = (columns["time"] // 2.7).astype(int) + number
        columns["surface"] = np.array(["ice", "mud", "", "tar"])[place % 4]
        write_csv(folder / f"run_{number}.csv", columns)
    return folder, {"label_column": "surface"}


def write_sensors(folder):
    """Write two sensors with the same rate and interleaved samples."""
    for number in range(6):
        columns = signals(number)
        for sensor, channel, late_s in (("imu", "speed", 0.0), ("pro", "current", 0.023)):
            path = folder / ("ice", "mud")[number % 2] / f"{sensor}_{number}.csv"
            write_csv(path, {"time": columns["time"] + late_s, channel: columns[channel]})
    return folder, {"files": ["imu_*", "pro_*"], "pair": "{sensor}_{recording}.*"}


LOGS = [write_spans, write_label_columns, write_sensors]
LABELED_WAYS = [
    {"window_s": 1.0, "hop_s": 0.7},
    {"window_s": 1.0, "label_rule": "majority", "min_purity": 0.8, "train_hop_s": 0.3},
    {"window_s": 1.0, "label_rule": "centre", "short": "pad", "train_hop_s": 0.5},
    {"window_s": 1.0, "label_rule": "last", "balance": "oversample", "normalize": "recording"},
]
