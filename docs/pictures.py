"""Make the pictures of docs/preprocessing: the effect of each step on a signal.

    python docs/pictures.py --borealtc PATH [--only scaling]

The simulated recordings of `data/` are always available. Without PATH, pictures that
need real recordings (of an inertial unit or two motors) are skipped and reported.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.signal import welch

from sensorseq import Recording
from sensorseq.datasets import load_surfaces
from sensorseq.preprocessing import find_leakage
from sensorseq.preprocessing.resample import StreamResampler, resample, resample_recording
from sensorseq.preprocessing.scale import KINDS, fit_scaler
from sensorseq.preprocessing.split import split_by_group
from sensorseq.preprocessing.steps import make_step
from sensorseq.preprocessing.windowing.augment import Augmentation, augment_windows
from sensorseq.preprocessing.windowing.balance import balance_indices
from sensorseq.preprocessing.windowing.cut import window_recordings
from sensorseq.readers import read_recordings
from sensorseq.recording import LabelSpan
from sensorseq.windows import WindowSet

mpl.use("Agg")
from matplotlib import pyplot as plt

IMAGES = Path(__file__).resolve().parent / "images" / "preprocessing"
BEFORE, AFTER, THIRD = "#9aa5b1", "#0b6bcb", "#d9480f"
SURFACES = plt.get_cmap("tab10").colors
STYLE = [Path(__file__).resolve().parent / "pictures.mplstyle", {"savefig.dpi": 110}]


class Real:
    """The recordings of BorealTC, each of which is read when it is needed."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def read(self, name: str) -> Recording:
        if self.folder is None:
            raise FileNotFoundError("real recordings")
        return read_recordings(self.folder / name)[0]

    def imu(self) -> Recording:
        return self.read("ICE/imu_00.csv.gz")

    def motors(self) -> Recording:
        return self.read("ASPHALT/pro_01.csv")


def simulated(surface: str = "gravel") -> Recording:
    return next(r for r in load_surfaces() if r.label == surface)


def spectrum_db(x: np.ndarray, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    frequency, power = welch(x - x.mean(), rate_hz, nperseg=min(len(x), int(5 * rate_hz)))
    return frequency, 10 * np.log10(power + 1e-12)


def part(recording: Recording, start_s: float, end_s: float) -> Recording:
    since = recording.timestamps_s - recording.timestamps_s[0]
    inside = (since >= start_s) & (since < end_s)
    return replace(recording, values=recording.values[inside], timestamps_s=since[inside] - start_s)


def even(recording: Recording) -> Recording:
    """Return the longest evenly sampled piece, at the recording's own rate."""
    rate = float(f"{recording.median_sample_rate_hz:.6g}")
    return max(resample_recording(recording, rate), key=lambda piece: piece.n_samples)


def cut_windows(
    recordings: list[Recording], window_s: float, hop_s: float | None = None
) -> WindowSet:
    """Cut simulated recordings, which have missing samples, into windows."""
    pieces = [piece for recording in recordings for piece in resample_recording(recording, 50.0)]
    return window_recordings(pieces, window_s, hop_s)


def resampling(real: Real) -> plt.Figure:
    recording = even(real.imu())
    az = recording.channel_names.index("az")
    x, rate, slow = recording.values[:, [az]].astype(float), 100.0, 10.0
    good, decimated = resample(x, rate, slow), x[::10]
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.9))
    t = np.arange(len(x)) / rate
    for values, at, own, color, name in (
        (x, t, rate, BEFORE, "100 Hz"),
        (decimated, t[::10], slow, THIRD, "every tenth sample"),
        (good, np.arange(len(good)) / slow, slow, AFTER, "resampled to 10 Hz"),
    ):
        marker = "" if own == rate else "."
        left.plot(at, values[:, 0], color=color, lw=1.2, marker=marker, ms=4)
        right.plot(*spectrum_db(values[:, 0], own), color=color, label=name, lw=1.2)
    left.set(xlim=(20, 23), ylim=(8.5, 11.2), xlabel="s", ylabel="m/s²")
    left.set_title("vertical acceleration on ice (real)")
    right.set(xlabel="Hz", ylabel="dB re 1 (m/s²)²/Hz")
    right.set_title("spectrum: vibration aliased or filtered out")
    right.legend()
    return figure


