"""Process each recording: resample it, apply steps, and cut it into windows."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from sensorseq.base.checks import check_positive
from sensorseq.errors import (
    ArgumentError,
    RecordingError,
    WindowError,
    check_choice,
    noting,
    within_memory,
)
from sensorseq.preprocessing.polyphase import ATTENUATION_DB, check_attenuation
from sensorseq.preprocessing.regrid import bridging_gap_s, valid_rows
from sensorseq.preprocessing.resample import resample_recording
from sensorseq.preprocessing.scale import NORMALIZE, normalize_pieces
from sensorseq.preprocessing.steps import Step, StepChain
from sensorseq.preprocessing.steps.chain import make_steps
from sensorseq.preprocessing.windowing.cut import (
    check_window_choices,
    window_recordings,
    window_samples,
)
from sensorseq.recording import Recording, sample_rate_of, time_covered
from sensorseq.stamps.period import SAME_PERIOD, sample_period
from sensorseq.windows import WindowSet

MOST_UPSAMPLED = 95.0  # larger ratios of the new rate to the old rate suggest a wrong unit of time
_EVEN_STEP, _MOSTLY = (
    0.25,
    0.9,
)  # maximum relative deviation of an even step from the period; minimum fraction of even steps
SLIGHTLY_MORE = 1.05  # tolerance, because a duration does not include the last sample's period


@dataclass(frozen=True)
class CutOptions:
    """The fields of `PreparationOptions` that apply to each recording."""

    window_s: float
    hop_s: float | None = None
    sample_rate_hz: float | None = None
    channels: Sequence[str] | None = None
    units: Mapping[str, str] | None = None
    max_gap_s: float | None = None
    attenuation_db: float = ATTENUATION_DB
    label_rule: str = "whole"
    min_purity: float | None = None
    short: str = "drop"
    # Windows begin at multiples of the hop on the recording's clock, or at most this much later.
    # With None, windows are not aligned with the clock.
    slop_s: float | None = None
    normalize: str | None = None
    held: list[str] | None = None  # channels, as in `resample_recording`; not an option of users

    def __post_init__(self) -> None:
        check_positive("window_s", self.window_s)
        for name in ("sample_rate_hz", "hop_s", "max_gap_s", "slop_s"):
            if getattr(self, name) is not None:
                check_positive(name, getattr(self, name))
        check_attenuation(self.attenuation_db)
        check_window_choices(self.label_rule, self.min_purity, self.short)
        if self.normalize is not None:
            check_choice("normalize", self.normalize, NORMALIZE)
        if isinstance(self.channels, str):
            raise ArgumentError(f"channels={self.channels!r} is a string; give a list of names.")
        if self.units is not None and not isinstance(self.units, Mapping):
            raise ArgumentError(f"units={self.units!r} is not a mapping of channels to units.")


# Options recorded in prepared files and models, by section of the configuration.
_RECORDED = {
    "resample": ("sample_rate_hz", "max_gap_s", "attenuation_db"),
    "window": ("window_s", "hop_s", "label_rule", "min_purity", "short", "slop_s"),
}


@dataclass(frozen=True)
class RecordingPlan:
    """How each recording is processed; with the steps as objects."""

    options: CutOptions
    steps: tuple[Step, ...]

    @classmethod
    def recorded(cls, made: Mapping[str, Any], hop_s: float | None = None) -> "RecordingPlan":
        """Restore the plan from the `provenance` of windows or the `preparation_` of a model.

        Raises
        ------
        WindowError
            If `made` does not describe how the windows were made.
        InputError
            If a value is not valid.
        """
        try:
            configuration = made["configuration"]
            values = {
                name: configuration[section].get(name)
                for section, names in _RECORDED.items()
                for name in names
            }
            values["sample_rate_hz"] = made["sample_rate_hz"]
            values["channels"] = list(made.get("input_channels") or made["channels"])
            values["units"] = (configuration.get("input") or {}).get("units")
            values["held"] = made.get("held")
            values["normalize"] = (configuration.get("scale") or {}).get("normalize")
            steps = configuration.get("steps") or []
        except (AttributeError, KeyError, TypeError, IndexError) as error:
            raise WindowError(
                "these windows have no record of how they were made; use a file written by"
                " `prepare`."
            ) from error
        values["hop_s"] = values["hop_s"] if hop_s is None else hop_s
        stored = {name: value for name, value in values.items() if value is not None}
        return cls(CutOptions(**{"window_s": None, **stored}), make_steps(steps))

    @property
    def configuration(self) -> dict[str, Any]:
        """The sections of the configuration that `recorded` reads."""
        sections: dict[str, Any] = {
            section: {name: getattr(self.options, name) for name in names}
            for section, names in _RECORDED.items()
        }
        inputs = {"channels": self.options.channels, "units": self.options.units}
        sections["scale"] = {"normalize": self.options.normalize}
        return {"input": inputs, **sections, "steps": [step.to_dict() for step in self.steps]}

    def prepare(self, recordings: Iterable[Recording]) -> WindowSet:
        """Cut recordings into windows; see `PreparePipeline.prepare`."""
        taken = self.checked(recordings)
        given_hz = self.options.sample_rate_hz
        if given_hz is None:
            rate, rate_from = common_rate(map(sample_rate_of, taken))
        else:
            rate, rate_from = float(given_hz), "given"
        pieces_of = [self.pieces(recording, rate) for recording in taken]
        windows = self.windows(chain.from_iterable(pieces_of), rate, check_classes=True)
        n_windows = Counter(np.asarray(windows.recording_id).tolist())
        provenance = {
            **windows.provenance,
            "configuration": self.configuration,
            "sample_rate_hz": windows.sample_rate_hz,
            "sample_rate_from": rate_from,
            "input_channels": list(taken[0].channel_names),
            "recordings": [
                {
                    "recording_id": recording.recording_id,
                    **describe_cut(recording, pieces),
                    "n_windows": n_windows[recording.recording_id],
                }
                for recording, pieces in zip(taken, pieces_of)
            ],
            "held": self.options.held or [],
        }
        return replace(windows, provenance=provenance)

    def checked(self, recordings: Iterable[Recording]) -> list[Recording]:
        """Check the recordings, and return them with only the plan's channels."""
        listed = list(recordings)
        if not listed:
            raise WindowError("no recordings to prepare.")
        times = Counter(recording.recording_id for recording in listed)
        for recording in listed:
            recording.check_label_spans()
        twice = [name for name, count in times.items() if count > 1]
        if twice:
            raise RecordingError(
                f"recording id {twice[0]!r} is used {times[twice[0]]} times; give each recording a"
                " unique id."
            )
        return [self.select(recording) for recording in listed]

    def select(self, recording: Recording) -> Recording:
        """Return the recording with only the plan's channels, in their order."""
        channels = self.options.channels
        return recording if channels is None else recording.select(channels)

    def window_samples(self, sample_rate_hz: float) -> int:
        """Return the window length in samples for recordings resampled to `sample_rate_hz`."""
        return window_samples(self.options.window_s, sample_rate_hz)

    def pieces(self, recording: Recording, sample_rate_hz: float) -> list[Recording]:
        """Resample a recording, cut it at gaps, apply the steps to the pieces, and normalize them.

        If there is no time at which every channel has a value, the result is one empty piece, so
        that the recording is counted.
        """
        own_rate = sample_rate_of(recording)
        is_given = self.options.sample_rate_hz is not None
        if not is_given:
            _check_channel_rates(recording)
        if is_given and sample_rate_hz > MOST_UPSAMPLED * own_rate:
            raise RecordingError(
                f"recording {recording.recording_id!r} has {own_rate:.4g} samples per second;"
                f" sample_rate_hz={sample_rate_hz:g} would create {sample_rate_hz / own_rate:.0f}"
                f" times as many without adding information. Use sample_rate_hz={own_rate:.4g}, or"
                " check the unit of the timestamps (time_unit)."
            )
        with within_memory("use a lower sample_rate_hz or a shorter max_gap_s"):
            pieces = resample_recording(
                recording,
                sample_rate_hz,
                self.options.max_gap_s,
                attenuation_db=self.options.attenuation_db,
                held=self.options.held,
            )
        bridged = self._bridged(recording, pieces)
        if not pieces:
            channels = StepChain(self.steps).output_channels(recording.channels)
            none, never = np.empty((0, len(channels))), np.empty(0)
            empty = replace(recording, values=none, timestamps_s=never, channels=channels)
            return [replace(empty, attributes={**empty.attributes, **bridged})]
        if bridged:
            pieces = [replace(p, attributes={**p.attributes, **bridged}) for p in pieces]
        for index, step in enumerate(self.steps):
            where = f"in steps[{index}] ({step.kind}) of recording {recording.recording_id!r}"
            with noting(where):
                pieces = [step.apply(piece, sample_rate_hz) for piece in pieces]
        return pieces if self.options.normalize is None else normalize_pieces(pieces)

    def _bridged(self, recording: Recording, pieces: Sequence[Recording]) -> dict[str, float]:
        """Return {"bridging_gap_s": ...} if most samples are in pieces shorter than a window.

        Otherwise, return an empty dictionary.
        """
        window_s, duration_s = self.options.window_s, recording.duration_s
        kept_s = sum(p.duration_s for p in pieces if p.duration_s * SLIGHTLY_MORE >= window_s)
        if duration_s < window_s or kept_s >= duration_s / 2:
            return {}
        # If most samples are in long pieces, the missing time is a pause or a jump of the clock.
        if kept_s >= recording.n_samples / recording.median_sample_rate_hz / 2:
            return {}
        gap_s = bridging_gap_s(recording.timestamps_s, recording.values, window_s)
        return {"bridging_gap_s": gap_s}

    def windows(
        self,
        pieces: Iterable[Recording],
        sample_rate_hz: float,
        *,
        check_classes: bool = False,
        hop_s: float | None = None,
    ) -> WindowSet:
        """Cut pieces into windows; the result may be empty."""
        use = self.options
        with within_memory("use a shorter window_s or a longer hop_s"):
            return window_recordings(
                pieces,
                use.window_s,
                use.hop_s if hop_s is None else hop_s,
                sample_rate_hz=sample_rate_hz,
                label_rule=use.label_rule,
                min_purity=use.min_purity,
                short=use.short,
                check_classes=check_classes,
                slop_s=use.slop_s,
            )


