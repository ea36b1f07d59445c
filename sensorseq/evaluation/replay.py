"""Replay a recording as a stream of samples."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.errors import InputError
from sensorseq.evaluation.predict import find_sources, read_recording, recordings_of_sensors
from sensorseq.options import CSV_FORM
from sensorseq.prediction.decisions import ClassPredictor
from sensorseq.prediction.live import AnySamples, Samples, SensorSamples
from sensorseq.prediction.stream import prediction_plan
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.readers import find_recordings
from sensorseq.recording import Recording

_REPLAY_S = 0.1  # duration of the samples that are pushed together


def samples_of_recording(
    model: ClassPredictor, path: Path, time_column: str | None, speed: float
) -> Iterator[AnySamples]:
    """Replay a recording in small steps at `speed` times its pace; 0 means without waiting."""
    models: dict[str, Any] = dict(getattr(model, "sensors_", {"": model}))
    plans = {name: prediction_plan(one.preparation_) for name, one in models.items()}
    first, *_ = models.values()
    reading = PreparationOptions.recorded(first.preparation_ or {})
    reading = replace(reading, time_column=time_column or reading.time_column)
    if path.is_dir() and not (path / "metadata.yaml").is_file():  # a bag has this file
        raise InputError(f"{path}: is a folder; give one recording to --replay.")
    if "" in models:
        sources = find_recordings(path, reading.only(*CSV_FORM))
    else:
        sources = find_sources(model, path, reading)
    if len(sources) != 1:
        raise InputError(f"{path} holds {len(sources)} recordings; give one of them to --replay.")
    if "" in models:
        recordings = {"": read_recording(sources[0], plans[""], reading)}
    else:
        recordings = recordings_of_sensors(sources[0], plans, reading)
    options = next(iter(plans.values())).options
    # sensors take turns, and one that is a hop behind may count as missing
    step_s = min(_REPLAY_S, (options.hop_s or options.window_s) / 2)
    yield from _in_steps(recordings, step_s, speed)


def _in_steps(
    recordings: dict[str, Recording], step_s: float, speed: float
) -> Iterator[AnySamples]:
    stamps = {name: one.timestamps_s for name, one in recordings.items()}
    start_s = float(min(own[0] for own in stamps.values()))
    last_s = float(max(own[-1] for own in stamps.values()))
    began_s = time.monotonic()
    ends_s = np.append(np.arange(start_s, last_s, step_s) + step_s, np.inf)
    edges = {k: list(pairwise([0, *np.searchsorted(own, ends_s)])) for k, own in stamps.items()}
    for at, end_s in enumerate(ends_s.tolist()):
        if speed > 0:
            due_s = (min(end_s, last_s) - start_s) / speed
            time.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
        for name, one in recordings.items():
            first, stop = edges[name][at]
            if stop > first:
                values = one.values[first:stop].astype(np.float64, copy=False)
                times = stamps[name][first:stop]
                yield SensorSamples(name, values, times) if name else Samples(values, times)