def stamps_and_gaps(real: Real) -> plt.Figure:
    recording = part(simulated("gravel"), 4, 10)
    rng = np.random.default_rng(0)
    t = recording.timestamps_s + rng.normal(0, 0.004, recording.n_samples)
    keep = np.ones(len(t), bool)
    keep[(t > 1.5) & (t < 1.6)] = False
    keep[(t > 3.0) & (t < 3.9)] = False
    t, x = np.sort(t)[keep], recording.values[keep]
    torn = Recording(x, t, recording.channels, "torn")
    figure, axis = plt.subplots(figsize=(8.4, 2.6))
    axis.plot(t, x[:, 0], ".", color=BEFORE, ms=5, label="samples of the log")
    pieces = resample_recording(torn, 50.0, max_gap_s=0.5)
    for index, piece in enumerate(pieces):
        name = "even pieces" if not index else None
        axis.plot(piece.timestamps_s, piece.values[:, 0], color=AFTER, lw=1, label=name)
    axis.axvspan(1.5, 1.6, color=AFTER, alpha=0.12)
    axis.axvspan(3.0, 3.9, color=THIRD, alpha=0.15)
    top = float(x.max())
    axis.text(1.55, top, "hole, bridged", ha="center", va="top", fontsize=8)
    axis.text(3.45, top, "gap: the\nrecording is cut", ha="center", va="top", fontsize=8)
    axis.set(xlabel="s", ylabel="A", title="stamps jittered by a fifth of a period")
    axis.legend(loc="lower right", bbox_to_anchor=(0.93, 0))
    return figure


def before_after(
    recording: Recording, channel: str, step: dict, seconds: tuple[float, float], unit: str
) -> plt.Figure:
    made = make_step(step).apply(recording)
    rate = float(f"{recording.median_sample_rate_hz:.6g}")
    column = recording.channel_names.index(channel)
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 2.7), width_ratios=(3, 2))
    for one, color, name in ((recording, BEFORE, "before"), (made, AFTER, "after")):
        values = one.values[:, column]
        left.plot(one.timestamps_s - one.timestamps_s[0], values, color=color, lw=1, label=name)
        right.plot(*spectrum_db(values, rate), color=color, lw=1.2, label=name)
    left.set(xlim=seconds, xlabel="s", ylabel=unit, title=channel)
    right.set(xlabel="Hz", ylabel=f"dB re 1 ({unit})²/Hz", title="spectrum")
    right.legend()
    return figure


def detrend(real: Real) -> plt.Figure:
    recording = simulated("sand")
    drift = 1.5 * np.sin(2 * np.pi * recording.timestamps_s / 60) + recording.timestamps_s / 25
    values = recording.values + drift[:, None].astype(recording.values.dtype)
    warm = Recording(values, recording.timestamps_s, recording.channels, "warm")
    figure = before_after(
        even(warm), "current_a", {"kind": "detrend", "window_s": 5.0}, (0, 70), "A"
    )
    figure.axes[0].set_title("motor current (simulated) with the drift of a motor that warms up")
    return figure


def band_pass(real: Real) -> plt.Figure:
    recording = even(real.imu())
    step = {"kind": "band_pass", "low_hz": 2.0, "high_hz": 20.0}
    figure = before_after(recording, "az", step, (20, 24), "m/s²")
    figure.axes[0].set_title("vertical acceleration on ice (real), 2 to 20 Hz kept")
    return figure


def derivative(real: Real) -> plt.Figure:
    recording = even(part(simulated("gravel"), 5, 11))
    figure, axes = plt.subplots(3, 1, figsize=(8.4, 4.0), sharex=True)
    steps = (
        ({"kind": "difference"}, "difference", "A"),
        ({"kind": "derivative", "window_s": 0.3}, "derivative", "A/s"),
    )
    t = recording.timestamps_s
    axes[0].plot(t, recording.values[:, 0], color=BEFORE)
    axes[0].set(ylabel="A", title="motor current (simulated), gravel")
    for axis, (step, name, unit) in zip(axes[1:], steps, strict=True):
        axis.plot(t, make_step(step).apply(recording).values[:, -1], color=AFTER)
        axis.set(ylabel=unit, title=name)
    axes[-1].set_xlabel("s")
    return figure


def moving(real: Real) -> plt.Figure:
    recording = even(part(simulated("paving"), 5, 20))
    figure, axis = plt.subplots(figsize=(8.4, 2.7))
    t = recording.timestamps_s
    axis.plot(t, recording.values[:, 0], color=BEFORE, lw=0.8, label="motor current (simulated)")
    for statistic, color in (("rms", AFTER), ("range", THIRD)):
        step = {"kind": "moving", "window_s": 1.0, "statistic": statistic, "phase": "causal"}
        name = f"{statistic} of the last second"
        axis.plot(t, make_step(step).apply(recording).values[:, -1], color=color, label=name)
    axis.set(xlabel="s", ylabel="A", title="paving")
    axis.legend(loc="upper left")
    return figure