def _check_channel_rates(recording: Recording) -> None:
    """Raise an error if a table interleaves rows of sensors with lower rates than the table."""
    x, t = recording.values, recording.timestamps_s
    if "sensor_rates_hz" in recording.attributes or recording.is_complete:
        return
    highest = 0.0
    for column in range(recording.n_channels):
        valid = valid_rows(x, column)
        if valid is None or len(valid) < 2:
            return
        period_s = sample_period(t, valid)
        is_even = np.abs(np.diff(t[valid]) / period_s - 1) < _EVEN_STEP
        if is_even.mean() < _MOSTLY:
            return  # values are missing at irregular intervals
        highest = max(highest, 1 / period_s)
    table = recording.median_sample_rate_hz
    if highest * (1 + SAME_PERIOD) < table:
        raise RecordingError(
            f"recording {recording.recording_id!r}: its rows come at {table:.4g} Hz, but no channel"
            f" has values at more than {highest:.4g} Hz, so the rows belong to several sensors. Use"
            f" sample_rate_hz={highest:.4g}."
        )


def describe_cut(recording: Recording, pieces: Sequence[Recording]) -> dict[str, Any]:
    """Return plain values that describe how a recording was processed before windows were cut."""
    start_s, end_s = time_covered(recording)
    recorded_hz = sample_rate_of(recording)
    facts: dict[str, Any] = {
        "sample_rate_hz": recorded_hz if np.isfinite(recorded_hz) else None,
        "n_samples": recording.n_samples,
        "start_s": start_s,
        "end_s": end_s,
    }
    kept = ("repaired_stamps", "packets", "clock")
    facts |= {name: recording.attributes[name] for name in kept if name in recording.attributes}
    filled: list[Any] = [
        piece.attributes["resampled"] for piece in pieces if "resampled" in piece.attributes
    ]
    if "bridging_gap_s" in pieces[0].attributes:
        facts["bridging_gap_s"] = pieces[0].attributes["bridging_gap_s"]
    facts["slow"] = pieces[0].attributes.get("slow", {})
    facts["n_pieces"] = len(filled)
    facts["n_holes_filled"] = sum(int(piece["n_holes_filled"]) for piece in filled)
    return facts


def common_rate(rates_hz: Iterable[float]) -> tuple[float, str]:
    """Return a common rate for recordings, and its source; NaN in `rates_hz` means unknown.

    The common rate is the lower median of the rates, so it is the rate of one of the recordings.
    """
    finite = sorted(rate for rate in rates_hz if np.isfinite(rate))
    if not finite:
        raise WindowError(
            "every recording has fewer than two samples, so the sample rate is unknown."
        )
    # Round to nine digits, because differences of timestamps may give 99.99999999999 for 100 Hz.
    rate, source = float(f"{finite[(len(finite) - 1) // 2]:.9g}"), "median of the recordings"
    if finite[-1] > (1 + SAME_PERIOD) * finite[0]:
        source += f", whose rates are {finite[0]:.4g} to {finite[-1]:.4g} Hz"
    return rate, source
