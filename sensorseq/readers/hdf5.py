"""Read recordings from HDF5 files with a simple layout."""

from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from sensorseq.errors import RecordingError
from sensorseq.io import isolated
from sensorseq.io.scratch import Rows, blocks, even_stamps, folder_for
from sensorseq.options import ReadOptions, takes_read_options
from sensorseq.readers.columns import (
    FILE_OPTIONS,
    Columns,
    FileContent,
    check_label_column,
    check_timestamps,
    find_time_column,
    is_missing,
    make_recording,
    numbers_of_texts,
    texts_of_numbers,
)
from sensorseq.readers.stamps import Stamps, seconds_of
from sensorseq.recording import Recording


@takes_read_options(*FILE_OPTIONS, "scratch")
def read_hdf5(
    path: str | PathLike[str],
    options: ReadOptions,
    *,
    recording_id: str | None = None,
    group: str = "",
    label: str | None = None,
) -> Recording:
    """Read one recording from an HDF5 file.

    The file's root, or its only group, contains either

    - a 1-D dataset for each channel and one for time, all of equal length; or
    - one 2-D dataset (n_samples, n_columns) with an attribute ``columns`` that lists the column
      names, one of which is the time (or time is a separate 1-D dataset).

    An attribute ``sample_rate_hz`` of the file, group or 2-D dataset can replace the time stamps.
    An attribute ``unit`` of a 1-D dataset is the channel's unit. Datasets of words are ignored and
    listed in ``attributes["dropped_columns"]``.

    Parameters
    ----------
    path, recording_id, group, label
        As in `read_csv`.
    options : ReadOptions, optional
        `time_column`, `time_unit`, `units`, `repair_stamps`, `label_column` and `scratch` are used,
        and can be given by name.

    Raises
    ------
    RecordingError
        If the file is missing, truncated, not HDF5 or has another layout.
    """
    time_column, label_column = options.time_column, options.label_column
    path = Path(path)
    if label_column is not None and label_column == time_column:
        check_label_column(path, [label_column], label_column, label_column, label)
    with isolated.opened(path, "an HDF5 recording") as file:
        holder = _holder(path, file)
        folder = None if options.scratch is None else Path(options.scratch)
        columns, stored_units, rate_hz, labels = _read_columns(
            path, file, holder, label_column, folder
        )
        if rate_hz is not None and time_column is None and not {"time", "time_s"} & set(columns):
            time_name = "sample_rate_hz"
            n_samples = max((len(v) for v in columns.values() if v is not None), default=0)
            stamps = Stamps(
                even_stamps(0.0, rate_hz, n_samples, folder_for(8 * n_samples, folder)), {}
            )
        else:
            time_name = find_time_column(path, columns, time_column)
            numbers = columns.pop(time_name)
            dataset = holder.datasets.get(time_name)
            stamps = _as_stamps(path, time_name, numbers, dataset, options.time_unit, folder)
            stored_units.pop(time_name, None)
    names = [*columns, time_name, *([] if labels is None else [str(label_column)])]
    check_label_column(path, names, label_column, time_name, label)
    if labels is None and label_column is not None:  # a column of a 2-D dataset
        numbers = columns.pop(label_column)
        labels = [] if numbers is None else texts_of_numbers(numbers)
    content = FileContent(columns, stamps.seconds, time_name, labels, stored_units, stamps.facts)
    return make_recording(path, content, options, recording_id, group, label)


def read_hdf5_timestamps(path: Path, options: ReadOptions) -> NDArray[np.float64]:
    """Read the time stamps of an HDF5 recording; see `read_hdf5`."""
    recording = read_hdf5(path, replace(options, units=None, label_column=None))
    return check_timestamps(path, recording.timestamps_s, options.time_column or "time")


def _as_stamps(
    path: Path,
    name: str,
    numbers: NDArray[np.float64] | None,
    dataset: Any,
    time_unit: str | None,
    scratch: Path | None,
) -> Stamps:
    """Return the stamps of a dataset, or of a column (of no dataset) of a 2-D one."""
    if dataset is not None and dataset.ndim == 1:
        if dataset.dtype.kind in "iu":  # not as floats: nanoseconds since 1970 do not fit
            return seconds_of(path, name, _values(dataset, dataset.dtype, scratch), time_unit)
        if numbers is None and dataset.is_text:
            return seconds_of(path, name, dataset[()].tolist(), time_unit)
    if numbers is None:
        raise RecordingError(f"{path}: dataset {name!r} holds no numbers; seconds are needed.")
    return seconds_of(path, name, numbers, time_unit)


