"""Read raw recordings in the same way as a model's training recordings, and replay them."""

import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, InputError, MissingChannelError, RecordingError, noting
from sensorseq.io.pair_pattern import PairPattern
from sensorseq.io.prepared import refuse_prepared
from sensorseq.options import CSV_FORM, ReadOptions
from sensorseq.prediction.inputs import check_sensor
from sensorseq.prediction.live import AnySamples, Samples, SensorSamples
from sensorseq.prediction.model import TrainedModel
from sensorseq.preprocessing.cutting import RecordingPlan
from sensorseq.preprocessing.options import READ_AS_IN_TRAINING, PreparationOptions
from sensorseq.readers import RecordingSource, find_recordings, read_source
from sensorseq.readers.source import sources_by_sensor
from sensorseq.readers.suffixes import CSV_SUFFIXES, TEXT_SUFFIXES, suffix_of
from sensorseq.recording import Recording
from sensorseq.sensor_windows import UNNAMED

_REPLAY_S = 0.1  # duration of the samples that are pushed together


def plans_of(
    model: TrainedModel, hop_s: float | None, by_name: ReadOptions
) -> tuple[dict[str, RecordingPlan], PreparationOptions]:
    """Return the plan for each sensor's recordings, and the options for reading, as in training."""
    plans = {name: of_sensor.plan(hop_s) for name, of_sensor in model.inputs.items()}
    first, *_ = model.inputs.values()
    reading = PreparationOptions.recorded(first.preparation or {})
    values = {name: getattr(by_name, name) for name in READ_AS_IN_TRAINING}
    changes = {name: value for name, value in values.items() if value is not None}
    if changes.get("no_header") is False and "names" not in changes:
        changes["names"] = None  # names from training apply only to files without a header line
    return plans, replace(reading, **changes)


def _may_be_csv(path: Path) -> bool:
    paths = path.rglob("*") if path.is_dir() else [path]
    suffixes = {suffix_of(file) for file in paths} - {None}
    # Text files beside recordings of other kinds are notes.
    return bool(suffixes & {*CSV_SUFFIXES} - {*TEXT_SUFFIXES}) or suffixes <= {*TEXT_SUFFIXES}


def find_sources(
    model: TrainedModel, path: Path, reading: PreparationOptions
) -> list[RecordingSource]:
    """List the recordings at a path; for one sensor's file, also find the other sensors' files.

    If the model tolerates missing sensors, patterns without a match are ignored.
    """
    may_lack = model.names_sensors and model.missing != "error"
    if may_lack and reading.files is not None:
        folder = path if path.is_dir() else path.parent
        names = [file.name for file in folder.rglob("*")]
        matching = [
            pattern
            for pattern in reading.files
            if any(fnmatchcase(name, pattern) for name in names)
        ]
        reading = replace(reading, files=matching or reading.files)
    refuse_prepared(path, "give raw recordings, or score these windows with `sensorseq evaluate`.")
    files, pair = reading.files, reading.pair
    if not _may_be_csv(path):  # options about the CSV format are rejected for other files
        unset: dict[str, Any] = dict.fromkeys(CSV_FORM)
        reading = replace(reading, **unset)
    as_written = ("sensor_column", *CSV_FORM)
    form, named = reading.only(*as_written), reading.only("files", "pair", *as_written)
    if path.is_dir():
        try:
            return find_recordings(path, named)
        except ArgumentError as error:
            raise RecordingError(
                f"{path}: no recording in this folder is named like the training data: {error} If"
                " the files have different names, give the files instead of the folder."
            ) from error
    if reading.recording_column is not None:
        with suppress(RecordingError):  # a file with a single recording has no such column
            return find_recordings(path, reading.only("recording_column", *as_written))
    if pair is None or not path.exists():
        return find_recordings(path, form)
    pattern = PairPattern(pair)
    n_above = pattern.depth - 1 - pattern.sensor_depth
    parents = path.parents if len(path.parents) > n_above else path.absolute().parents
    siblings = find_recordings(parents[n_above], replace(named, manifest=False))
    resolved = path.resolve()
    sources = [
        source for source in siblings if resolved in (file.resolve() for file in source.paths)
    ]
    if not sources:
        raise RecordingError(
            f"{path}: does not match the file names of the training recordings"
            f" ({', '.join(files or ['any'])}, paired by {pair})."
        )
    return sources


