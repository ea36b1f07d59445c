"""The prepared file: windows with their split, statistics, indices and provenance, in HDF5."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import InputError, PreparedFileError, WindowError
from sensorseq.io import checksums, hdf5_file
from sensorseq.io.checksums import damaged
from sensorseq.io.stored_windows import StoredSamples, version_of
from sensorseq.sensor_windows import SensorWindows
from sensorseq.windows import PARTS, WindowSet


def _read_labels(file: Any) -> NDArray[Any]:
    classes = hdf5_file.read_array(file["classes"])
    codes = np.asarray(file["y"][()])
    if codes.size and not 0 <= codes.min() <= codes.max() < len(classes):
        raise KeyError("y contains a code without a class")
    labels: NDArray[Any] = classes[codes]
    return labels


def _storable(values: ArrayLike, name: str) -> NDArray[Any]:
    """Return strings or numbers as an array that can be stored without pickling."""
    array = np.asarray(values)
    if array.dtype.kind == "O" and all(isinstance(value, str) for value in array.tolist()):
        array = array.astype(np.str_)
    if array.dtype.kind not in "Ubiuf":
        raise PreparedFileError(
            f"{name} of type {array.dtype} cannot be stored; it must contain strings or numbers."
        )
    return array


FORMAT = "sensorseq.windows"
SENSORS_FORMAT = "sensorseq.sensors"  # each sensor has a group, laid out like a file of one sensor
VERSION = 2  # files of this or a later version end with their checksums


def write_windows(
    path: str | os.PathLike[str],
    windows: WindowSet,
    *,
    scaler: Mapping[str, NDArray[Any]] | None = None,
    sample_indices: ArrayLike | None = None,
) -> None:
    """Write a prepared file, which gets its name only when it is complete.

    The same windows give the same bytes.

    Parameters
    ----------
    path : path-like
        Name of the file; an existing file is replaced.
    windows : WindowSet
        Unscaled and unbalanced windows. `provenance` must contain only plain values.
    scaler : mapping of str to ndarray, optional
        Statistics fitted on the training windows, as returned by `Scaler.to_dict`.
    sample_indices : array-like of int, optional
        Sorted positions of the training windows on which a model is fitted. If balancing was
        requested, these windows are balanced.
    """
    write_window_blocks(
        path,
        windows,
        [np.asarray(windows.X)] if len(windows) else [],
        scaler=scaler,
        sample_indices=sample_indices,
    )


def write_window_blocks(
    path: str | os.PathLike[str],
    windows: WindowSet,
    X_blocks: Iterable[NDArray[np.float32]],
    *,
    scaler: Mapping[str, NDArray[Any]] | None = None,
    sample_indices: ArrayLike | None = None,
    record: Callable[[], Mapping[str, Any]] | None = None,
) -> None:
    """Write a prepared file whose samples arrive in blocks of windows; see `write_windows`.

    Everything in `windows` except the samples is used. `record` is called after the last block; the
    plain values that it returns are stored for `PreparedFile.record`.
    """
    content = SensorWriting(windows, X_blocks, scaler)
    with hdf5_file.writing(Path(path)) as writer:
        _write(writer, Path(path), content, sample_indices=sample_indices, record=record)


class _SeveralSensorsError(PreparedFileError):
    """Raised if a file contains windows of several sensors, but a single sensor is expected."""

    def __init__(self, message: str, sensors: tuple[str, ...]) -> None:
        super().__init__(message)
        self.sensors = sensors


class SensorWriting(NamedTuple):
    """The windows of one sensor to be written: facts about them, their samples, and statistics."""

    windows: WindowSet
    X_blocks: Iterable[NDArray[np.float32]]
    scaler: Mapping[str, NDArray[Any]] | None = None


def write_sensors(path: str | os.PathLike[str], sensors: Mapping[str, SensorWriting]) -> None:
    """Write a prepared file of several sensors; rows with the same index have the same time."""
    with hdf5_file.writing(Path(path)) as writer:
        writer.attribute("format", SENSORS_FORMAT)
        writer.attribute("version", VERSION)
        writer.array("sensors", np.array(list(sensors), dtype=np.str_))
        for number, content in enumerate(sensors.values()):
            _write(writer.group(f"sensor_{number}"), Path(path), content)


def _write(
    writer: hdf5_file.Hdf5Writer,
    file: Path,
    content: SensorWriting,
    *,
    sample_indices: ArrayLike | None = None,
    record: Callable[[], Mapping[str, Any]] | None = None,
) -> None:
    windows = content.windows
    writer.attribute("format", FORMAT)
    writer.attribute("version", VERSION)
    if windows.sample_rate_hz is not None:
        writer.attribute("sample_rate_hz", float(windows.sample_rate_hz))
    writer.array("channels", np.array(windows.channels, dtype=np.str_))
    writer.array("lengths", np.asarray(windows.lengths, np.int64))
    if windows.y is not None:
        classes, codes = np.unique(_storable(windows.y, "y"), return_inverse=True)
        writer.array("y", codes.astype(np.int32))
        writer.array("classes", classes)
    for name in _COLUMNS:
        values = getattr(windows, name)
        if values is not None:
            writer.array(name, _storable(values, name))
    if windows.split is not None:
        writer.choices("split", windows.split, PARTS)
    for name, array in (content.scaler or {}).items():
        writer.array(f"scaler/{name}", array)
    if sample_indices is not None:
        writer.array("sample_indices", np.asarray(sample_indices, np.int64))
    try:
        writer.json("provenance", dict(windows.provenance))
    except (TypeError, ValueError) as error:
        raise PreparedFileError(
            f"{file}: provenance has a value that cannot be stored ({error}); use plain values."
        ) from error
    writer.blocks("X", windows.shape, np.dtype(np.float32), content.X_blocks)
    if record is not None:
        writer.json("record", record())


_COLUMNS = ("groups", "recording_id", "start_s")


def read_windows(
    path: str | os.PathLike[str], part: str | None = None, *, verify: bool | None = None
) -> WindowSet:
    """Read all windows or one part of a prepared file; for `verify`, see `PreparedFile`."""
    return _read(path, part, verify, None)


def read_one_or_several(path: str | os.PathLike[str]) -> WindowSet | SensorWindows:
    """Read all windows of a prepared file with one or several sensors."""
    if sensors := sensors_in(path):
        return read_sensor_windows(path, sensors)
    return read_windows(path)


def read_sensor_windows(path: str | os.PathLike[str], sensors: Iterable[str]) -> SensorWindows:
    """Read all windows of a prepared file with several sensors; see also `sensors_in`."""
    return SensorWindows({name: _read(path, None, None, name) for name in sensors})


def sensors_in(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of the sensors in a prepared file; empty if it has only one sensor."""
    try:
        PreparedFile(path, whole=False).close()
    except _SeveralSensorsError as error:
        return error.sensors
    except PreparedFileError:  # reading the file raises this error again
        return ()
    return ()


