"""The simulated recordings that come with the package, and new ones."""

import csv
import gzip
import importlib.resources
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import replace
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sensorseq.checks import check_integer, check_real
from sensorseq.datasets.motion import TRACE_UNITS
from sensorseq.datasets.parameters import SURFACES, Robot, draw_robot
from sensorseq.datasets.simulator import simulate_recordings
from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    MisplacedOutputError,
    check_choice,
)
from sensorseq.io.atomic import locking, make_folder
from sensorseq.readers.csv import read_csv
from sensorseq.recording import Recording

SURFACES_SAMPLE_RATE_HZ = 20.0
"""Recommended common rate for the surface recordings."""
SURFACES_WINDOW_SAMPLES = 100
"""Window length for the surface task: 5 s at that rate."""

_SEED = 1
_N_ROBOTS = 10
_N_RECORDINGS = 2  # for each pair of robot and surface
_DURATION_S = 71.0  # fourteen windows, or thirteen where more is lost at the ends


def load_surfaces() -> list[Recording]:
    """Load the embedded SIMULATED motor currents of ten robots on six surfaces.

    No real robot was measured: `sensorseq.simulate` computed every sample. The task is to recognize
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
                recording_id=f"{row['label']}_{file.name.removesuffix('.csv.gz')}",
                group=row["group"],
                label=row["label"],
                units={"current_a": TRACE_UNITS["current_a"]},
            )
            recordings.append(replace(recording, attributes={"simulated": True}))
    return recordings


def write_surfaces(folder: str | PathLike[str], *, only: str | None = None) -> list[Path]:
    """Simulate the embedded recordings again and write them, bit for bit as shipped.

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
    plan = [
        entry
        for entry in _plan(SURFACES, _SEED, _N_ROBOTS, _N_RECORDINGS)
        if only in (None, entry.recording_id)
    ]
    if not plan:
        raise ArgumentError(f"only={only!r} is not one of the embedded recordings.")
    return _write(Path(folder) / "surfaces", plan, _DURATION_S, with_manifest=only is None)


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
        If a surface is unknown, or a count is below 1.
    OutputError
        If the folder already exists and is not empty, or another process is writing it.
    """
    names = [check_choice("surfaces", name, SURFACES) for name in surfaces or SURFACES]
    n_robots = check_integer("n_robots", n_robots, 1, 1000)
    n_recordings = check_integer("n_recordings", n_recordings, 1, 1000)
    check_integer("seed", seed, 0)
    check_real("duration_s", duration_s, 1.0)
    target = make_folder(folder, new=True)
    is_taken = MisplacedOutputError(f"{target} already exists; give the name of a new folder.")
    if not target.name:
        raise is_taken
    plan = _plan(names, seed, n_robots, n_recordings)
    temporary = target.with_name(f".{target.name}.part")
    with locking(target.with_name(f"{target.name}.manifest"), run=True):
        shutil.rmtree(temporary, ignore_errors=True)  # a killed process may have left it
        if target.exists() and any(target.iterdir()):
            raise is_taken
        try:
            written = _write(temporary, plan, duration_s)
            temporary.replace(target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    return [target / file.relative_to(temporary) for file in written]


class _Planned(NamedTuple):
    """A recording to simulate; `name` is the stem of its file."""

    recording_id: str
    surface: str
    robot: Robot
    state: list[int]
    name: str


def _plan(surfaces: Iterable[str], seed: int, n_robots: int, n_recordings: int) -> list[_Planned]:
    robots = [
        draw_robot(np.random.default_rng([seed, number]), f"robot_{number:02d}")
        for number in range(n_robots)
    ]
    return [
        _Planned(
            f"{surface}_{robot.name}_{number:02d}",
            surface,
            robot,
            [seed, surface_number, robot_number, number],
            f"{robot.name}_{number:02d}",
        )
        for surface_number, surface in enumerate(surfaces)
        for robot_number, robot in enumerate(robots)
        for number in range(n_recordings)
    ]


def _write(
    root: Path, plan: list[_Planned], duration_s: float, *, with_manifest: bool = True
) -> list[Path]:
    recordings = simulate_recordings(
        [planned.surface for planned in plan],
        [planned.robot for planned in plan],
        duration_s,
        random_states=[planned.state for planned in plan],
        recording_ids=[planned.recording_id for planned in plan],
    )
    written, lines = [], ["path,label,group"]
    for recording, planned in zip(recordings, plan, strict=True):
        file = root / planned.surface / f"{planned.name}.csv.gz"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_compressed_csv(recording))
        written.append(file)
        lines.append(f"{planned.surface}/{file.name},{planned.surface},{planned.robot.name}")
    if with_manifest:
        manifest = "\n".join(lines) + "\n"
        (root / "manifest.csv").write_text(manifest, encoding="utf-8", newline="\n")
    return written


def _compressed_csv(recording: Recording) -> bytes:
    # Timestamps are whole milliseconds and currents whole ADC codes of 5 mA: three digits are
    # exact.
    rows = zip(recording.timestamps_s.tolist(), recording.values[:, 0].tolist(), strict=True)
    lines = ["time_s,current_a", *(f"{time_s:.3f},{current_a:.3f}" for time_s, current_a in rows)]
    return gzip.compress(("\n".join(lines) + "\n").encode(), compresslevel=9, mtime=0)


def _data_folder() -> Traversable:
    """Return the folder of embedded data: in the package, or next to it in a source checkout."""
    packaged = importlib.resources.files("sensorseq") / "data"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "data"
    if (checkout / "surfaces" / "manifest.csv").is_file():
        return checkout
    raise EnvironmentProblemError(
        "the embedded recordings are missing from this installation of sensorseq;"
        " reinstall it, or write them with sensorseq.datasets.write_surfaces."
    )
