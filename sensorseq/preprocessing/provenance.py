"""Types of the provenance of windows, which is stored as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BEFORE_SPLIT = ("balanced", "augmented")  # operations that must not happen before a split


@dataclass(frozen=True)
class SourceFile:
    """A file that a recording was read from: its path relative to the folder, and its digest."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Provenance:
    """The provenance of a WindowSet or a prepared file of any version.

    `scaled` is the kind of scaler that was applied to the windows. `files` maps the id of each
    recording to its files. `made_before_split` lists the operations of `BEFORE_SPLIT` that were
    applied before a split. `input_channels` are the channels before the steps, and `in_packets` is
    True if the samples of any recording came in packets. `held` lists the channels whose values
    were held until the next one; None means unknown.
    """

    configuration: dict[str, Any] | None
    scaled: str | None
    input_channels: list[str] | None
    files: Mapping[str, tuple[SourceFile, ...]]
    made_before_split: tuple[str, ...]
    in_packets: bool
    held: list[str] | None = None

    @classmethod
    def of(cls, recorded: Mapping[str, Any]) -> "Provenance":
        """Read the provenance of a WindowSet or a prepared file."""
        files = {
            str(entry["recording_id"]): tuple(
                SourceFile(str(source.get("path", "")), str(source["sha256"]))
                for source in entry["sources"]
                if "sha256" in source
            )
            for entry in recorded.get("recordings") or ()
            if entry.get("sources")
        }
        made = [
            name
            for name in BEFORE_SPLIT
            if isinstance(recorded.get(name), Mapping) and recorded[name].get("before_split")
        ]
        return cls(
            recorded.get("configuration"),
            recorded.get("scaled"),
            recorded.get("input_channels"),
            files,
            tuple(made),
            any(entry.get("packets") for entry in recorded.get("recordings") or ()),
            recorded.get("held"),
        )

    @property
    def hop_s(self) -> float | None:
        """The hop in seconds, or None if it is not recorded."""
        window: Mapping[str, Any] = (self.configuration or {}).get("window") or {}
        return window.get("hop_s")

    @classmethod
    def of_each(cls, recorded: Mapping[str, Any]) -> list["Provenance"]:
        """Read the provenance of each set that was joined, or of the only set."""
        joined = recorded.get("joined")
        return [cls.of(entry) for entry in (joined if isinstance(joined, list) else [recorded])]
