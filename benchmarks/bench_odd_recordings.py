"""Plants faults into healthy recordings and measures where the ranked list puts them.

Each trial plants one fault into one recording of a set, and ranks the whole set. The fault counts
as found if its recording is among the first max(3, 5 % of the recordings) of the list. Healthy
recordings are counted as false alarms if the list of the untouched set marks them. Sets:

- ``imu``, ``motors``: BorealTC; ``both``: the recordings of both sensors joined;
- ``wheels``: simulated robots on six surfaces, for a minute each;
- ``arms``: simulated arms, driven by a leader in two tasks, 50 episodes each;
- ``lerobot``: a dataset in LeRobot's layout (``--lerobot``).

The reference, ``twenty lines``, is the largest robust z-score of the length and of each channel's
mean, standard deviation, minimum and maximum, against the recordings of the same class. The
settings were chosen with ``--part development``: faults in every second recording of the real sets,
and simulated robots of another seed. One recording of BorealTC, a copy of a part of another one, is
left out.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from common.arguments import make_parser
from common.results_file import begin, write_results
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d, shift

from sensorseq.inspection.copies import shared_samples
from sensorseq.inspection.facts import RecordingFacts, measure
from sensorseq.inspection.odd_recordings import OddRecording, rank_recordings
from sensorseq.options import ReadOptions
from sensorseq.readers import find_recordings, read_source
from sensorseq.recording import Channel, Recording

SETS = ("imu", "motors", "both", "wheels", "arms", "lerobot")
SEEDS = {"development": 71, "reported": 72}
OFFSET = np.radians(17.0)
LACK_IMU = ["SNOW/12", "FLOORING/04", "FLOORING/06", "ICE/01", "MIXED"]
DEAD_S, CUT_S, SHAKE_S, DELAY_S, GAIN = 5.0, 9.0, 2.0, 0.2, 1.3
Floats = NDArray[np.floating[Any]]
Plant = Callable[[Recording, int, np.random.Generator], Recording]


class Fault(NamedTuple):
    """A fault, and the sets into which it is planted."""

    plant: Plant
    sets: Sequence[str] = SETS


def changed(recording: Recording, channel: int, column: Floats) -> Recording:
    """Return the recording with another column."""
    values = recording.values.astype(np.float64)
    values[:, channel] = column
    return replace(recording, values=values)


def rows(recording: Recording, keep: Floats) -> Recording:
    """Return the recording with some of its rows."""
    return replace(
        recording, values=recording.values[keep], timestamps_s=recording.timestamps_s[keep]
    )


def tilted(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Turn an inertial unit by 17 degrees about a horizontal axis, or shift a joint."""
    names = recording.channel_names
    if "az" not in names:
        return changed(recording, channel, recording.values[:, channel] + OFFSET)
    c, s, axes = np.cos(OFFSET), np.sin(OFFSET) * rng.choice([-1, 1]), np.eye(3)
    at = int(rng.integers(2))
    other = 1 - at
    axes[[other, other, 2, 2], [other, 2, other, 2]] = c, -s, s, c
    values = recording.values.astype(np.float64)
    for triple in (("wx", "wy", "wz"), ("ax", "ay", "az")):
        columns = [names.index(name) for name in triple]
        values[:, columns] = values[:, columns] @ axes.T
    return replace(recording, values=values)


