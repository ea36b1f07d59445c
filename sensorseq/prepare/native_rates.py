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

from sensorseq.base.text import listed, plural
from sensorseq.io.prepared import PreparedFile, SensorWriting, sensors_in, write_sensors
from sensorseq.io.stored_windows import StoredSamples
from sensorseq.prepare.earlier_file import EarlierFile
from sensorseq.prepare.recording_part import SPOILT
from sensorseq.prepare.summary import PreparedSummary
from sensorseq.preprocessing.native_rates import prepare_sensors
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.scale import draw_of, fit_scaler_to_blocks
from sensorseq.readers import RecordingSource, read_source_rate
from sensorseq.readers.source import sources_by_sensor
from sensorseq.sensor_windows import SensorWindows
from sensorseq.windows import WindowSet

_BLOCK = 1024  # number of windows copied at a time


def prepare_sensor_files(
    plan: PreparationPlan,
    sources: list[RecordingSource],
    output: str | os.PathLike[str],
    prepare_one: Callable[[PreparationPlan, list[RecordingSource], Path], PreparedSummary],
    *,
    skip: bool,
) -> PreparedSummary:
    """Prepare each sensor separately, then join their windows in `output`.

    `prepare_one` prepares the file of one sensor; its arguments are a plan, the sensor's sources
    and the path of the file. The sensors' files are kept in ``<output>.sensors`` until the end, so
    that an interrupted run can be resumed.
    """
    output, use = Path(output), plan.learning
    if not sensors_in(output):
        with EarlierFile.at(output):  # refuses another kind of file
            pass
    folder = output.with_name(f"{output.name}.sensors")
    sources_of = sources_by_sensor(sources, use.channels, salvage=skip)
    paths = {name: folder / f"{number}.h5" for number, name in enumerate(sources_of)}
    summaries = {}
    with ExitStack() as opened:

        def prepare_sensor(
            name: str, of_one: PreparationPlan, of_sensor: list[RecordingSource]
        ) -> WindowSet:
            folder.mkdir(exist_ok=True)
            summaries[name] = prepare_one(of_one, of_sensor, paths[name])
            return opened.enter_context(PreparedFile(paths[name])).stored

        rates_of = partial(_rates, skip=skip)
        windows = prepare_sensors(plan, sources_of, rates_of, prepare_sensor)
        write_sensors(output, {name: _writing(windows[name], use) for name in windows})
    for name in summaries:
        paths[name].unlink()
    folder.rmdir()
    return _summary(summaries, windows, output)


def _rates(use: PreparationOptions, sources: list[RecordingSource], *, skip: bool) -> list[float]:
    rates = []
    for source in sources:
        # Unreadable recordings are reported later, when they are left out.
        with suppress(*SPOILT) if skip else nullcontext():
            rates.append(read_source_rate(source, replace(use, salvage=skip)))
    return rates


def _writing(windows: WindowSet, use: PreparationOptions) -> SensorWriting:
    """Return what to write for one sensor, with a scaler that is fitted to its training windows."""
    samples: Any = windows.X
    scaler = None
    if windows.split is not None and use.scale is not None:
        train = samples[(samples.rows >= 0) & (windows.split == "train")]
        scaler = fit_scaler_to_blocks(partial(_pairs, train), use.scale).to_dict()
        drawn = draw_of(use.scale, len(train) * windows.n_timesteps)
        windows = replace(windows, provenance={**windows.provenance, **drawn})
    return SensorWriting(windows, _blocks(samples), scaler)


def _blocks(samples: StoredSamples) -> Iterator[NDArray[np.float32]]:
    with samples.opened() as reader:
        for at in range(0, len(samples), _BLOCK):
            yield reader.read(np.arange(at, min(at + _BLOCK, len(samples))))


def _pairs(samples: StoredSamples) -> Iterator[tuple[NDArray[np.float32], None]]:
    for X in _blocks(samples):
        yield X, None


def _summary(
    summaries: Mapping[str, PreparedSummary], windows: SensorWindows, output: Path
) -> PreparedSummary:
    n_windows, facts = len(windows), windows.provenance
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
        counts=next(iter(windows.sensors.values())).counts(),
        subjects=facts.get("split", {}).get("subjects", ""),
        n_windows=n_windows,
        n_recordings=max(summary.n_recordings for summary in summaries.values()),
        dropped=[entry for summary in summaries.values() for entry in summary.dropped],
        size_bytes=output.stat().st_size,
        imbalance=facts.get("split", {}).get("imbalance", ""),
        odd_values=[
            f"{name}: {text}" for name, summary in summaries.items() for text in summary.odd_values
        ],
        action="written",
        changes=[],
        sensors=lines,
    )
