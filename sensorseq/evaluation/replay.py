"""Replay a recording as a stream of samples."""

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from sensorseq.errors import InputError
from sensorseq.evaluation.predict import read_recording
from sensorseq.options import CSV_FORM
from sensorseq.prediction.decisions import ClassPredictor
from sensorseq.prediction.live import Samples
from sensorseq.prediction.stream import prediction_plan
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.readers import find_recordings

_REPLAY_S = 0.1  # duration of the samples that are pushed together


def samples_of_recording(
    model: ClassPredictor, path: Path, time_column: str | None, speed: float
) -> Iterator[Samples]:
    """Replay a recording in small steps at `speed` times its pace; 0 means without waiting."""
    reading = PreparationOptions.recorded(model.preparation_ or {})
    reading = replace(reading, time_column=time_column or reading.time_column)
    if path.is_dir() and not (path / "metadata.yaml").is_file():  # a bag has this file
        raise InputError(f"{path}: is a folder; give one recording to --replay.")
    sources = find_recordings(path, reading.only(*CSV_FORM))
    if len(sources) != 1:
        raise InputError(f"{path} holds {len(sources)} recordings; give one of them to --replay.")
    recording = read_recording(sources[0], prediction_plan(model.preparation_), reading)
    stamps, values = recording.timestamps_s, recording.values.astype(np.float64, copy=False)
    began_s = time.monotonic()
    ends_s = np.append(np.arange(stamps[0], stamps[-1], _REPLAY_S) + _REPLAY_S, np.inf)
    edges = [0, *np.searchsorted(stamps, ends_s).tolist()]
    for (first, stop), end_s in zip(pairwise(edges), ends_s, strict=True):
        if speed > 0 and stop > first:
            due_s = (min(end_s, stamps[-1]) - stamps[0]) / speed
            time.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
        if stop > first:
            yield Samples(values[first:stop], stamps[first:stop])
