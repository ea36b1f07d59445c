"""Cut one recording into windows, and collect the facts that a preparation needs about it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import RecordingError
from sensorseq.io.blocks import blocks, count_where
from sensorseq.preprocessing.cutting import describe_cut
from sensorseq.preprocessing.measured import measure_values
from sensorseq.preprocessing.odd import OddFacts
from sensorseq.preprocessing.parts import TRAINING
from sensorseq.preprocessing.plan import PreparationPlan
from sensorseq.preprocessing.simultaneous import Covered
from sensorseq.preprocessing.windowing.label_rules import Fate
from sensorseq.recording import Recording
from sensorseq.windows import WindowSet


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Facts about a recording that was cut into windows; prepared files store them as JSON."""

    recording_id: str
    group: str
    labels: list[str]  # labels of the windows
    labels_there: list[str | None]  # labels that occur in the recording
    classes: list[Fate]
    channels: list[str]
    units: list[str]
    input_channels: list[str]
    input_units: list[str]
    sample_rate_hz: float | None
    duration_s: float
    n_samples: int
    start_s: float  # seconds since 1970 if the timestamps are dates
    end_s: float
    repaired_stamps: dict[str, int] | None = None
    packets: str | None = None  # a description such as "packets of 3 samples"
    clock: dict[str, Any] | None = None  # facts from `Stamps`
    bridging_gap_s: float | None = None  # a `max_gap_s` that would bridge the gaps
    slow: dict[str, str]  # kinds of slow channels; see `kinds_of_slow`
    n_pieces: int
    n_holes_filled: int
    n_windows: int
    n_zero_windows: int  # windows whose samples are all zero
    dropped_columns: list[str]
    counters: list[str]
    dropped: list[dict[str, Any]]
    sources: list[dict[str, Any]]  # paths and digests of the files; empty without files
    scales: dict[str, list[float]] | None = None  # from `measure_values`
    left_out_classes: list[str] = field(default_factory=list)  # names from the label column
    odd_values: OddFacts | None = None  # from `measure_values`

    @property
    def files(self) -> str:
        """The paths of the files, for messages."""
        return " + ".join(source["path"] for source in self.sources)

    @property
    def name(self) -> str:
        """The name for messages."""
        return self.files or f"recording {self.recording_id!r}"

    @property
    def covered(self) -> Covered:
        """The time that the recording covers."""
        period_s = 1 / self.sample_rate_hz if self.sample_rate_hz else 0.0
        labels = tuple(self.labels_there)
        return Covered(self.recording_id, self.group, labels, self.start_s, self.end_s, period_s)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in the form that JSON stores."""
        plain = dict(vars(self))
        for name in ("repaired_stamps", "packets", "clock", "bridging_gap_s", "odd_values"):
            if plain[name] is None:
                del plain[name]
        return plain


def cut_recording(
    recording: Recording,
    plan: PreparationPlan,
    sample_rate_hz: float,
    sources: list[dict[str, Any]] | None = None,
) -> tuple[Facts, dict[str, WindowSet]]:
    """Cut a recording; return facts, and its windows and any separate training windows by prefix.

    `sources` describes the files of the recording.
    """
    _check_range(recording)
    pieces = plan.pieces(recording, sample_rate_hz)
    windows = plan.windows(pieces, sample_rate_hz)
    sets = {"": windows}
    if plan.cuts_training_separately:
        sets[TRAINING] = plan.training_windows(pieces, sample_rate_hz)

    def attribute(name: str) -> list[str]:
        names: Any = recording.attributes.get(name, [])
        return list(names)

    cut = describe_cut(recording, pieces)
    measured = measure_values(recording, cut["slow"])
    facts = Facts(
        recording_id=recording.recording_id,
        group=recording.group,
        labels=[] if windows.y is None else np.unique(windows.y).tolist(),
        labels_there=labels_or_none(recording.labels),
        classes=windows.provenance["classes"],
        channels=list(windows.channels),
        units=[channel.unit for channel in pieces[0].channels],
        input_channels=list(recording.channel_names),
        input_units=[channel.unit for channel in recording.channels],
        duration_s=recording.duration_s,
        **cut,
        n_windows=len(windows),
        n_zero_windows=_n_zero(windows.X),
        dropped_columns=attribute("dropped_columns"),
        counters=attribute("counters"),
        dropped=windows.provenance["dropped"],
        sources=sources or [],
        scales=measured.scales,
        left_out_classes=attribute("left_out_classes"),
        odd_values=measured.odd_values or None,
    )
    return facts, sets


def _check_range(recording: Recording) -> None:
    """Raise an error if a value is outside the range of float32, in which windows are stored."""
    x, largest = recording.values, np.finfo(np.float32).max

    def is_beyond(at: int, stop: int) -> NDArray[np.bool_]:
        some = x[at:stop]
        # With NaN, the comparisons are false, and each value is compared below.
        if -largest <= some.min(initial=0) and some.max(initial=0) <= largest:
            return np.zeros(0, bool)
        beyond: NDArray[np.bool_] = np.abs(some) > largest
        return beyond

    _, row = count_where(is_beyond, len(x), x)
    if row >= 0:
        column = int(np.flatnonzero(is_beyond(row, row + 1)[0])[0])
        raise RecordingError(
            f"recording {recording.recording_id!r}: channel {recording.channel_names[column]!r} is"
            f" {x[row, column]:g} at sample {row + 1}, outside the range of float32; leave the"
            " field empty if the sample is missing."
        )


def labels_or_none(labels: Iterable[str]) -> list[str | None]:
    """Return the labels of a recording, sorted; ``[None]`` if it has no label."""
    return [*sorted(labels)] or [None]


def _n_zero(X: NDArray[np.float32]) -> int:
    parts = (X[at:stop] for at, stop in blocks(len(X), X, n_columns=X[:1].size))
    return sum(int((~part.any(axis=(1, 2))).sum()) for part in parts)
