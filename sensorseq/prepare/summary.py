"""The summary of a prepared file."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sensorseq.base.layout import format_channels, format_counts, wrapped
from sensorseq.base.text import listed, plural
from sensorseq.readers.columns import describe_counters, describe_dropped, describe_packets

# Fields that describe the run instead of the file.
_RUN_FIELDS = ("path", "n_reused", "size_bytes", "action", "changes")
_SLOWER = 0.9  # recordings below this fraction of the common rate lack frequencies


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
        return self.text()

    def text(self, worded: Callable[[str], str] = str) -> str:
        """Return the summary in lines of at most 80 columns, with what was left out and why.

        `worded` may replace the names of arguments in each sentence before it is wrapped.
        """

        def said(sentence: str) -> str:
            return wrapped(worded(sentence))

        if self.action == "none":
            return "\n\n".join(map(said, (self.headline, *self._warnings())))
        origin = (
            f"of {self.window_samples} samples at {self.sample_rate_hz:g} Hz"
            f" ({self.sample_rate_from}), from {self.n_recordings} recordings;"
            f" {format_channels(self.channels)}"
        )
        if self.sensors:
            origin = f"of several sensors at their own rates, from {self.n_recordings} recordings"
        opening = [self.headline] if self.headline else []
        opening += [f"{self.path}: {self.n_windows} windows {origin}"]
        opening += [f"  {text}" for text in self.sensors]
        lines = [*map(said, opening), "", format_counts(self.counts)]
        if self.imbalance:
            lines.append(said(self.imbalance))
        if self.n_fitted:
            each = ", ".join(f"{name} {count}" for name, count in self.n_fitted.items())
            n_fitted = sum(self.n_fitted.values())
            lines.append(said(f"Training uses {n_fitted} balanced windows: {each}."))
        for warning in self._warnings():
            lines += ["", said(warning)]
        if self.dropped:
            lines.append("")
        return "\n".join([*lines, *map(said, self._treated())])

    def _treated(self) -> Iterator[str]:
        """Yield what was left out, repaired, filled and reused."""
        pieces: Counter[str] = Counter()
        windows: Counter[str] = Counter()
        for entry in self.dropped:
            if "kept_s" in entry:
                yield f"salvaged: {entry['reason']}"
            elif entry.get("n_windows"):
                windows[entry["reason"]] += entry["n_windows"]
            else:
                pieces[entry["reason"]] += 1
        for reason, count in pieces.items():
            yield f"left out {count}: {reason}"
        for reason, count in windows.items():
            yield f"left out {count} windows: {reason}"
        for name, count in self.repaired_stamps.items():
            if count and name != "n_spread":  # the line about packets contains `n_spread`
                words = name.removeprefix("n_").replace("_", " ")
                yield f"repaired {count} timestamps: {words}"
        yield from describe_packets(self.packets)
        for clock, count in self.clocks.items():
            yield f"{clock} in {plural(count, 'recording')}"
        if self.held:
            yield f"held until the next value: {listed(map(repr, self.held), 6)}"
        if self.n_holes_filled:
            yield f"interpolated {self.n_holes_filled} short gaps"
        if constant := [repr(name) for name in self.constant_channels]:
            words = (
                f"{len(constant)} channels never change in training ({listed(constant, 3)}); they"
                " are kept and scaled by 1. To leave them out,"
                if len(constant) > 1
                else f"channel {constant[0]} never changes in training; it is kept and scaled by 1."
                " To leave it out,"
            )
            yield f"{words} name the others with `channels`."
        unlabeled = all(set(by_class) == {""} for by_class in self.counts.values())
        yield from describe_dropped(self.dropped_columns, may_be_label=unlabeled)
        yield from describe_counters(self.counters)
        if self.n_reused:
            yield f"{self.n_reused} recordings were reused from an earlier run"

    def _warnings(self) -> Iterator[str]:
        for pair in self.copies:
            (name, other), (part, other_part) = pair["recordings"], pair["parts"]
            yield (
                f"LEAK: {plural(pair['n_windows'], 'window')} of {other} ({other_part}) and of"
                f" {name} ({part}) are the same. Leave one of the recordings out with `exclude`, or"
                " put both in one group in a manifest."
            )
        yield from filter(None, (self.simultaneous, self.subjects))
        yield from self.odd_scales
        yield from self.odd_values
        if zeros := self.zero_windows:
            yield (
                f"All samples are zero in {plural(sum(zeros.values()), 'window')},"
                f" {max(zeros.values())} of them in {max(zeros, key=lambda name: zeros[name])}:"
                " was the sensor connected?"
            )
        if gaps_s := self.bridging_gaps_s:
            yield (
                f"Because of gaps, windows cover less than half of"
                f" {plural(len(gaps_s), 'recording')}, such as {next(iter(gaps_s))}."
                f" max_gap_s={max(gaps_s.values()):g} bridges most gaps."
            )
        if rates_hz := self.odd_rates_hz:
            name, rate = next(iter(rates_hz.items()))
            yield (
                f"The sample rate of {plural(len(rates_hz), 'recording')} is unusual: {name} has"
                f" {rate:.4g} Hz. Check the unit of their timestamps; set it with `time_unit`."
            )
        lowest, highest = self.own_rates_hz
        common = self.sample_rate_hz
        if lowest < _SLOWER * min(highest, common):
            yield (
                f"The recordings are sampled at {lowest:.4g} to {highest:.4g} Hz. Upsampling to"
                f" {common:g} Hz adds no high frequencies, and the network may classify by their"
                f" absence. Use sample_rate_hz={lowest:.4g}, or leave the slow recordings out."
            )


_FIELDS = {summary_field.name for summary_field in fields(PreparedSummary)}