def recordings_of_sensors(
    source: RecordingSource, plans: Mapping[str, RecordingPlan], reading: PreparationOptions
) -> dict[str, Recording]:
    """For each sensor in the source, read the channels that the model's preparation uses."""
    if UNNAMED in plans:
        return {UNNAMED: read_recording(source, plans[UNNAMED], reading)}
    recordings = {}
    topics = [name for plan in plans.values() for name in plan.options.channels or ()]
    for name, (part,) in sources_by_sensor([source], topics if source.is_log else None).items():
        with noting(f"while reading {part.paths[0]}"):
            check_sensor(name, list(plans))
            recordings[name] = read_recording(part, plans[name], reading)
    return recordings


def read_recording(
    source: RecordingSource, pipeline: RecordingPlan, reading: PreparationOptions
) -> Recording:
    """Read a recording with only the channels that the model's preparation uses."""
    used = pipeline.options.channels or ()
    needed = f"the model needs {', '.join(used)}; if other columns mean the same, rename them"
    with noting(needed, MissingChannelError):
        return _read_channels(source, pipeline, reading)


def _read_channels(
    source: RecordingSource, pipeline: RecordingPlan, reading: PreparationOptions
) -> Recording:
    used = pipeline.options.channels or ()
    units = {name: unit for name, unit in (reading.units or {}).items() if name in used}
    options = replace(reading, units=units, channels=pipeline.options.channels)
    if options.label_column is not None:
        # A label column is not a channel, so it may contain text. If reading with this option
        # fails, for example because the recording lacks the column, the recording is read again
        # without the option.
        with suppress(RecordingError):
            unlabeled = replace(source, label=None, label_spans=())
            return read_source(unlabeled, options)
    return read_source(source, replace(options, label_column=None))


def samples_of_recording(
    model: TrainedModel, path: Path, time_column: str | None, speed: float
) -> Iterator[AnySamples]:
    """Replay a recording in small steps at `speed` times real time; 0 means without waiting."""
    plans, reading = plans_of(model, None, ReadOptions(time_column=time_column))
    if path.is_dir() and not (path / "metadata.yaml").is_file():  # a bag is a folder with this file
        raise InputError(f"{path}: is a folder; give one recording to --replay.")
    sources = find_sources(model, path, reading)
    if len(sources) != 1:
        raise InputError(
            f"{path} contains {len(sources)} recordings; give one of them to --replay."
        )
    recordings = recordings_of_sensors(sources[0], plans, reading)
    options = next(iter(plans.values())).options
    # Sensors take turns in small steps, because a sensor that is a hop behind may count as missing.
    step_s = min(_REPLAY_S, (options.hop_s or options.window_s) / 2)
    yield from _in_steps(recordings, step_s, speed)


def _in_steps(
    recordings: dict[str, Recording], step_s: float, speed: float
) -> Iterator[AnySamples]:
    stamps = {name: recording.timestamps_s for name, recording in recordings.items()}
    start_s = float(min(times[0] for times in stamps.values()))
    last_s = float(max(times[-1] for times in stamps.values()))
    began_s = time.monotonic()
    step_of = {name: (times - start_s) // step_s for name, times in stamps.items()}
    for step in np.unique(np.concatenate([*step_of.values()])).tolist():
        if speed > 0:
            due_s = min((step + 1) * step_s, last_s - start_s) / speed
            time.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
        for name, recording in recordings.items():
            first, stop = np.searchsorted(step_of[name], [step, step + 1])
            if stop > first:
                values = recording.values[first:stop].astype(np.float64, copy=False)
                times = stamps[name][first:stop]
                yield SensorSamples(name, values, times) if name else Samples(values, times)
