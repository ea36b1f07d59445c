"""window_maker: the same recordings in windows of other lengths, for re-runs of a fit."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError
from sensorseq.estimator.lab import FitLab
from sensorseq.preprocessing.window import window_recordings
from sensorseq.recording import Recording
from sensorseq.training.recorder import spread_rows
from sensorseq.windows import WindowSet


def window_maker(lab: FitLab, recordings: Iterable[Recording]) -> Callable[[float], FitLab]:
    """Return what makes the lab of windows that are so many times as long.

    Windows begin as often as those of the fit when these follow each other without a gap, so that
    there are about as many; each recording stays on its side of the validation split.

    Parameters
    ----------
    lab : FitLab
        Of the fit.
    recordings : iterable of Recording
        Evenly sampled, as they were cut.

    Raises
    ------
    ArgumentError
        If they are not recordings, or their groups are not those of the fit.
    """
    held = list(recordings)
    if not held or not all(isinstance(recording, Recording) for recording in held):
        raise ArgumentError("recordings must be a list of Recording, such as Resampler returns.")
    n_timesteps = lab.train.X.shape[1]
    validation = lab.validation
    if lab.train.groups is None or validation is None or validation.groups is None:
        raise ArgumentError(
            "recordings are identified only by the groups of the fit; give groups= to fit, a"
            " recording's group or its id for each window, and a validation part."
        )
    seen = {str(group) for group in lab.train.groups}
    held_out = {str(group) for group in validation.groups}
    there = {recording.group or recording.recording_id for recording in held}
    if not (seen & there and held_out & there):
        raise ArgumentError(
            f"recordings have groups such as {sorted(there)[0]!r}, and fit had"
            f" {sorted(seen)[0]!r}: none of"
            f" {'training' if not seen & there else 'validation'} is among them."
        )

    def make(factor: float) -> FitLab:
        rate = _rate_of(held[0])
        window_s = n_timesteps / rate
        windows = window_recordings(held, factor * window_s, window_s)
        return _lab_of(lab, windows, seen, held_out)

    return make


def _rate_of(recording: Recording) -> float:
    return float(1 / np.median(np.diff(recording.timestamps_s)))


def _lab_of(lab: FitLab, windows: WindowSet, seen: set[str], held_out: set[str]) -> FitLab:
    groups = windows.recording_id if windows.groups is None else windows.groups
    assert groups is not None  # windows of recordings
    side = np.array([str(group) for group in groups])
    train = windows.take(np.isin(side, sorted(seen)))
    keywords: dict[str, Any] = {"X_val": windows.take(np.isin(side, sorted(held_out)))}
    estimator = lab.origin._bare()
    prepared = estimator._prepare_fit(train, None, **keywords)
    n_train = len(train.X)
    none = np.zeros(0, np.int64)
    record = replace(
        lab.record,
        fixed_rows=spread_rows(n_train, min(n_train, max(1, len(lab.record.fixed_rows)))),
        train_rows=none,
        snapshots=[],
    )
    return FitLab(lab.origin, record, estimator, prepared, (train, None, keywords))