def products(real: Real) -> plt.Figure:
    recording = even(part(real.motors(), 10, 50))
    made = make_step({"kind": "product", "left": "curL", "right": "velL"}).apply(recording)
    made = make_step({"kind": "subtract", "left": "curL", "right": "curR"}).apply(made)
    figure, axes = plt.subplots(3, 1, figsize=(8.4, 4.2), sharex=True)
    t = made.timestamps_s
    for axis, names, title, unit in (
        (axes[0], ["curL", "curR"], "motor currents on asphalt (real)", "A"),
        (axes[1], [made.channel_names[-2]], "current times speed", "A m/s"),
        (axes[2], [made.channel_names[-1]], "left minus right", "A"),
    ):
        for name, color in zip(names, (AFTER, THIRD), strict=False):
            axis.plot(t, made.values[:, made.channel_names.index(name)], color=color, label=name)
        axis.set(title=title, ylabel=unit)
        axis.legend(loc="upper right", ncols=2)
    axes[-1].set_xlabel("s")
    return figure


def windows(real: Real) -> plt.Figure:
    pieces = [part(simulated(name), 5, 10) for name in ("ice", "gravel", "grass")]
    values = np.concatenate([piece.values for piece in pieces])
    spans = [
        LabelSpan(0.0, 4.3, "ice"),
        LabelSpan(4.3, 10.6, "gravel"),
        LabelSpan(10.6, 15, "grass"),
    ]
    recording = Recording.evenly_sampled(values, 50.0, ("current_a",), "three surfaces")
    recording = replace(recording, label_spans=tuple(spans))
    colors = dict(zip(("ice", "gravel", "grass"), SURFACES, strict=False))
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(8.4, 4.0), sharex=True, height_ratios=(1, 1.4)
    )
    top.plot(recording.timestamps_s, values[:, 0], color="black", lw=0.5)
    for span in spans:
        top.axvspan(span.start_s, span.end_s, color=colors[span.label], alpha=0.25)
        top.text((span.start_s + span.end_s) / 2, values.max(), span.label, ha="center", va="top")
    top.set(ylabel="A", title="one recording, three surfaces (simulated)")
    rules = [("whole", {}), ("majority", {"min_purity": 0.8}), ("centre", {}), ("last", {})]
    for row, (rule, more) in enumerate(rules):
        cut = window_recordings([recording], 2.0, 1.0, label_rule=rule, **more)
        for index, (start_s, label) in enumerate(zip(cut.start_s, cut.y, strict=True)):
            at = -row - 0.3 * (index % 2)
            bottom.plot([start_s + 0.03, start_s + 1.97], [at, at], lw=5, color=colors[label])
    bottom.set_yticks(
        [-row - 0.15 for row in range(4)], ["whole", "majority 0.8", "centre", "last"]
    )
    bottom.set(xlabel="s", title="windows of 2 s every second, colored by their label")
    return figure


def scaling(real: Real) -> plt.Figure:
    X = cut_windows([r for r in load_surfaces() if r.group == "robot_00"], 5.0).X
    figure, axes = plt.subplots(1, len(KINDS) + 1, figsize=(8.4, 2.2))
    axes[0].hist(X.ravel(), 60, color=BEFORE)
    axes[0].set(title="as recorded", xlabel="A")
    for axis, kind in zip(axes[1:], KINDS, strict=True):
        axis.hist(fit_scaler(X, kind=kind).transform(X).ravel(), 60, color=AFTER)
        axis.set_title(kind)
    for axis in axes:
        axis.set_yticks([])
    axes[0].set_ylabel("samples")
    return figure


def balancing(real: Real) -> plt.Figure:
    chosen = {"ice": 2, "gravel": 9, "grass": 5}
    recordings = [
        recording
        for label, count in chosen.items()
        for recording in [r for r in load_surfaces() if r.label == label][:count]
    ]
    cut = cut_windows(recordings, 5.0)
    figure, axes = plt.subplots(1, 3, figsize=(8.4, 2.6), sharey=True)
    rows = {
        "all training windows": np.arange(len(cut)),
        "undersample": balance_indices(cut.y, cut.groups, "undersample", 0),
        "oversample": balance_indices(cut.y, cut.groups, "oversample", 0),
    }
    for axis, (title, taken) in zip(axes, rows.items(), strict=True):
        for at, label in enumerate(chosen):
            below = 0
            for shade, name in enumerate(np.unique(cut.recording_id[cut.y == label])):
                count = int((cut.recording_id[taken] == name).sum())
                axis.bar(at, count, bottom=below, color=SURFACES[at], alpha=1 - 0.08 * shade)
                below += count
        axis.set_xticks(range(len(chosen)), list(chosen))
        axis.set_title(title)
    axes[0].set_ylabel("windows, a shade for each recording")
    return figure


