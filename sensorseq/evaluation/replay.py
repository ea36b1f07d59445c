"""Replay a recording as a stream of samples."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sensorseq.errors import InputError
from sensorseq.evaluation.predict import (
    find_sources,
    plans_of,
    read_recording,
    recordings_of_sensors,
)
from sensorseq.options import ReadOptions
from sensorseq.prediction.fused import FusedModel
from sensorseq.prediction.live import AnySamples, Samples, SensorSamples
from sensorseq.prediction.loading import AnyModel
from sensorseq.recording import Recording

_REPLAY_S = 0.1  # duration of the samples that are pushed together


def samples_of_recording(
    model: AnyModel, path: Path, time_column: str | None, speed: float
) -> Iterator[AnySamples]:
    """Replay a recording in small steps at `speed` times its pace; 0 means without waiting."""
    plans, reading = plans_of(model, None, ReadOptions(time_column=time_column))
    if path.is_dir() and not (path / "metadata.yaml").is_file():  # a bag has this file
        raise InputError(f"{path}: is a folder; give one recording to --replay.")
    sources = find_sources(model, path, reading)
    if len(sources) != 1:
        raise InputError(f"{path} holds {len(sources)} recordings; give one of them to --replay.")
    if isinstance(model, FusedModel):
        recordings = recordings_of_sensors(sources[0], plans, reading)
    else:
        recordings = {"": read_recording(sources[0], plans[""], reading)}
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
    step_of = {name: (own - start_s) // step_s for name, own in stamps.items()}
    for step in np.unique(np.concatenate([*step_of.values()])).tolist():
        if speed > 0:
            due_s = min((step + 1) * step_s, last_s - start_s) / speed
            time.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
        for name, one in recordings.items():
            first, stop = np.searchsorted(step_of[name], [step, step + 1])
            if stop > first:
                values = one.values[first:stop].astype(np.float64, copy=False)
                times = stamps[name][first:stop]
                yield SensorSamples(name, values, times) if name else Samples(values, times)
