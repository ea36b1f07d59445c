"""Join the windows of each recording again, and rank the recordings before a fit."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from sensorseq.inspection.copies import shared_samples
from sensorseq.inspection.facts import measure
from sensorseq.inspection.odd_recordings import FEWEST, OddRecording, rank_recordings
from sensorseq.io.prepared import PreparedFile
from sensorseq.prediction.outside import Ints
from sensorseq.recording import Channel, Recording
from sensorseq.sensor_windows import have_numbers
from sensorseq.windows import PARTS

# A smaller spread, as a fraction of the distance from the 1st to the 99th percentile or of the
# level, is ringing of the resampling filter or rounding in a channel that was mostly constant.
RINGING, ROUNDING = 0.01, 1e-6


def join_windows(
    file: PreparedFile, rows: Ints, progress: Callable[[int, int], None] | None = None
) -> Iterator[tuple[str, Recording]]:
    """Yield the id and the samples of each recording, or of each class in it.

    Samples that are in several windows are taken once. Windows without numbers are left out.
    """
    windows, n = file.stored.take(rows), len(rows)
    ids = np.full(n, "windows") if windows.recording_id is None else windows.recording_id
    labels = np.full(n, "") if windows.y is None else np.asarray(windows.y)
    rate, steps = windows.sample_rate_hz or 1.0, np.arange(windows.n_timesteps)
    start = np.arange(n) * windows.n_timesteps / rate
    start = start if windows.start_s is None else np.asarray(windows.start_s)
    keys, key = np.unique(np.stack([ids, labels.astype(str)]), axis=1, return_inverse=True)
    order = np.lexsort((start, key.ravel()))
    several = Counter(keys[0].tolist())
    for number, members in enumerate(np.split(order, np.cumsum(np.bincount(key.ravel()))[:-1])):
        if progress is not None:
            progress(number, keys.shape[1])
        part = file.take(rows[members])
        known = have_numbers(part)
        part, begin = part.take(known), start[members][known]
        if not len(part):
            continue
        lengths = np.asarray(part.lengths)
        end = np.maximum.accumulate(begin + lengths / rate)
        again = np.rint((np.concatenate([begin[:1], end[:-1]]) - begin) * rate)
        is_new = (steps >= again[:, None]) & (steps < lengths[:, None])
        name, label = keys[:, number].tolist()
        recording = Recording(
            part.X[is_new],
            (begin[:, None] + steps / rate)[is_new],
            tuple(map(Channel, windows.channels)),
            f"{name} ({label})" if several[name] > 1 else name,
            "" if part.groups is None else str(part.groups[0]),
            label or None,
        )
        yield name, recording


def rank_joined(
    path: str | os.PathLike[str],
    sensor: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[OddRecording]:
    """Rank the recordings of a prepared file by `rank_recordings`, without reading the test part.

    Gaps between windows are closed, because they are no fault. A recording is longer than its
    windows, so its length is the recorded one; it is unknown if the recording has several classes.
    Spreads that resampling gives to constant channels are not compared.
    """
    facts = []
    with PreparedFile(path, sensor=sensor, whole=False) as file:
        stored = file.stored
        split, rate = stored.split, stored.sample_rate_hz or 1.0
        ids = () if stored.recording_id is None else np.unique(stored.recording_id)
        if len(ids) < FEWEST:
            return []
        rows = np.arange(len(file)) if split is None else np.flatnonzero(np.isin(split, PARTS[:2]))
        length_s = {
            entry["recording_id"]: entry.get("end_s", np.nan) - entry.get("start_s", np.nan)
            for entry in stored.provenance.get("recordings") or ()
        }
        for name, recording in join_windows(file, rows, progress):
            measured = measure(
                replace(recording, timestamps_s=np.arange(recording.n_samples) / rate)
            )
            is_whole = np.diff(recording.timestamps_s).max(initial=0.0) < 1.5 / rate
            for key, c in measured.channels.items():
                least = max(RINGING * (c.quantiles[-1] - c.quantiles[0]), ROUNDING * abs(c.mean))
                if c.spread < least:
                    c = replace(c, quantiles=c.quantiles[[2] * 5])
                # at a closed gap, a channel seems to jump
                measured.channels[key] = c if is_whole else replace(c, speed=np.nan, jerk=np.nan)
            duration_s = length_s.get(recording.recording_id, np.nan)
            facts.append(replace(measured, recording_id=name, duration_s=duration_s))
    copies = shared_samples([recording.hashes for recording in facts])
    # windows at a change of class are in two parts of one recording
    between = [c for c in copies if facts[c[0]].recording_id != facts[c[1]].recording_id]
    return rank_recordings(facts, between)
