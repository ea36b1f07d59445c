"""Prepare several sensors, each at its own rate, into one file."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, noting
from sensorseq.io.prepared import PreparedFile, SensorWriting, sensors_in, write_sensors
from sensorseq.io.remote import is_url
from sensorseq.io.stored_windows import StoredSamples
from sensorseq.prepare.earlier_file import EarlierFile
from sensorseq.prepare.recording_part import SPOILT
from sensorseq.prepare.request import PreparedSummary, Request
from sensorseq.preprocessing.native_rates import (
    check_recordings,
    options_of_sensor,
    slop_of,
    split_rows,
    with_split_of,
)
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.scale import draw_of, fit_scaler_to_blocks
from sensorseq.readers import RecordingSource, read_source_rate
from sensorseq.readers.source import sources_by_sensor
from sensorseq.sensor_windows import (
    channels_of_sensors,
    common_rows,
    lacks_of,
    lengths_of,
    shared_columns,
)
from sensorseq.text import listed, plural

_BLOCK = 1024  # number of windows copied at a time


def prepare_sensor_files(
    request: Request,
    sources: list[RecordingSource],
    output: str | os.PathLike[str],
    prepare_one: Callable[[Request, list[RecordingSource], Path], PreparedSummary],
    *,
    skip: bool,
) -> PreparedSummary:
    """Prepare each sensor separately, then join their windows in `output`.

    `prepare_one` prepares the file of one sensor; its arguments are a request, the sensor's sources
    and the path of the file. The sensors' files are kept in ``<output>.sensors`` until the end, so
    that an interrupted run can be resumed.
    """
    if is_url(output):
        raise ArgumentError(f"{output}: native_rates needs a local output; upload it afterwards.")
    output, use = Path(output), request.options
    if not sensors_in(output):
        with EarlierFile.at(output):  # refuses another kind of file
            pass
    sources_of = sources_by_sensor(sources, use.channels, salvage=skip)
    uses = {
        name: replace(use, channels=channels)
        for name, channels in channels_of_sensors(use.channels, sources_of).items()
    }
    ids = {
        name: [source.recording_id for source in sensor_sources]
        for name, sensor_sources in sources_of.items()
    }
    check_recordings(ids, use.missing)
    rates = {
        name: float(np.median([*_rates(sensor_sources, uses[name], skip=skip)] or [np.nan]))
        for name, sensor_sources in sources_of.items()
    }
    slop_s = slop_of(use, rates)
    folder = output.with_name(f"{output.name}.sensors")
    folder.mkdir(exist_ok=True)
    files = {name: folder / f"{number}.h5" for number, name in enumerate(sources_of)}
    summaries = {}
    for name, sensor_sources in sources_of.items():
        sensor_request = Request.of(options_of_sensor(uses[name], slop_s), None)
        with noting(f"in the recordings of sensor {name!r}"):
            summaries[name] = prepare_one(sensor_request, sensor_sources, files[name])
    summary = _join(request, files, summaries, output, slop_s)
    for path in files.values():
        path.unlink()
    folder.rmdir()
    return summary


def _rates(
    sources: list[RecordingSource], use: PreparationOptions, *, skip: bool
) -> Iterator[float]:
    for source in sources:
        # Unreadable recordings are reported later, when they are left out.
        with suppress(*SPOILT) if skip else nullcontext():
            yield read_source_rate(source, replace(use, salvage=skip))


def _join(
    request: Request,
    files: Mapping[str, Path],
    summaries: Mapping[str, PreparedSummary],
    output: Path,
    slop_s: float,
) -> PreparedSummary:
    """Join the windows of all sensors in one file, and return a summary of the file."""
    use = request.options
    with ExitStack() as stack:
        opened = {name: stack.enter_context(PreparedFile(path)) for name, path in files.items()}
        windows = {name: file.stored for name, file in opened.items()}
        rows = common_rows(windows, slop_s, use.missing or "error")
        shared = shared_columns(windows, rows)
        columns = shared["y"], shared["groups"], shared["recording_id"]
        split, facts = split_rows(*columns, np.asarray((rows >= 0).all(axis=1)), use)
        facts |= {"sensors": lacks_of(windows, rows)}
        sensors = {}
        for at, name in enumerate(opened):
            sensor_rows = rows[:, at]
            stored: Any = windows[name].X
            samples = replace(stored, rows=sensor_rows)
            scaler, drawn = None, {}
            if split is not None and use.scale is not None:
                train = sensor_rows[(sensor_rows >= 0) & (split == "train")]
                pairs = partial(_pairs, stored[train])
                scaler = fit_scaler_to_blocks(pairs, use.scale).to_dict()
                drawn = draw_of(use.scale, len(train) * windows[name].n_timesteps)
            sensor_windows = replace(
                windows[name],
                X=samples,
                **shared,
                lengths=lengths_of(windows[name], sensor_rows),
                split=split,
                provenance={
                    **windows[name].provenance,
                    **facts,
                    **drawn,
                    "configuration": with_split_of(
                        windows[name].provenance["configuration"], request.configuration
                    ),
                },
            )
            sensors[name] = SensorWriting(sensor_windows, _blocks(samples), scaler)
        write_sensors(output, sensors)
        first = next(iter(sensors.values())).windows
    return _summary(summaries, first.counts(), facts, output)


def _blocks(samples: StoredSamples) -> Iterator[NDArray[np.float32]]:
    with samples.opened() as reader:
        for at in range(0, len(samples), _BLOCK):
            yield reader.read(np.arange(at, min(at + _BLOCK, len(samples))))


def _pairs(samples: StoredSamples) -> Iterator[tuple[NDArray[np.float32], None]]:
    for X in _blocks(samples):
        yield X, None


def _summary(
    summaries: Mapping[str, PreparedSummary],
    counts: dict[str, dict[str, int]],
    facts: Mapping[str, Any],
    output: Path,
) -> PreparedSummary:
    n_windows = sum(sum(by_class.values()) for by_class in counts.values())
    first = next(iter(summaries.values()))
    lines = [
        f"{name}: {summary.window_samples} samples at {summary.sample_rate_hz:g} Hz,"
        f" {plural(len(summary.channels), 'channel')} ({listed(summary.channels, 6)})"
        for name, summary in summaries.items()
    ]
    for name, counted in facts["sensors"].items():
        if counted["lacks"]:
            lacks = plural(len(counted["lacks"]), "recording")
            lines.append(f"{name} is missing in {lacks}: {listed(counted['lacks'], 5)}")
        if counted["n_aligned"] < n_windows:
            lines.append(f"{name} is missing in {n_windows - counted['n_aligned']} windows")
        if counted["n_aligned"] < counted["n_windows"]:
            n_left_out = counted["n_windows"] - counted["n_aligned"]
            lines.append(
                f"{n_left_out} windows of {name} are left out, because another sensor lacks them"
            )
    return replace(
        first,
        path=output,
        counts=counts,
        subjects=facts.get("split", {}).get("subjects", ""),
        n_windows=n_windows,
        n_recordings=max(summary.n_recordings for summary in summaries.values()),
        dropped=[entry for summary in summaries.values() for entry in summary.dropped],
        size_bytes=output.stat().st_size,
        imbalance=facts.get("split", {}).get("imbalance", ""),
        derived=[line for summary in summaries.values() for line in summary.derived],
        odd_values=[
            f"{name}: {text}" for name, summary in summaries.items() for text in summary.odd_values
        ],
        action="written",
        changes=[],
        sensors=lines,
    )
