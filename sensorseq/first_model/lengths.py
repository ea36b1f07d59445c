"""Choose the length of windows on folds of recordings that the model is trained on."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq.base.text import plural
from sensorseq.errors import WindowError
from sensorseq.evaluation.baselines import predict_baseline
from sensorseq.inspection.facts import RecordingFacts
from sensorseq.io.prepared import PreparedFile
from sensorseq.preprocessing.splitters import split_folds
from sensorseq.windows import WindowSet

LENGTHS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
_LEAST_SAMPLES, _MOST_SAMPLES = 16, 2000
_MOST_LENGTHS = 4
_WINDOWS_EACH = 4  # a usual recording has at least this many windows side by side
_MOST_WINDOWS = 2000  # number of windows with which a length is judged, so that it takes seconds
_N_FOLDS = 5
_LEAST_WINDOWS = 10  # for each class


@dataclass(frozen=True)
class LengthChoice:
    """The chosen length, and the accuracy of each length that was tried."""

    window_s: float
    reason: str
    tried: tuple[tuple[float, float, float], ...] = ()  # length, accuracy, standard error of gain

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return asdict(self)


def candidate_lengths(facts: Sequence[RecordingFacts], sample_rate_hz: float | None) -> list[float]:
    """Return lengths that suit the rate and the duration of the recordings, the shortest first.

    If the recordings are too short for several windows, a window is as long as most recordings.
    """
    rate = sample_rate_hz or float(np.median([fact.rate_hz for fact in facts]))
    durations = np.array([fact.duration_s for fact in facts])
    most_s = min(float(np.median(durations)) / _WINDOWS_EACH, float(np.quantile(durations, 0.1)))
    fitting = [
        length
        for length in LENGTHS_S
        if _LEAST_SAMPLES <= length * rate <= _MOST_SAMPLES and length <= most_s
    ]
    whole_s = math.floor(100 * float(np.quantile(durations, 0.1))) / 100
    if not fitting and _LEAST_SAMPLES <= whole_s * rate <= _MOST_SAMPLES:
        return [whole_s]  # each recording is one event, such as a gesture
    if not fitting:
        raise WindowError(
            f"the recordings are too short for windows of {_LEAST_SAMPLES} samples: half of them"
            f" last at most {np.median(durations):.3g} s, at {rate:.4g} Hz. Record longer, or"
            " choose a length with `window_s`."
        )
    return fitting[-_MOST_LENGTHS:]


def check_enough_windows(facts: Sequence[RecordingFacts], window_s: float) -> None:
    """Raise an error if the recordings give too few windows of this length."""
    n_windows = sum(int(fact.duration_s / window_s) for fact in facts if fact.label is not None)
    least = _LEAST_WINDOWS * len({fact.label for fact in facts} - {None})
    if n_windows < least:
        raise WindowError(
            f"the recordings give only {plural(n_windows, 'window')} of {window_s:g} s, too few to"
            f" train and test a model; at least {least} are needed, and the longest recording lasts"
            f" {max(fact.duration_s for fact in facts):g} s. Record more, or use a shorter"
            " `window_s`."
        )


def choose_length(
    files: Mapping[float, Path], progress: Callable[[int, int], None]
) -> LengthChoice:
    """Choose from prepared files, by the file of each length, the shortest first.

    The split depends on the length. Only recordings that no file has in its test part are read, so
    the model is trained on them whichever length is chosen. The accuracy of extremely randomized
    trees on summary features (P. Geurts, D. Ernst, L. Wehenkel, 2006) is measured over folds of
    whole groups, and averaged over groups. A longer window must gain more than one standard error.
    """
    kept = _never_tested(list(files.values()))
    scores: dict[float, dict[str, float]] = {}
    for done, (window_s, path) in enumerate(files.items()):
        progress(done, len(files))
        with PreparedFile(path) as file:
            rows = np.flatnonzero(np.isin(np.asarray(file.stored.recording_id), kept))
            at = np.linspace(0, len(rows) - 1, min(len(rows), _MOST_WINDOWS)).astype(int)
            windows = file.take(rows[at])
        scores[window_s] = score_groups(windows)
    progress(len(files), len(files))
    common = sorted(set.intersection(*(set(of_length) for of_length in scores.values())))
    if len(common) < 2:
        shortest = min(files)
        return LengthChoice(shortest, "too few groups are left to compare lengths")
    values = {w: np.array([of[name] for name in common]) for w, of in scores.items()}
    chosen, tried = min(files), []
    for window_s, accuracy in values.items():
        gain = accuracy - values[chosen]
        error = float(gain.std(ddof=1) / np.sqrt(len(gain)))
        if gain.mean() > error and window_s > chosen:
            chosen = window_s
        tried.append((window_s, float(accuracy.mean()), error))
    end = "; no longer one was tried" if chosen == max(values) else ""
    reason = (
        "each longer length had to gain more than one standard error, on"
        f" {len(common)} groups that are never in the test part{end}"
    )
    return LengthChoice(chosen, reason, tuple(tried))


def score_groups(windows: WindowSet) -> dict[str, float]:
    """Return the cross-validated accuracy of each group; empty if folds are not possible."""
    names, groups = np.asarray(windows.y), np.asarray(windows.groups)
    classes, target = np.unique(names, return_inverse=True)
    right = np.zeros(len(target))
    tested = np.zeros(len(target), bool)
    for fit, test in split_folds(target.astype(np.int64), groups, _N_FOLDS, 0):
        if len(np.unique(target[fit])) < len(classes):
            continue
        scores = predict_baseline("extra_trees", windows.take(fit), windows.take(test), classes)
        right[test] = scores.argmax(axis=1) == target[test]
        tested[test] = True
    return {
        str(group): float(right[tested & (groups == group)].mean())
        for group in np.unique(groups[tested]).tolist()
    }


def _never_tested(paths: Sequence[Path]) -> list[str]:
    """Return the recordings that are in the test part of no file."""
    names: set[str] = set()
    tested: set[str] = set()
    for path in paths:
        with PreparedFile(path) as file:
            ids = np.asarray(file.stored.recording_id)
            tested.update(ids[np.asarray(file.stored.split) == "test"].tolist())
            names.update(ids.tolist())
    return sorted(names - tested)
