"""The simulated recordings that come with the package, and new ones."""

import csv
import gzip
import importlib.resources
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path

import numpy as np

from sensorseq.errors import ArgumentError, EnvironmentProblemError, check_choice
from sensorseq.readers.csv import read_csv
from sensorseq.recording import Recording
from sensorseq.simulate import SURFACES, TRACE_UNITS, Robot, simulate_recordings

__all__ = [
    "SURFACES_SAMPLE_RATE_HZ",
    "SURFACES_WINDOW_SAMPLES",
    "load_surfaces",
    "write_simulated",
    "write_surfaces",
]

SURFACES_SAMPLE_RATE_HZ = 20.0
"""Recommended common rate for the surface recordings."""
SURFACES_WINDOW_SAMPLES = 100
"""Window length for the surface task: 5 s at that rate."""

_SEED = 1
_N_ROBOTS = 10
_N_RECORDINGS = 2  # of each robot on each surface
_DURATION_S = 71.0  # fourteen windows; thirteen where more is lost at the ends


def load_surfaces() -> list[Recording]:
    """Load the embedded SIMULATED motor currents of ten robots on six surfaces.

    No real robot was measured: `sensorseq.simulate` computed every sample. The task is to recognise
    the surface (label) from 5 s of motor current of a robot (group) that was not in training; see
    `SURFACES_SAMPLE_RATE_HZ` and `SURFACES_WINDOW_SAMPLES`.

    Returns
    -------
    list of Recording
        120 recordings of about 70 s at about 50 Hz, unevenly sampled and with missing samples: six
        surfaces, ten robots, two recordings of each pair, in this order. One channel,
        ``current_a`` in A.
        ``attributes["simulated"]`` is True.

    Raises
    ------
    EnvironmentProblemError
        If the installation lacks the files.

    Examples
    --------
    >>> recordings = load_surfaces()
    >>> len(recordings), recordings[0].label, recordings[0].group
    (120, 'carpet', 'robot_00')
    """
    folder = _data_folder() / "surfaces"
    recordings = []
    with importlib.resources.as_file(folder) as path:
        with (path / "manifest.csv").open(newline="", encoding="utf-8") as manifest:
            rows = list(csv.DictReader(manifest))
        for row in rows:
            file = path / row["path"]
            recording = read_csv(
                file,
                recording_id=_recording_id(row["label"], file.name.removesuffix(".csv.gz")),
                group=row["group"],
                label=row["label"],
                units={"current_a": TRACE_UNITS["current_a"]},
            )
            recordings.append(replace(recording, attributes={"simulated": True}))
    return recordings


def write_surfaces(folder: str | PathLike[str], *, only: str | None = None) -> list[Path]:
    """Simulate the embedded recordings again and write them, identical to the last digit.

    Parameters
    ----------
    folder : path-like
        Receives ``surfaces/manifest.csv`` (columns path, label, group) and
        ``surfaces/<label>/<robot>_<number>.csv.gz`` (columns time_s, current_a).
    only : str, optional
        Write only the recording with this ``recording_id``, and no manifest.

    Returns
    -------
    list of Path
        The files written, in the manifest's order.

    Raises
    ------
    ArgumentError
        If `only` is not one of the recordings.
    """
    root = Path(folder) / "surfaces"
    plan = [entry for entry in _plan() if only in (None, entry[0])]
    if not plan:
        raise ArgumentError(f"only={only!r} is not one of the embedded recordings.")
    recordings = simulate_recordings(
        [surface for _, surface, _, _, _ in plan],
        [robot for _, _, robot, _, _ in plan],
        _DURATION_S,
        random_states=[state for _, _, _, state, _ in plan],
        recording_ids=[recording_id for recording_id, _, _, _, _ in plan],
    )
    written = []
    for recording, (_, surface, _, _, name) in zip(recordings, plan, strict=True):
        file = root / surface / f"{name}.csv.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_compressed_csv(recording))
        written.append(file)
    if only is None:
        lines = [
            f"{surface}/{name}.csv.gz,{surface},{robot.name}" for _, surface, robot, _, name in plan
        ]
        manifest = "\n".join(["path,label,group", *lines]) + "\n"
        (root / "manifest.csv").write_text(manifest, encoding="utf-8", newline="\n")
    return written


