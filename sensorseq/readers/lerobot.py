"""List the episodes of a LeRobot dataset, which is described in ``meta/info.json``.

Versions 2 (one file for each episode) and 3 (several episodes in each file) are supported; see
https://huggingface.co/docs/lerobot/lerobot-dataset-v3.
"""

import itertools
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sensorseq.errors import RecordingError, refusing, repeated
from sensorseq.readers.columns import spans_of_labels
from sensorseq.readers.csv import USUAL_FORM
from sensorseq.readers.long_table import TableRows, list_table, recording_table
from sensorseq.readers.parquet import check_size, opened, refuse_pointer
from sensorseq.recording import LabelSpan

_INFO = Path("meta/info.json")
_EPISODE, _TASK, _TIME = "episode_index", "task_index", "timestamp"
# Columns of indices and tasks, which are not measurements.
_NOT_MEASURED = (_EPISODE, "frame_index", "index", _TASK)
_SAME_RATE = 0.05
_FROM_THE_END = ("next.", "annotation.")  # prefixes of columns filled in after the frame


class LeRobotDataset:
    """A LeRobot dataset, with its rate, channel names and task descriptions."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / _INFO
        with refusing(RecordingError, f"{self.path}: is not the info.json of a LeRobot dataset"):
            info = json.loads(self.path.read_text("utf-8"))
            self.version = str(info["codebase_version"])
            self.rate_hz = float(info["fps"])
            self.features: dict[str, Any] = {
                name: dict(facts) for name, facts in info["features"].items()
            }
            self.n_episodes = info["total_episodes"]
            if not 0 < self.rate_hz < math.inf:
                raise ValueError(f"fps is {info['fps']!r}")
            if not isinstance(self.n_episodes, int) or self.n_episodes < 0:
                raise ValueError(f"total_episodes is {self.n_episodes!r}")
        if not self.version.startswith(("v2.", "v3.")):
            raise RecordingError(
                f"{self.path}: has version {self.version}; only versions 2 and 3 of LeRobot"
                " datasets can be read. Convert the dataset with lerobot's own scripts."
            )

    def pictures(self) -> tuple[str, ...]:
        """Return the features that are images or videos."""
        kinds = ("image", "video")
        return tuple(
            name for name, feature in self.features.items() if feature.get("dtype") in kinds
        )

    def names(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        """Return the element names of each column of lists, if every element has a name."""
        names_of = []
        for column, feature in self.features.items():
            names = feature.get("names")
            while (
                isinstance(names, Mapping) and len(names) == 1
            ):  # names grouped by kind, such as "motors"
                (names,) = names.values()
            while isinstance(names, list) and len(names) == 1 and isinstance(names[0], list):
                (names,) = names
            is_complete = isinstance(names, list) and [len(names)] == feature.get("shape")
            if is_complete and len(names) > 1 and repeated(map(str, names)) is None:
                names_of.append((column, tuple(f"{column}.{name}" for name in names)))
        return tuple(names_of)

    def tasks(self) -> dict[int, str]:
        """Return the description of each task."""
        lines, table = self.root / "meta/tasks.jsonl", self.root / "meta/tasks.parquet"
        path = lines if lines.is_file() else table
        refuse_pointer(path)
        with refusing(RecordingError, f"{path}: contains no descriptions of tasks"):
            if path == lines:
                rows = [json.loads(line) for line in lines.read_text("utf-8").splitlines() if line]
            else:
                with opened(table) as file:
                    check_size(table, file)
                    rows = file.read(use_threads=False).to_pylist()
            # In version 3, the descriptions are the index of a pandas table; the index may have
            # any name.
            texts = [
                next(value for name, value in sorted(row.items()) if name != _TASK) for row in rows
            ]
            return {int(row[_TASK]): str(text) for row, text in zip(rows, texts, strict=True)}


def is_dataset(root: Path) -> bool:
    """Return True if a folder is a LeRobot dataset, even a damaged one."""
    try:
        has_version = b'"codebase_version"' in (root / _INFO).read_bytes()
    except OSError:
        return False
    return has_version or any((root / "data").glob("chunk-*"))


def list_episodes(
    dataset: LeRobotDataset, label_column: str | None
) -> Iterator[tuple[Path, TableRows, str | None, tuple[LabelSpan, ...]]]:
    """Yield the file, rows, label and label spans of each episode.

    The label is the task of the episode, or comes from the `label_column`. An episode with several
    tasks has label spans instead of a label.
    """
    files = sorted((dataset.root / "data").glob("*/*.parquet"))
    if not files:
        raise RecordingError(f"{dataset.root / 'data'}: contains no Parquet files of episodes.")
    tasks = {} if label_column is not None else dataset.tasks()
    names, pictures = dataset.names(), dataset.pictures()
    seen: dict[int, Path] = {}
    for path in files:
        with opened(path) as file:
            check_size(path, file)
            columns = file.schema_arrow.names
        _check_stamps(path, columns, dataset)
        not_channels = tuple(
            name
            for name in columns
            if (name in _NOT_MEASURED or name.startswith(_FROM_THE_END)) and name != label_column
        )
        for rows, _, label in list_table(path, _EPISODE, None, label_column or _TASK, USUAL_FORM):
            number = _number(path, rows.recording)
            if number in seen:
                raise RecordingError(
                    f"{path}: contains rows of episode {number}, and so does {seen[number]}."
                )
            seen[number] = path
            if path.stem.startswith("episode_") and path.stem != f"episode_{number:06d}":
                raise RecordingError(f"{path}: has rows of episode {number}; rename the file.")
            spans: tuple[LabelSpan, ...] = ()
            if label_column is None:
                spans = () if label else _spans_of_tasks(path, rows, tasks)
                label = None if label is None else _text(path, tasks, label)
            rows = rows._replace(
                not_channels=(*rows.not_channels, *not_channels),
                names=names,
                pictures=pictures,
            )
            yield path, rows, label, spans
    first_missing = next(number for number in itertools.count() if number not in seen)
    if first_missing != dataset.n_episodes or len(seen) != dataset.n_episodes:
        is_missing = first_missing < dataset.n_episodes
        fault = f"no file contains episode {first_missing}" if is_missing else "some are not listed"
        raise RecordingError(
            f"{dataset.path}: lists {dataset.n_episodes} episodes, but {len(files)} file(s) below"
            f" {dataset.root / 'data'} contain {len(seen)}; {fault}. Download the dataset again."
        )


def _check_stamps(path: Path, columns: list[str], dataset: LeRobotDataset) -> None:
    """Raise an error if the rate of an episode's timestamps differs from the dataset's rate."""
    if lacking := sorted({_EPISODE, _TIME}.difference(columns)):
        raise RecordingError(f"{path}: has no column {lacking[0]!r}.")
    with opened(path) as file:
        table = file.read([_EPISODE, _TIME], use_threads=False).select([_EPISODE, _TIME])
    numbers = table[_EPISODE].to_numpy()
    times = table[_TIME].cast(pa.float64()).to_numpy()
    for rows in np.split(np.arange(len(times)), np.flatnonzero(np.diff(numbers)) + 1):
        steps = np.diff(times[rows])
        steps = steps[np.isfinite(steps)]
        if len(steps) < 2:
            continue
        period_s = float(np.median(steps))
        if not abs(period_s * dataset.rate_hz - 1) < _SAME_RATE:
            rate = f"a rate of {1 / period_s:.4g} Hz" if period_s > 0 else "no rate"
            raise RecordingError(
                f"{path}: the timestamps of episode {numbers[rows[0]]} have {rate}, but fps in"
                f" {dataset.path} is {dataset.rate_hz:g}; correct the stamps or fps."
            )


def _number(path: Path, text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise RecordingError(f"{path}: {_EPISODE} {text!r} is not a number.") from error


def _text(path: Path, tasks: Mapping[int, str], number: Any) -> str:
    try:
        return tasks[int(number)]
    except (ValueError, KeyError) as error:
        raise RecordingError(
            f"{path}: {_TASK} {number} is not among the {len(tasks)} tasks of the dataset."
        ) from error


def _spans_of_tasks(path: Path, rows: TableRows, tasks: Mapping[int, str]) -> tuple[LabelSpan, ...]:
    table = recording_table(path, rows)
    numbers = table[_TASK].to_pylist()
    texts = [None if number is None else _text(path, tasks, number) for number in numbers]
    times = table[_TIME].cast(pa.float64()).to_numpy()
    return spans_of_labels(texts, np.asarray(times, np.float64))