def is_hdf5(file: Path) -> bool:
    """Test whether a file is an HDF5 file by its first bytes, or else by its name."""
    try:
        with file.open("rb") as opened:
            return opened.read(8) == b"\x89HDF\r\n\x1a\n" or file.suffix in (".h5", ".hdf5")
    except OSError as error:
        raise PreparedFileError(f"{file}: cannot be read ({error.strerror}).") from error


def is_prepared(path: Path) -> bool:
    """Test whether a file contains prepared windows."""
    if not (path.is_file() and is_hdf5(path)):
        return False
    try:
        PreparedFile(path).close()
    except PreparedFileError:
        return bool(sensors_in(path))
    return True


def refuse_prepared(path: Path, way_out: str) -> None:
    """Raise an error if the file contains prepared windows; the message ends with `way_out`."""
    if is_prepared(path):
        raise InputError(f"{path} contains prepared windows; {way_out}")


def _read(
    path: str | os.PathLike[str], part: str | None, verify: bool | None, sensor: str | None
) -> WindowSet:
    with PreparedFile(path, verify=verify, sensor=sensor) as prepared:
        return prepared.windows() if part is None else prepared.part(part)


class PreparedFile:
    """An open prepared file; facts about its windows are in memory, samples are read on request.

    Use it as a context manager. `stored` contains all windows, but their samples stay in the file.
    `scaler` contains the statistics for `Scaler.from_dict`. `sample_indices` contains the positions
    of the training windows on which a model is fitted. A `PreparedFileError` is raised if the file
    is missing, truncated, damaged, from another program or from a newer version.

    A file of up to 1 GiB is verified against its checksums when it is opened. A larger file, or a
    file opened with ``whole=False``, is verified while it is read. With ``verify=False``, the file
    is not verified, and damage can crash the process or change results unnoticed. By default, files
    are verified, except within `unverified`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        verify: bool | None = None,
        whole: bool = True,
        sensor: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.verified = checksums.verifying.get() if verify is None else verify
        with ExitStack() as stack:
            try:
                self._file, self._checked = stack.enter_context(
                    hdf5_file.opened_prepared(self.path, verify=self.verified, whole=whole)
                )
                self._file = self._of_sensor(self._file, sensor)
                self._check_version(self._file.attrs)
                self._read_columns()
            except PreparedFileError:
                raise
            except (KeyError, ValueError, TypeError, OSError) as error:
                raise self._damaged(error) from error
            self._stack = stack.pop_all()

    def __enter__(self) -> "PreparedFile":
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.stored)

    def verify(self) -> None:
        """Verify everything not yet verified; raise an error if the file is damaged."""
        if self._checked is None:
            raise PreparedFileError(f"{self.path}: was opened without verification.")
        self._checked.verify()

    def record(self) -> dict[str, Any]:
        """Return the facts that `prepare` stored about its inputs; empty if there are none."""
        try:
            return dict(hdf5_file.read_json(self._file["record"])) if "record" in self._file else {}
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            raise self._damaged(error) from error

    def close(self) -> None:
        """Close the file; data already read can still be used."""
        self._stack.close()

    def windows(self) -> WindowSet:
        """Return all windows."""
        return replace(self.stored, X=self.samples(np.arange(len(self))))

    def part(self, name: str) -> WindowSet:
        """Return the windows of one part, without reading the other parts."""
        return self.take(self.rows(name))

    def rows(self, part: str) -> NDArray[np.int64]:
        """Return the positions of one part's windows."""
        if part not in PARTS:
            raise WindowError(f"part {part!r} is not known; expected {', '.join(PARTS)}.")
        if self.stored.split is None:
            raise WindowError(
                f"{self.path}: its windows have no split; prepare the recordings with a split."
            )
        return np.flatnonzero(self.stored.split == part)

    def take(self, rows: ArrayLike) -> WindowSet:
        """Return the windows at these positions (or selected by a mask), in the given order."""
        wanted = np.arange(len(self))[np.asarray(rows)]
        order, inverse = np.unique(wanted, return_inverse=True)
        X = self.samples(order)
        if not np.array_equal(inverse, np.arange(len(order))):
            X = X[inverse]
        return replace(self.stored.take(wanted), X=X)

    def samples(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the samples at increasing positions; adjacent windows are read together."""
        try:
            return np.asarray(self._rows.read(rows), np.float32)
        except (OSError, RuntimeError) as error:
            raise self._damaged(error) from error

    def _of_sensor(self, file: Any, sensor: str | None) -> Any:
        """Return the HDF5 group of a sensor, or the file itself if it contains a single sensor."""
        if file.attrs.get("format") != SENSORS_FORMAT:
            return file
        names = hdf5_file.read_array(file["sensors"]).tolist()
        if sensor is None:
            raise _SeveralSensorsError(
                f"{self.path}: contains windows of several sensors, each at its own rate"
                f" ({', '.join(names)}), but one sensor is expected. SensorFusionClassifier,"
                " `train`, `evaluate` and `info` accept this file, and `inspect --sensor` reads one"
                " of its sensors; for everything else, prepare the files of one sensor.",
                tuple(names),
            )
        return file[f"sensor_{names.index(sensor)}"]

    def _check_version(self, facts: Mapping[str, Any]) -> None:
        stored = facts.get("format")
        if stored != FORMAT:
            raise PreparedFileError(
                f"{self.path}: is an HDF5 file of a different kind (format {stored!r}, expected"
                f" {FORMAT!r}); give a file written by `sensorseq prepare`."
            )
        version = int(facts.get("version", 0))
        if version != VERSION:
            raise PreparedFileError(
                f"{self.path}: has format version {version}; this version of sensorseq reads"
                f" {VERSION}. Update sensorseq, or prepare the recordings again."
            )

    def _read_columns(self) -> None:
        file = self._file
        X = file["X"]
        if X.ndim != 3:
            raise KeyError(f"X has shape {X.shape}")
        rate = file.attrs.get("sample_rate_hz")
        samples: Any = StoredSamples(
            self.path,
            np.arange(X.shape[0]),
            n_timesteps=X.shape[1],
            n_channels=X.shape[2],
            chunk_windows=(X.chunks or (1,))[0],
            version=version_of(self.path),
            verify=self.verified,
            group="" if file.name == "/" else f"{file.name}/",
        )
        self.stored = WindowSet(
            samples,
            np.asarray(file["lengths"][()]),
            y=_read_labels(file) if "y" in file else None,
            split=hdf5_file.read_choices(file["split"]) if "split" in file else None,
            channels=tuple(hdf5_file.read_array(file["channels"]).tolist()),
            sample_rate_hz=None if rate is None else float(rate),
            provenance=hdf5_file.read_json(file["provenance"]),
            **{name: hdf5_file.read_array(file[name]) for name in _COLUMNS if name in file},
        )
        self._rows = hdf5_file.RowReader(X, self._checked)
        self.scaler: dict[str, NDArray[Any]] | None = None
        if "scaler" in file:
            stored = file["scaler"].items()
            self.scaler = {name: np.asarray(dataset[()]) for name, dataset in stored}
        self.sample_indices: NDArray[np.int64] | None = None
        if "sample_indices" in file:
            self.sample_indices = np.asarray(file["sample_indices"][()], np.int64)

    def _damaged(self, error: BaseException) -> PreparedFileError:
        return error if isinstance(error, PreparedFileError) else damaged(self.path, error)
