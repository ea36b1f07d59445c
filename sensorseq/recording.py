"""The checked content of one log: Recording, Channel and LabelSpan."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sensorseq.base.text import html_table
from sensorseq.errors import RecordingError, repeated
from sensorseq.io.blocks import count_where, is_finite
from sensorseq.stamps.names import UNITS
from sensorseq.stamps.period import sample_period
from sensorseq.stamps.repair import BY_HAND, plan_repair, repair_stamps

__all__ = ["Channel", "LabelSpan", "Recording", "repair_stamps", "sample_rate_of"]

COMMENTS = (b"#", b"%", b"//", b"sep=")
"""Prefixes of lines that precede the column names in CSV files from other programs."""


@dataclass(frozen=True)
class Channel:
    """One measured quantity.

    Parameters
    ----------
    name : str
        Column name, unique within a recording; leading and trailing blanks are removed.
    unit : str
        Unit, for example ``"A"`` or ``"rad/s"``; empty if unknown.
    """

    name: str
    unit: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", str(self.name).strip())


def column_names(names: Iterable[str]) -> list[str]:
    """Return the names of a file's columns without leading and trailing blanks.

    Columns with the same name are numbered in order: two columns named ``Other`` become
    ``Other[0]`` and ``Other[1]``. A first column without a name becomes ``Unnamed: 1``.
    """
    plain = [name.strip() or f"Unnamed: {place}" for place, name in enumerate(names, 1)]
    count, n_before = Counter(plain), Counter[str]()
    unique = []
    for name in plain:
        unique.append(f"{name}[{n_before[name]}]" if count[name] > 1 else name)
        n_before[name] += 1
    return unique


@dataclass(frozen=True, order=True)
class LabelSpan:
    """A segment of a recording, with its class.

    Parameters
    ----------
    start_s, end_s : float
        Start and end on the recording's clock, in seconds. An instant t belongs to the span if
        ``start_s <= t < end_s``.
    label : str
        The class; must not be empty.

    Raises
    ------
    RecordingError
        If a time is not finite, the end is not after the start, or the label is missing.
    """

    start_s: float
    end_s: float
    label: str

    def __post_init__(self) -> None:
        try:
            start_s, end_s = float(self.start_s), float(self.end_s)
        except (TypeError, ValueError) as error:
            raise RecordingError(
                f"label span {self.label!r} from {self.start_s!r} to {self.end_s!r}: start_s and"
                " end_s must be numbers of seconds."
            ) from error
        object.__setattr__(self, "start_s", start_s)
        object.__setattr__(self, "end_s", end_s)
        if self.label is None or not str(self.label).strip():
            raise RecordingError(
                f"label span from {start_s:g} s to {end_s:g} s has no label; give it one, or remove"
                " the span."
            )
        object.__setattr__(self, "label", str(self.label))
        if not (np.isfinite(start_s) and np.isfinite(end_s)):
            raise RecordingError(f"label span {self}: start and end must be finite.")
        if end_s <= start_s:
            raise RecordingError(f"label span {self}: the end is not after the start.")

    def __str__(self) -> str:
        return f"{self.label!r} from {self.start_s:.6f} s to {self.end_s:.6f} s"


class _OrderedSpans(tuple[LabelSpan, ...]):
    """Label spans already checked to be sorted and disjoint, so that pieces need no new check."""

    __slots__ = ()


@dataclass(frozen=True, eq=False)
class Recording:
    """Samples of several channels on one clock, with their origin and labels.

    Parameters
    ----------
    values : ndarray of shape (n_samples, n_channels), float32 or float64
        The samples; NaN marks a missing sample.
    timestamps_s : ndarray of shape (n_samples,), float64
        Times of the samples in seconds, strictly increasing. Use `evenly_sampled` if only a rate is
        known.
    channels : sequence of Channel or str
        A channel for each column of `values`.
    recording_id : str
        Name that is unique among the recordings used together.
    group : str, optional
        Unit that a split never divides, such as a robot, day or site. `recording_id` by default.
    label : str, optional
        Class of the whole recording; None if unknown.
    attributes : dict, optional
        Further facts to store with the recording, such as `sensor_rates_hz`.
    label_spans : sequence of LabelSpan, optional
        Classes of parts of the recording, instead of `label`. The spans are sorted by time; the
        time between them has no label. A piece of a recording keeps all spans of the recording,
        even those outside the piece. `spans_within` returns the spans in an interval.
        `check_label_spans` raises an error for spans without samples.
    """

    values: NDArray[np.floating]
    timestamps_s: NDArray[np.float64]
    channels: tuple[Channel, ...]
    recording_id: str
    group: str = ""
    label: str | None = None
    attributes: dict[str, object] = field(default_factory=dict)
    label_spans: tuple[LabelSpan, ...] = ()

    def __post_init__(self) -> None:
        name = f"recording {self.recording_id!r}"
        values = self._as_float(np.asarray(self.values), "values")
        if values.ndim != 2:
            raise RecordingError(
                f"{name}: values have shape {values.shape}; expected (n_samples, n_channels)."
                " For a single channel use values.reshape(-1, 1)."
            )
        timestamps_s = self._as_float(np.asarray(self.timestamps_s), "timestamps_s").astype(
            np.float64, copy=False
        )
        if timestamps_s.shape != values.shape[:1]:
            raise RecordingError(
                f"{name}: timestamps have shape {timestamps_s.shape} for {values.shape[0]} samples;"
                " give one timestamp per sample."
            )
        channels = _as_channels(self.channels)
        names = [channel.name for channel in channels]
        if len(channels) != values.shape[1]:
            raise RecordingError(
                f"{name}: {len(channels)} channel names ({', '.join(names)}) for"
                f" {values.shape[1]} columns of values."
            )
        if (twice := repeated(names)) is not None:
            raise RecordingError(f"{name}: channel name {twice!r} is used more than once.")
        t, n = timestamps_s, len(timestamps_s)
        if not is_finite(t):
            _, row = count_where(lambda at, stop: ~np.isfinite(t[at:stop]), n, t)
            raise RecordingError(f"{name}: timestamp of sample {row} is {t[row]}.")
        n_wrong, row = count_where(lambda at, stop: t[at + 1 : stop + 1] <= t[at:stop], n - 1, t)
        if n_wrong:
            before, now = t[row], t[row + 1]
            fault = "repeats" if now == before else f"goes back {before - now:.6g} s"
            plan = plan_repair(t, lambda: values)
            assert plan is not None  # because a timestamp repeats or goes back
            advice = plan.advice("sample", 0, names, BY_HAND)
            raise RecordingError(
                f"{name}: time {fault} at sample {row + 1}, {before - t[0]:.6g} s from the start"
                f" ({n_wrong} such sample(s)). {advice}"
            )
        object.__setattr__(self, "values", values)
        row = -1
        if not self.is_complete:
            _, row = count_where(lambda at, stop: np.isinf(values[at:stop]), n, values)
        if row >= 0:
            column = int(np.flatnonzero(np.isinf(values[row]))[0])
            raise RecordingError(
                f"{name}: channel {names[column]!r} is infinite at sample {row};"
                " mark missing samples as NaN."
            )
        object.__setattr__(self, "timestamps_s", timestamps_s)
        object.__setattr__(self, "channels", channels)
        object.__setattr__(self, "group", str(self.group) or self.recording_id)
        object.__setattr__(self, "label_spans", self._sorted_spans())

    def __repr__(self) -> str:
        facts = [f"{self.n_samples} samples of {self.n_channels} channel(s)"]
        if self.n_samples > 1:
            facts.append(f"{self.duration_s:.4g} s at {self.median_sample_rate_hz:.4g} Hz")
        if self.is_labelled:
            facts.append(f"labelled {', '.join(map(repr, self.labels))}")
        return f"<Recording {self.recording_id!r}: {', '.join(facts)}>"

    def _repr_html_(self) -> str:
        """Show the channels as a table in a notebook."""
        rows = []
        for number, channel in enumerate(self.channels):
            values = self.values[:, number]
            valid = values[~np.isnan(values)]
            ends = [f"{valid.min():.4g}", f"{valid.max():.4g}"] if len(valid) else ["", ""]
            missing = str(self.n_samples - len(valid))
            rows.append([channel.name, channel.unit, *ends, missing])
        return html_table(
            repr(self)[1:-1], ["channel", "unit", "least", "largest", "missing"], rows
        )

    def _sorted_spans(self) -> tuple[LabelSpan, ...]:
        is_checked = isinstance(self.label_spans, _OrderedSpans)
        spans = self.label_spans if is_checked else _OrderedSpans(sorted(self.label_spans))
        if spans and self.label is not None:
            raise RecordingError(
                f"recording {self.recording_id!r} has label {self.label!r} and {len(spans)}"
                " label spans; give either a label or label spans."
            )
        for span, next_span in () if is_checked else zip(spans, spans[1:]):
            if next_span.start_s < span.end_s:
                raise RecordingError(
                    f"recording {self.recording_id!r}: label spans overlap: {span}, and"
                    f" {next_span}. End the first where the second starts."
                )
        return spans

    def _as_float(self, array: NDArray[np.generic], argument: str) -> NDArray[np.floating]:
        if array.dtype in (np.float32, np.float64):
            return array.astype(array.dtype, copy=False)
        # Datetimes would become nanoseconds that are read as seconds; complex numbers would lose
        # their imaginary part.
        if array.dtype.kind in "biufO":
            try:
                return array.astype(np.float64)
            except (TypeError, ValueError):
                pass
        raise RecordingError(
            f"recording {self.recording_id!r}: {argument} has dtype {array.dtype}; expected real"
            " numbers" + (" of seconds." if argument == "timestamps_s" else ".")
        )

    @classmethod
    def evenly_sampled(
        cls,
        values: NDArray[np.floating],
        sample_rate_hz: float,
        channels: Sequence[Channel | str],
        recording_id: str,
        *,
        group: str = "",
        label: str | None = None,
        label_spans: Sequence[LabelSpan] = (),
        start_s: float = 0.0,
        attributes: dict[str, object] | None = None,
    ) -> "Recording":
        """Make a recording from samples that are `1 / sample_rate_hz` seconds apart.

        Parameters
        ----------
        values : ndarray of shape (n_samples, n_channels)
            The samples.
        sample_rate_hz : float
            Rate in Hz, above zero.
        channels, recording_id, group, label, label_spans
            As in the class.
        start_s : float, default=0.0
            Time of the first sample in seconds.
        attributes : dict, optional
            Further facts to store with the recording.
        """
        if not (np.isfinite(sample_rate_hz) and sample_rate_hz > 0):
            raise RecordingError(
                f"recording {recording_id!r}: sample_rate_hz={sample_rate_hz!r} is not a"
                " positive rate."
            )
        timestamps_s = start_s + np.arange(len(values)) / sample_rate_hz
        named = _as_channels(channels)
        return cls(
            values,
            timestamps_s,
            named,
            recording_id,
            group,
            label,
            dict(attributes or {}),
            tuple(label_spans),
        )

    @property
    def n_samples(self) -> int:
        """The number of samples."""
        return len(self.values)

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return len(self.channels)

    @property
    def channel_names(self) -> tuple[str, ...]:
        """The names of the channels, in column order."""
        return tuple(channel.name for channel in self.channels)

    @property
    def duration_s(self) -> float:
        """Time from the first to the last sample in seconds; 0 for fewer than two samples."""
        return float(self.timestamps_s[-1] - self.timestamps_s[0]) if self.n_samples > 1 else 0.0

    @property
    def median_sample_rate_hz(self) -> float:
        """Inverse of the median interval, or of the mean interval if the clock is uneven.

        The rate is NaN for fewer than two samples.
        """
        # Round to twelve digits, because 1 / (1 / 49) is not 49.
        return float(f"{1.0 / self.sample_period_s:.12g}")

    @property
    def is_complete(self) -> bool:
        """True if no sample is missing in any channel; reads all values, which may change."""
        return is_finite(self.values)

    @cached_property
    def sample_period_s(self) -> float:
        """Median interval, or mean interval if the clock is uneven; NaN if there is none."""
        return sample_period(self.timestamps_s) if self.n_samples > 1 else float("nan")

    @property
    def is_labelled(self) -> bool:
        """True if the recording has a label or label spans."""
        return self.label is not None or bool(self.label_spans)

    @property
    def labels(self) -> tuple[str, ...]:
        """The distinct classes in order of appearance; empty if none is known."""
        if self.label is not None:
            return (self.label,)
        return tuple(dict.fromkeys(span.label for span in self.label_spans))

    def spans_within(self, start_s: float, end_s: float) -> tuple[LabelSpan, ...]:
        """Return the label spans that overlap [start_s, end_s), clipped to this interval.

        Parameters
        ----------
        start_s, end_s : float
            The interval, in seconds on the recording's clock.
        """
        return tuple(
            LabelSpan(max(span.start_s, start_s), min(span.end_s, end_s), span.label)
            for span in self.label_spans
            if span.start_s < end_s and span.end_s > start_s
        )

    def check_label_spans(self) -> None:
        """Raise an error if a label span contains no sample.

        This check is for complete recordings from readers; pieces need not cover every span.
        """
        t = self.timestamps_s
        for span in self.label_spans:
            first, last = np.searchsorted(t, [span.start_s, span.end_s])
            if first == last:
                covers = f"covers {t[0]:.6f} s to {t[-1]:.6f} s" if len(t) else "has no sample"
                raise RecordingError(
                    f"recording {self.recording_id!r}: label span {span} contains no sample;"
                    f" the recording {covers}. Put labels and samples on one clock, or remove the"
                    " span."
                )

    def select(self, names: Sequence[str]) -> "Recording":
        """Return the recording with only the named channels, in the given order.

        Parameters
        ----------
        names : sequence of str
            Channels to keep, or a single name.

        Raises
        ------
        RecordingError
            If a name is not a channel of this recording.
        """
        names = [names] if isinstance(names, str) else list(names)
        missing = [n for n in names if n not in self.channel_names]
        if missing:
            raise RecordingError(
                f"recording {self.recording_id!r} has no channel {missing[0]!r};"
                f" it has {', '.join(self.channel_names)}."
            )
        columns = [self.channel_names.index(n) for n in names]
        if columns == list(range(self.n_channels)):
            return self
        return replace(
            self,
            values=self.values[:, columns],
            channels=tuple(self.channels[column] for column in columns),
        )


def sample_rate_of(recording: Recording) -> float:
    """Return the median rate in Hz, or the rate of the fastest sensor if there are several sensors.

    NaN means that the rate is unknown.

    Parameters
    ----------
    recording : Recording
        The recording.
    """
    rates = recording.attributes.get("sensor_rates_hz")
    if isinstance(rates, dict) and rates:
        return float(max((rate for rate in rates.values() if np.isfinite(rate)), default=np.nan))
    return recording.median_sample_rate_hz


def time_covered(recording: Recording) -> tuple[float, float]:
    """Return the first and last time in seconds, since 1970 if the timestamps are dates.

    Both are NaN if there are no samples. If timestamps are counted from the first one, the
    absolute time of the first timestamp is added.

    Parameters
    ----------
    recording : Recording
        The recording.
    """
    clock, t = recording.attributes.get("clock"), recording.timestamps_s
    origin_s = clock.get("origin_ns", 0) / UNITS["ns"] if isinstance(clock, dict) else 0.0
    return (float(t[0]) + origin_s, float(t[-1]) + origin_s) if len(t) else (np.nan, np.nan)


def _as_channels(channels: Sequence[Channel | str] | str) -> tuple[Channel, ...]:
    """Return a Channel for each name; a single string is one name."""
    listed = [channels] if isinstance(channels, str) else channels
    return tuple(c if isinstance(c, Channel) else Channel(str(c)) for c in listed)