def write_simulated(
    folder: str | PathLike[str],
    *,
    surfaces: Sequence[str] | None = None,
    n_robots: int = 4,
    n_recordings: int = 2,
    duration_s: float = 60.0,
    seed: int = 0,
) -> list[Path]:
    """Simulate recordings of a new fleet and write them in the layout that `prepare` reads.

    Parameters
    ----------
    folder : path-like
        New folder, with ``manifest.csv`` (columns path, label, group) and
        ``<surface>/<robot>_<number>.csv.gz``. It appears when it is complete.
    surfaces : sequence of str, optional
        Names in `sensorseq.simulate.SURFACES`; all by default.
    n_robots, n_recordings : int, default=4, 2
        Number of robots, and of recordings per robot and surface.
    duration_s : float, default=60
        Length of each recording in seconds.
    seed : int, default=0
        The same seed gives the same bytes.

    Returns
    -------
    list of Path
        The recordings, in the manifest's order.

    Raises
    ------
    ArgumentError
        If a surface is unknown, a count is below 1, or the folder already exists.
    """
    target = Path(folder)
    names = [check_choice("surfaces", name, SURFACES) for name in surfaces or SURFACES]
    for argument, count in (("n_robots", n_robots), ("n_recordings", n_recordings)):
        if count < 1:
            raise ArgumentError(f"{argument}={count} must be at least 1.")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ArgumentError(f"{target} already exists; give the name of a new folder.")
    robots = [
        Robot.drawn(np.random.default_rng([seed, number]), f"robot_{number:02d}")
        for number in range(n_robots)
    ]
    plan = [
        (surface, robots[robot], [seed, index, robot, number], f"{robots[robot].name}_{number:02d}")
        for index, surface in enumerate(names)
        for robot in range(n_robots)
        for number in range(n_recordings)
    ]
    recordings = simulate_recordings(
        [surface for surface, _, _, _ in plan],
        [robot for _, robot, _, _ in plan],
        duration_s,
        random_states=[state for _, _, state, _ in plan],
        recording_ids=[_recording_id(surface, name) for surface, _, _, name in plan],
    )
    lines = ["path,label,group"]
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        for recording, (surface, robot, _, name) in zip(recordings, plan, strict=True):
            file = temporary / surface / f"{name}.csv.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(_compressed_csv(recording))
            lines.append(f"{surface}/{name}.csv.gz,{surface},{robot.name}")
        manifest = "\n".join(lines) + "\n"
        (temporary / "manifest.csv").write_text(manifest, encoding="utf-8", newline="\n")
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return [target / surface / f"{name}.csv.gz" for surface, _, _, name in plan]


def _plan() -> Iterator[tuple[str, str, Robot, list[int], str]]:
    """Yield recording_id, surface, robot, seed and file stem of every embedded recording."""
    robots = [
        Robot.drawn(np.random.default_rng([_SEED, number]), f"robot_{number:02d}")
        for number in range(_N_ROBOTS)
    ]
    for surface_number, surface in enumerate(SURFACES):
        for robot_number, robot in enumerate(robots):
            for number in range(_N_RECORDINGS):
                name = f"{robot.name}_{number:02d}"
                state = [_SEED, surface_number, robot_number, number]
                yield _recording_id(surface, name), surface, robot, state, name


def _recording_id(surface: str, name: str) -> str:
    return f"{surface}_{name}"


def _compressed_csv(recording: Recording) -> bytes:
    # Stamps are whole milliseconds and currents whole ADC codes of 5 mA: three digits are exact.
    rows = zip(recording.timestamps_s.tolist(), recording.values[:, 0].tolist(), strict=True)
    lines = ["time_s,current_a", *(f"{time_s:.3f},{current_a:.3f}" for time_s, current_a in rows)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=9, mtime=0)


def _data_folder() -> Traversable:
    """Return the folder of embedded data: in the package, or next to it in a source checkout."""
    packaged = importlib.resources.files("sensorseq") / "data"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[1] / "data"
    if (checkout / "surfaces" / "manifest.csv").is_file():
        return checkout
    raise EnvironmentProblemError(
        "the embedded recordings are missing from this installation of sensorseq;"
        " reinstall it, or write them with sensorseq.datasets.write_surfaces."
    )
