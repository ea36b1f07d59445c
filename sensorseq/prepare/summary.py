"""The summary of a prepared file."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sensorseq.base.text import plural
from sensorseq.errors import printable
from sensorseq.readers.columns import describe_counters, describe_dropped, describe_packets

# Fields that describe the run instead of the file.
_RUN_FIELDS = ("path", "n_reused", "size_bytes", "action", "changes")


@dataclass(frozen=True)
class PreparedSummary:
    """The result of `prepare`: counts, lengths and rates of windows, and omitted data."""

    path: Path
    counts: dict[str, dict[str, int]]  # number of windows by part and class
    n_recordings: int
    n_windows: int
    window_samples: int
    channels: tuple[str, ...]
    sample_rate_hz: float
    sample_rate_from: str  # "given", or how the rate was chosen
    # Dropped recordings, or segments of recordings.
    dropped: list[dict[str, Any]] = field(default_factory=list)
    # Number of recordings from which a column was left out because a sample is not a number,
    # by column name.
    dropped_columns: dict[str, int] = field(default_factory=dict)
    # Number of recordings from which a column was left out as a counter, by column name.
    counters: dict[str, int] = field(default_factory=dict)
    n_reused: int = 0  # number of recordings reused from an interrupted run or the existing file
    size_bytes: int = 0
    imbalance: str = ""
    constant_channels: list[str] = field(default_factory=list)
    n_holes_filled: int = 0
    repaired_stamps: dict[str, int] = field(default_factory=dict)
    # Pairs of recordings in different parts that share windows.
    copies: list[dict[str, Any]] = field(default_factory=list)
    # Lowest and highest median rate of the recordings.
    own_rates_hz: tuple[float, float] = (0.0, 0.0)
    # Number of training windows by class, after balancing.
    n_fitted: dict[str, int] = field(default_factory=dict)
    held: list[str] = field(default_factory=list)  # channels whose values are held until the next
    packets: dict[str, int] = field(default_factory=dict)  # number of recordings by kind of packets
    # Number of recordings, by description of the clock.
    clocks: dict[str, int] = field(default_factory=dict)
    odd_rates_hz: dict[str, float] = field(default_factory=dict)  # odd rates by recording
    # Recordings that seem to be in a different unit, but were allowed.
    odd_scales: list[str] = field(default_factory=list)
    # A sentence for each kind of value that may not be a measurement.
    odd_values: list[str] = field(default_factory=list)
    # Number of all-zero windows by recording.
    zero_windows: dict[str, int] = field(default_factory=dict)
    # The `max_gap_s` that would bridge the gaps, by recording.
    bridging_gaps_s: dict[str, float] = field(default_factory=dict)
    simultaneous: str = ""  # recordings that cover the same time
    subjects: str = ""  # persons or machines whose recordings are in several parts
    # A sentence about each sensor, with `native_rates`.
    sensors: list[str] = field(default_factory=list)
    action: str = "written"  # can also be "replaced", "extended" or "none"
    changes: list[str] = field(default_factory=list)  # differences from the existing file

    @property
    def headline(self) -> str:
        """A sentence about how an existing file changed; empty for a new file."""
        if self.action == "none":
            return (
                f"{self.path} is up to date: {self.n_recordings} recordings, same configuration;"
                " nothing to do."
            )
        if self.action == "written":
            return ""
        return f"{self.action} {self.path}: {'; '.join(self.changes)}."

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and the headline as plain values."""
        plain = {**asdict(self), "path": str(self.path), "channels": list(self.channels)}
        return {**plain, "headline": self.headline}

    def to_record(self) -> dict[str, Any]:
        """Return the fields that a prepared file stores."""
        return {name: value for name, value in asdict(self).items() if name not in _RUN_FIELDS}

    @classmethod
    def of_record(cls, path: Path, record: Mapping[str, Any], n_reused: int) -> "PreparedSummary":
        """Return the summary stored in a prepared file that is up to date."""
        use = {name: value for name, value in record.items() if name in _FIELDS}
        use |= {name: tuple(use[name]) for name in ("channels", "own_rates_hz")}
        size = path.stat().st_size
        return cls(path, **use, n_reused=n_reused, size_bytes=size, action="none")

    def __str__(self) -> str:
        lines = [self.headline] if self.headline else []
        lines += [
            f"{self.n_windows} windows of {self.window_samples} samples at {self.sample_rate_hz:g}"
            f" Hz ({self.sample_rate_from}), {plural(len(self.channels), 'channel')}"
            f" ({', '.join(self.channels)}), from {self.n_recordings} recordings"
        ]
        for part, by_class in self.counts.items():
            each = ", ".join(f"{name or 'unlabeled'} {n}" for name, n in by_class.items())
            lines.append(f"  {part}: {sum(by_class.values())} ({each})")
        reasons = Counter(entry["reason"] for entry in self.dropped)
        lines += [f"  dropped {count}: {reason}" for reason, count in reasons.items()]
        lines += [f"  {line}" for line in describe_packets(self.packets)]
        for clock, count in self.clocks.items():
            lines.append(f"  {clock} in {plural(count, 'recording')}")
        left_out = [*describe_dropped(self.dropped_columns), *describe_counters(self.counters)]
        lines += [f"  {text}" for text in left_out]
        lines += [f"  {text}" for text in (self.simultaneous, self.subjects) if text]
        return "\n".join(map(printable, lines))


_FIELDS = {summary_field.name for summary_field in fields(PreparedSummary)}