def augmentation(real: Real) -> plt.Figure:
    X = cut_windows([simulated("gravel")], 4.0).X[3:4]
    ways = {
        "jitter": 0.2,
        "scaling": 0.3,
        "magnitude_warp": 0.3,
        "time_warp": 0.3,
        "window_shift": 0.2,
    }
    figure, axes = plt.subplots(1, len(ways), figsize=(10, 2.2), sharey=True)
    for axis, (name, strength) in zip(axes, ways.items(), strict=True):
        for seed in range(3):
            copy = augment_windows(X, Augmentation(**{name: strength}), random_state=seed)
            axis.plot(np.arange(X.shape[1]) / 50, copy[0, :, 0], color=AFTER, lw=0.6, alpha=0.6)
        axis.plot(np.arange(X.shape[1]) / 50, X[0, :, 0], color="black", lw=0.8)
        axis.set(title=f"{name} {strength}", xlabel="s")
    axes[0].set_ylabel("A")
    return figure


def splits(real: Real) -> plt.Figure:
    cut = cut_windows(load_surfaces(), 5.0)
    split = split_by_group(cut.y, cut.groups, random_state=0)
    groups, labels = np.unique(cut.groups), np.unique(cut.y)
    order = sorted(
        groups, key=lambda g: ("train", "validation", "test").index(str(split[cut.groups == g][0]))
    )
    color = {"train": BEFORE, "validation": AFTER, "test": THIRD}
    figure, axis = plt.subplots(figsize=(8.4, 2.8))
    for column, group in enumerate(order):
        part_name = str(split[cut.groups == group][0])
        for row, label in enumerate(labels):
            count = int(((cut.groups == group) & (cut.y == label)).sum())
            axis.scatter(column, row, s=count * 5, color=color[part_name])
    for name, shade in color.items():
        axis.scatter([], [], s=80, color=shade, label=name)
    axis.set_xticks(range(len(order)), [g.replace("robot_", "robot ") for g in order], fontsize=8)
    axis.set_yticks(range(len(labels)), labels)
    axis.set(title="windows by robot and surface: whole robots go to one part", ylim=(-0.7, 5.7))
    axis.legend(bbox_to_anchor=(1, 1), labelspacing=1)
    return figure


def leakage(real: Real) -> plt.Figure:
    recordings = [r for r in load_surfaces() if r.group < "robot_04"]
    cut = cut_windows(recordings, 5.0, 2.5)
    rng = np.random.default_rng(0)
    by_window = rng.choice(["train", "test"], len(cut), p=[0.8, 0.2])
    by_group = np.where(cut.groups == "robot_03", "test", "train")
    figure, axis = plt.subplots(figsize=(8.4, 2.6))
    flat = cut.X.reshape(len(cut), -1).astype(float)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True) + 1e-12
    for split, color, name in (
        (by_window, THIRD, "split by windows"),
        (by_group, AFTER, "split by robots"),
    ):
        n_leaks = sum(f.count for f in find_leakage(cut, split=split).findings)
        gap = []
        for row in np.flatnonzero(split == "test"):
            same = (cut.recording_id == cut.recording_id[row]) & (split == "train")
            gap.append(np.abs(cut.start_s[same] - cut.start_s[row]).min() if same.any() else 12.5)
        label = f"{name}: {n_leaks} findings"
        axis.hist(
            np.minimum(gap, 12.5), np.arange(-1.25, 15, 2.5), color=color, alpha=0.7, label=label
        )
    axis.set_xticks([0, 2.5, 5, 7.5, 10, 12.5], ["0", "2.5", "5", "7.5", "10", "another robot"])
    axis.set(
        xlabel="seconds from a test window to the nearest training window of its recording",
        ylabel="test windows",
        title="windows of 5 s overlap by half, so neighbors share half of their samples",
    )
    axis.legend(loc="upper center")
    return figure