def dead(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Hold all channels for some seconds."""
    t = recording.timestamps_s
    start = rng.uniform(t[0], max(t[-1] - DEAD_S, t[0]))
    first, last = np.searchsorted(t, [start, start + DEAD_S])
    values = recording.values.astype(np.float64)
    for column in values.T:
        known = np.isfinite(column)
        before = column[: first + 1][known[: first + 1]]
        inside = np.flatnonzero(known[first:last]) + first
        if len(before) and len(inside):
            column[inside] = before[-1]
    return replace(recording, values=values)


def shaken(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Add two seconds of shaking, as from a slack gear, with half of each channel's spread."""
    t = recording.timestamps_s
    start = rng.uniform(t[0], max(t[-1] - SHAKE_S, t[0]))
    inside = (t >= start) & (t < start + SHAKE_S)
    values = recording.values.astype(np.float64)
    spread = np.subtract(*np.nanquantile(values, (0.95, 0.05), axis=0))
    wave = np.sin(2 * np.pi * 2.5 * (t[inside, None] - start) + rng.uniform(0, 6, len(spread)))
    values[inside] += 0.5 * spread * wave
    return replace(recording, values=values)


def ends_early(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Cut the last nine seconds, or 40 % of a shorter recording; of one sensor if it has two."""
    return _cut(recording, at_start=False)


def starts_late(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Cut the first nine seconds, or 40 % of a shorter recording; of one sensor if it has two."""
    return _cut(recording, at_start=True)


def _cut(recording: Recording, *, at_start: bool) -> Recording:
    t = recording.timestamps_s
    lost = min(CUT_S, 0.4 * (t[-1] - t[0]))
    is_lost = t < t[0] + lost if at_start else t > t[-1] - lost
    if "sensor_rates_hz" not in recording.attributes:
        return rows(recording, ~is_lost)
    values = recording.values.copy()
    is_motor = [name.startswith(("cur", "vel")) for name in recording.channel_names]
    values[np.ix_(is_lost, is_motor)] = np.nan
    return replace(recording, values=values)


def amplified(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Multiply a channel by 1.3."""
    return changed(recording, channel, GAIN * recording.values[:, channel])


def negated(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Reverse the sign of a channel."""
    return changed(recording, channel, -recording.values[:, channel])


def delayed(recording: Recording, channel: int, rng: np.random.Generator) -> Recording:
    """Shift a channel by 0.2 s."""
    t, x = recording.timestamps_s, recording.values[:, channel].astype(np.float64)
    known = np.isfinite(x)
    late = np.interp(t - DELAY_S, t[known], x[known])
    return changed(recording, channel, np.where(known, late, np.nan))


FAULTS = {
    "offset of 17 degrees": Fault(tilted, ("imu", "both", "arms", "lerobot")),
    "5 dead seconds": Fault(dead),
    "2 s of shaking": Fault(shaken),
    "early end": Fault(ends_early, ("both", "wheels", "arms", "lerobot")),
    "late start": Fault(starts_late, ("both", "wheels", "arms", "lerobot")),
    "copy": Fault(lambda recording, channel, rng: recording),
    "gain 1.3": Fault(amplified),
    "flipped sign": Fault(negated),
    "delay of 0.2 s": Fault(delayed),
}


def simulate_joints(seed: int, n_episodes: int = 50) -> list[Recording]:
    """Simulate episodes of two tasks: a leader, and an arm that follows it late and smoothly."""
    recordings = []
    for number, task in enumerate(("pick", "wipe")):
        way = np.random.default_rng([seed, number]).uniform(-1.2, 1.2, (7, 6))
        way[[0, -1]] = 0.2  # begins and ends at rest
        for episode in range(n_episodes):
            rng = np.random.default_rng([seed, number, episode])
            pace = rng.uniform(0.85, 1.15)
            durations = pace * np.exp(rng.normal(0, 0.12, 6)) * 3.3
            rest_s = rng.uniform(0.4, 1.0, 2)
            times = np.concatenate([[0], np.cumsum(durations)]) + rest_s[0]
            goal = way + rng.normal(0, 0.08, way.shape) * (np.ptp(way, axis=0) > 0)
            goal[[0, -1]] = way[[0, -1]] + rng.normal(0, 0.02, (2, 6))
            t = np.arange(int(50 * (times[-1] + rest_s[1]))) / 50
            phase = np.interp(t, times, np.arange(7))
            leg = np.clip(np.floor(phase).astype(int), 0, 5)
            s = (phase - leg)[:, None]
            leader = goal[leg] + (goal[leg + 1] - goal[leg]) * (10 * s**3 - 15 * s**4 + 6 * s**5)
            tremor = gaussian_filter1d(rng.normal(0, 1, leader.shape), 8, axis=0)
            leader = leader + 0.01 * tremor
            late = shift(gaussian_filter1d(leader, 2, axis=0), (4, 0), order=0, mode="nearest")
            sag = rng.normal(0.01, 0.004, 6) * np.cos(late)
            follower = np.round((late - sag + rng.normal(0, 0.001, late.shape)) / 0.0015) * 0.0015
            channels = [Channel(f"action.joint_{k}", "rad") for k in range(6)]
            channels += [Channel(f"state.joint_{k}", "rad") for k in range(6)]
            values = np.column_stack([leader, follower]).astype(np.float32)
            recordings.append(
                Recording(values, t, tuple(channels), f"{task}/{episode:02d}", label=task)
            )
    return recordings


def simulate_wheels(seed: int) -> list[Recording]:
    """Simulate 10 robots, each twice on six surfaces, with current, voltage and two speeds."""
    sys.path.append(str(Path(__file__).resolve().parents[1] / "data" / "simulator"))
    from simulate import SURFACES, draw_robot, simulate_recordings

    robots = [draw_robot(np.random.default_rng([seed, k]), f"robot_{k:02d}") for k in range(10)]
    plan = [(s, robot, k) for s in SURFACES for robot in robots for k in range(2)]
    return simulate_recordings(
        [surface for surface, _, _ in plan],
        [robot for _, robot, _ in plan],
        60.0,
        random_states=[[seed, number] for number in range(len(plan))],
        recording_ids=[f"{surface}/{robot.name}_{k}" for surface, robot, k in plan],
        channels=("current_a", "voltage_v", "motor_speed_rad_s", "wheel_speed_m_s"),
    )


def read_set(name: str, part: str, borealtc: Path, lerobot: Path | None) -> list[Recording]:
    """Return the recordings of a set."""
    if name == "arms":
        return simulate_joints(SEEDS[part])
    if name == "wheels":
        return simulate_wheels(SEEDS[part])
    options = {
        "imu": ReadOptions(files=["imu_*.csv.gz"], exclude=["SNOW/imu_12", "MIXED"]),
        "motors": ReadOptions(files=["pro_*.csv"], exclude=["SNOW/pro_12", "MIXED"]),
        "both": ReadOptions(pair="{sensor}_{recording}.*", exclude=LACK_IMU),
        "lerobot": ReadOptions(),
    }[name]
    folder = lerobot if name == "lerobot" else borealtc
    assert folder is not None
    return [read_source(source, options) for source in find_recordings(folder, options)]


def trials(name: str, part: str, recordings: Sequence[Recording]) -> Iterator[tuple[int, int]]:
    """Yield a recording and a channel that moves; real recordings alternate between the parts."""
    for i, recording in enumerate(recordings):
        is_mine = name in ("arms", "wheels") or i % 2 == (part == "reported")
        spread = np.subtract(*np.nanquantile(recording.values, (0.95, 0.05), axis=0))
        moving = np.flatnonzero(spread > (0.02 if name == "lerobot" else 0))
        if name in ("arms", "lerobot"):  # faults of the measured joints
            moving = [k for k in moving if "state" in recording.channel_names[k]]
        if is_mine and len(moving):
            yield i, int(np.random.default_rng([7, i]).choice(moving))


def twenty_lines(features: Sequence[Floats], labels: Sequence[Any]) -> list[int]:
    """Rank recordings by their largest robust z-score."""
    table, of_class, worst = np.array(features), np.array(labels), np.zeros(len(features))
    for label in np.unique(of_class):
        mine = of_class == label
        usual = np.nanmedian(table[mine], axis=0)
        spread = 1.4826 * np.nanmedian(abs(table[mine] - usual), axis=0)
        z = abs(table[mine] - usual) / np.where(spread > 0, spread, np.inf)
        worst[mine] = np.nanmax(z, axis=1)
    return np.argsort(-worst).tolist()


def simple_features(recording: Recording) -> Floats:
    """Return the length, and the mean, deviation and range of each channel."""
    x = recording.values.astype(np.float64)
    figures = [np.nanmean(x, 0), np.nanstd(x, 0), np.nanmin(x, 0), np.nanmax(x, 0)]
    return np.concatenate([[recording.duration_s], *figures])


def rank(facts: Sequence[RecordingFacts]) -> list[OddRecording]:
    """Return the ranked list, with the recordings that share samples."""
    return rank_recordings(facts, [*shared_samples([recording.hashes for recording in facts])])


def run(name: str, part: str, recordings: list[Recording], show: bool) -> list[dict[str, Any]]:
    """Rank a set as it is, and with each fault in each recording in turn."""
    began = time.perf_counter()
    facts = [measure(recording) for recording in recordings]
    measured_s = time.perf_counter() - began
    simple = [simple_features(recording) for recording in recordings]
    labels = [recording.label or "" for recording in recordings]
    listed = rank(facts)
    first = max(3, int(0.05 * len(recordings)))
    rows = [
        {
            "set": name,
            "fault": "none",
            "trials": len(recordings),
            "marked": sum(odd.is_marked for odd in listed),
            "measured_s": measured_s,
            "ranked_s": time.perf_counter() - began - measured_s,
            "recorded_s": sum(recording.duration_s for recording in recordings),
        }
    ]
    print(rows[0], flush=True)
    for odd in listed[:3]:
        print(f"    {odd.recording_id} ({odd.score:.2f}): {odd.text}")
    for fault, (plant, sets) in FAULTS.items():
        if name not in sets:
            continue
        counts = dict.fromkeys(("trials", "ours", "marked", "twenty lines"), 0)
        for i, channel in trials(name, part, recordings):
            rng = np.random.default_rng([11, i])
            planted = plant(recordings[i], channel, rng)
            accepted = {recordings[i].recording_id}
            if fault == "copy":
                peers = [k for k in range(len(labels)) if labels[k] == labels[i] and k != i]
                source = recordings[int(rng.choice(peers))]
                accepted.add(source.recording_id)
                planted = replace(source, recording_id=recordings[i].recording_id)
            listed = rank([*facts[:i], measure(planted), *facts[i + 1 :]])
            ids = [odd.recording_id for odd in listed]
            at = min(ids.index(each) for each in accepted)
            theirs = twenty_lines([*simple[:i], simple_features(planted), *simple[i + 1 :]], labels)
            counts["trials"] += 1
            counts["ours"] += at < first
            counts["marked"] += listed[at].is_marked
            ids = [recordings[k].recording_id for k in theirs]
            counts["twenty lines"] += min(ids.index(each) for each in accepted) < first
            if show:
                print(f"{fault} {listed[at].recording_id} at {at}: {listed[at].text}")
        rows.append({"set": name, "fault": fault, **counts})
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    """Run the benchmark."""
    parser = make_parser(__doc__)
    parser.add_argument("--borealtc", type=Path, required=True, help="folder of the dataset")
    parser.add_argument("--lerobot", type=Path, help="folder of a dataset in LeRobot's layout")
    parser.add_argument("--part", choices=SEEDS, default="reported")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--show", action="store_true", help="print each trial")
    arguments = parser.parse_args()
    is_partial = arguments.part != "reported" or set(arguments.sets) != set(SETS)
    code = begin(__file__, partial=is_partial)
    results = []
    for name in arguments.sets:
        read = partial(read_set, name, arguments.part, arguments.borealtc, arguments.lerobot)
        results += run(name, arguments.part, read(), arguments.show)
    write_results("odd_recordings", results, code=code, partial=is_partial)


if __name__ == "__main__":
    main()
