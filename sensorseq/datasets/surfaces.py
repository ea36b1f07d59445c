"""The simulated recordings that come with the package."""

import csv
import importlib.resources
from dataclasses import replace
from importlib.resources.abc import Traversable
from pathlib import Path

from sensorseq.errors import EnvironmentProblemError
from sensorseq.options import ReadOptions
from sensorseq.readers.csv import read_csv
from sensorseq.recording import Recording

__all__ = ["SURFACES_SAMPLE_RATE_HZ", "SURFACES_WINDOW_SAMPLES", "load_surfaces"]

SURFACES_SAMPLE_RATE_HZ = 20.0
"""Recommended common rate for the surface recordings."""
SURFACES_WINDOW_SAMPLES = 100
"""Window length for the surface task: 5 s at the recommended rate."""


def load_surfaces() -> list[Recording]:
    """Load the included SIMULATED motor currents of ten robots on six surfaces.

    No real robot was measured: a simulator computed every sample. The task is to recognize the
    surface (label) from 5 s of the motor current of a robot (group) that was not used in training;
    see `SURFACES_SAMPLE_RATE_HZ` and `SURFACES_WINDOW_SAMPLES`.

    Returns
    -------
    list of Recording
        120 recordings of about 70 s at about 50 Hz, unevenly sampled and with missing samples. They
        are sorted by surface (six), then robot (ten); each robot has two recordings per surface.
        The only channel is ``current_a``, in A; ``attributes["simulated"]`` is True.

    Raises
    ------
    EnvironmentProblemError
        If the files are missing from the installation.

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
                ReadOptions(units={"current_a": "A"}),
                recording_id=f"{row['label']}_{file.name.removesuffix('.csv.gz')}",
                group=row["group"],
                label=row["label"],
            )
            recordings.append(replace(recording, attributes={"simulated": True}))
    return recordings


def _data_folder() -> Traversable:
    """Return the folder of included data: in the package or, in a source checkout, next to it."""
    packaged = importlib.resources.files("sensorseq") / "data"
    if packaged.is_dir():
        return packaged
    checkout = Path(__file__).resolve().parents[2] / "data"
    if (checkout / "surfaces" / "manifest.csv").is_file():
        return checkout
    raise EnvironmentProblemError(
        "the included recordings are missing from this installation of sensorseq; reinstall it."
    )