def _holder(path: Path, file: Any) -> Any:
    """Return what contains the datasets: the file, or its only group."""
    if file.datasets:
        return file
    groups = file.groups
    if len(groups) != 1:
        names = ", ".join(list(groups)[:6]) or "nothing"
        raise RecordingError(
            f"{path}: the root has no dataset; it holds {names}. Store one recording per file,"
            " with its datasets in the root or in a single group."
        )
    return next(iter(groups.values()))


def _read_columns(
    path: Path, file: Any, holder: Any, label_column: str | None, scratch: Path | None
) -> tuple[Columns, dict[str, str], float | None, list[str | None] | None]:
    """Return columns by name (None: no numbers), units, a rate and labels if those are stored."""
    found = holder.datasets
    rate_hz = _rate(path, file, holder, *found.values())
    columns: Columns = {}
    units: dict[str, str] = {}
    labels: list[str | None] | None = None
    for name, dataset in found.items():
        if dataset.ndim == 0:
            continue  # a fact about the recording, not a signal
        if dataset.ndim == 1 and name == label_column:
            labels = (
                dataset[()].tolist()
                if dataset.is_text
                else texts_of_numbers(dataset[()].astype(np.float64))
            )
            continue
        if dataset.ndim > 2:
            raise RecordingError(
                f"{path}: dataset {name!r} has {dataset.ndim} dimensions; use 1-D datasets, or one"
                " of shape (n_samples, n_columns)."
            )
        new: Columns = {}
        if dataset.ndim == 2:
            new = _split_columns(path, name, dataset, scratch)
        else:
            new[name] = _as_numbers(path, name, dataset, scratch)
            unit = dataset.attrs.get("unit")
            if unit and new[name] is not None:
                units[name] = unit[0]
        for column in new:
            if column in columns:
                raise RecordingError(f"{path}: channel {column!r} appears more than once.")
        columns |= new
    lengths = {name: len(values) for name, values in columns.items() if values is not None}
    if len(set(lengths.values())) > 1:
        (one, short), (other, long) = sorted(lengths.items(), key=lambda item: item[1])[
            :: len(lengths) - 1
        ]
        raise RecordingError(
            f"{path}: {one!r} has {short} samples and {other!r} {long}; store channels of different"
            " rates in separate files and join them with `pair`."
        )
    return columns, units, rate_hz, labels


def _split_columns(path: Path, name: str, dataset: Any, scratch: Path | None) -> Columns:
    names = dataset.attrs.get("columns")
    if names is None:
        raise RecordingError(
            f"{path}: dataset {name!r} has shape {dataset.shape} but no attribute 'columns' with"
            " the column names."
        )
    if len(names) != dataset.shape[1] or len(set(names)) != len(names):
        raise RecordingError(
            f"{path}: dataset {name!r} has {dataset.shape[1]} columns, but its attribute 'columns'"
            f" lists {len(set(names))} different names."
        )
    if dataset.dtype.kind not in "fiub":
        return dict.fromkeys(names)
    table = _values(dataset, np.float64, scratch)
    return {
        column: None if is_missing(table[:, at]) else table[:, at]
        for at, column in enumerate(names)
    }


def _as_numbers(
    path: Path, name: str, dataset: Any, scratch: Path | None
) -> NDArray[np.float64] | None:
    if dataset.is_text:
        return numbers_of_texts(path, name, dataset[()].tolist())
    if dataset.dtype.kind not in "fiub":
        return None
    values = _values(dataset, np.float64, scratch)
    return None if is_missing(values) else values


def _values(dataset: Any, dtype: DTypeLike, scratch: Path | None) -> NDArray[Any]:
    """Return the numbers of a dataset: in memory, or if they are many, on disk."""
    folder = folder_for(8 * dataset.size, scratch)
    if folder is None:
        return np.asarray(dataset[()], dtype)
    rows = Rows(folder, dtype, *dataset.shape[1:])
    for at, stop in blocks(len(dataset), n_columns=dataset.size // len(dataset)):
        rows.append(dataset[at:stop])
    return rows.as_array()


def _rate(path: Path, *holders: Any) -> float | None:
    for holder in holders:
        given = holder.attrs.get("sample_rate_hz")
        if given is not None:
            rate_hz = float(given)
            if not (np.isfinite(rate_hz) and rate_hz > 0):
                raise RecordingError(
                    f"{path}: the attribute 'sample_rate_hz' is {rate_hz!r}, not a positive rate."
                )
            return rate_hz
    return None