def streaming(real: Real) -> plt.Figure:
    recording = even(simulated("gravel"))
    rate, slow = 50.0, 25.0
    step = make_step({"kind": "moving", "window_s": 1.0, "statistic": "rms"})
    offline = step.apply(*resample_recording(recording, slow)).values
    resampler = StreamResampler(rate, slow, n_channels=1)
    stream = step.stream(recording.channels, slow)
    heard, at_s = [], []
    for row in range(0, recording.n_samples, 5):
        made = stream.push(resampler.push(recording.values[row : row + 5]))
        heard.append(made)
        at_s += [(row + 4) / rate] * len(made)
    late = np.concatenate(heard)
    t = np.arange(len(offline)) / slow
    figure, axis = plt.subplots(figsize=(8.4, 2.8))
    clock = np.arange(recording.n_samples) / rate
    axis.plot(clock, recording.values[:, 0], color=BEFORE, lw=0.6, label="motor current, 50 Hz")
    axis.plot(t, offline[:, -1], color=AFTER, label="rms of a second at 25 Hz, offline")
    axis.plot(at_s, late[:, -1], color=THIRD, label="the same samples, when available on the robot")
    mark = int(8.6 * slow)  # a time at which the curve is steep
    level, latency_s = offline[mark, -1], resampler.latency_s + stream.latency_s
    axis.annotate(
        "", (t[mark] + latency_s, level), (t[mark], level), arrowprops={"arrowstyle": "->"}
    )
    axis.text(t[mark] + latency_s / 2, 5, f"{latency_s:.2f} s later", ha="center")
    axis.set(xlabel="s on the robot's clock", ylabel="A", xlim=(4.5, 20))
    axis.set_title("motor current on gravel (simulated), resampled and averaged")
    axis.legend(loc="lower left")
    return figure


def several_sensors(real: Real) -> plt.Figure:
    rng, hop_s = np.random.default_rng(1), 2.0
    figure, axes = plt.subplots(2, 1, figsize=(8.4, 3.2), sharex=True)
    for axis, name, rate, first_s, n_lost in (
        (axes[0], "inertial unit, 50 Hz", 50.0, 0.07, 0),
        (axes[1], "motor current, 6.5 Hz", 6.5, 0.0, 1),
    ):
        t = np.arange(first_s, 8.0, 1 / rate)
        x = np.sin(2 * np.pi * 0.4 * t) + 0.3 * rng.normal(size=len(t))
        lost = (t > 4.0) & (t < 6.0) if n_lost else np.zeros(len(t), bool)
        axis.plot(t[~lost], x[~lost], ".", color=BEFORE, ms=3)
        axis.set(ylabel=name.split(",")[0], ylim=(-2.2, 2.2), title=name)
        for k in range(4):
            is_lost = bool(n_lost) and k == 2
            start = hop_s * k if is_lost else float(t[t >= hop_s * k - 1e-9][0])
            n = int(hop_s * rate)
            end = start + (hop_s if is_lost else (n - 1) / rate)
            color = THIRD if is_lost else AFTER
            axis.axvspan(start, end, color=color, alpha=0.15, lw=0)
            said = "missing" if is_lost else f"{n} samples"
            axis.text((start + end) / 2, 1.8, said, ha="center", va="center")
    axes[1].set(xlabel="s on the recording's clock", xlim=(0, 8))
    return figure


PICTURES: dict[str, Callable[[Real], plt.Figure]] = {
    function.__name__: function
    for function in (
        resampling,
        stamps_and_gaps,
        detrend,
        band_pass,
        derivative,
        moving,
        products,
        windows,
        scaling,
        balancing,
        augmentation,
        splits,
        leakage,
        streaming,
        several_sensors,
    )
}


def make(names: Iterator[str] | list[str], real: Real, folder: Path = IMAGES) -> list[str]:
    """Write the pictures with the given names; return those skipped for lack of recordings."""
    folder.mkdir(parents=True, exist_ok=True)
    left = []
    for name in names:
        try:
            with plt.style.context(STYLE):
                figure = PICTURES[name](real)
                figure.savefig(folder / f"{name}.png", metadata={"Software": None})
                plt.close(figure)
        except FileNotFoundError:
            left.append(name)
    return left


def main() -> None:
    """Make the pictures that are selected on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given = os.environ.get("SENSORSEQ_BOREALTC")
    parser.add_argument("--borealtc", type=Path, default=Path(given) if given else None)
    parser.add_argument("--only", choices=PICTURES, nargs="*", default=list(PICTURES))
    arguments = parser.parse_args()
    left = make(arguments.only, Real(arguments.borealtc))
    print(f"wrote {len(arguments.only) - len(left)} pictures to {IMAGES}")
    if left:
        print(f"skipped, because they need real recordings (--borealtc PATH): {', '.join(left)}")


if __name__ == "__main__":
    main()
