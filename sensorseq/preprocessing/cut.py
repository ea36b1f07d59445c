"""Cut one recording into windows, by rules that do not depend on other recordings."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, SensorseqError
from sensorseq.preprocessing._checks import check_positive
from sensorseq.preprocessing.engine import check_engine
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.resample import StreamResampler, resample_recording
from sensorseq.preprocessing.steps import Step, StepChain, make_step
from sensorseq.preprocessing.window import (
    check_window_choices,
    window_recordings,
    window_samples,
)
from sensorseq.recording import Channel, Recording
from sensorseq.windows import WindowSet

SAME_RATE = 1e-3  # rates that differ by less are treated as equal: time stamps are rounded


@dataclass(frozen=True)
class CutPlan:
    """Channels, rate, steps and windows: the processing applied to every recording.

    Parameters
    ----------
    options : PreparationOptions
        Those of input, resample, window and `random_state` are used.
    steps : tuple of Step
        The steps of the options, or those derived.

    Raises
    ------
    ArgumentError, SignalError
        If a value is invalid.
    """

    options: PreparationOptions
    steps: tuple[Step, ...]

    @classmethod
    def of(cls, options: PreparationOptions) -> "CutPlan":
        """Return the plan for checked options."""
        check_positive("window_s", options.window_s)
        if options.sample_rate_hz is not None:
            check_positive("sample_rate_hz", options.sample_rate_hz)
        for name in ("hop_s", "max_gap_s", "train_hop_s"):
            if getattr(options, name) is not None:
                check_positive(name, getattr(options, name))
        check_engine(options.resample_engine, options.attenuation_db)
        check_window_choices(
            options.label_rule, options.min_purity, options.short, options.train_phase
        )
        if isinstance(options.channels, str):
            raise ArgumentError(f"channels={options.channels!r} is a string; give a list of names.")
        return cls(options, make_steps(options.steps))

    @property
    def cuts_training_anew(self) -> bool:
        """Whether training windows are cut separately."""
        return self.options.train_hop_s is not None or self.options.train_phase != "grid"

    def select(self, recording: Recording) -> Recording:
        """Return the recording with the channels the plan names, in its order."""
        channels = self.options.channels
        return recording if channels is None else recording.select(channels)

    def window_rate_hz(self, sample_rate_hz: float) -> float:
        """Return the rate of windows cut from recordings resampled to `sample_rate_hz`."""
        return StepChain(self.steps).output_rate_hz(sample_rate_hz)

    def window_samples(self, sample_rate_hz: float) -> int:
        """Return the samples per window at that resampling rate."""
        return window_samples(self.options.window_s, self.window_rate_hz(sample_rate_hz))

    def pieces(self, recording: Recording, sample_rate_hz: float) -> list[Recording]:
        """Resample a recording and apply the steps to its pieces.

        A recording without any time at which all channels are known becomes one empty piece, so
        that it is counted.
        """
        pieces = resample_recording(
            recording,
            sample_rate_hz,
            self.options.max_gap_s,
            engine=self.options.resample_engine,
            attenuation_db=self.options.attenuation_db,
        )
        if not pieces:
            channels = StepChain(self.steps).output_channels(recording.channels, sample_rate_hz)
            return [_emptied(recording, channels)]
        rate = sample_rate_hz
        for index, step in enumerate(self.steps):
            try:
                pieces = [step.apply(piece, rate) for piece in pieces]
                rate = step.output_rate_hz(rate)
            except SensorseqError as error:
                error.add_note(
                    f"in steps[{index}] ({step.kind}) of recording {recording.recording_id!r}"
                )
                raise
        return pieces

    def windows(
        self, pieces: Iterable[Recording], sample_rate_hz: float, *, check_classes: bool
    ) -> WindowSet:
        """Cut pieces into windows on the grid; see `window_recordings`."""
        return self._cut(pieces, sample_rate_hz, self.options.hop_s, "grid", check_classes)

    def training_windows(self, pieces: Iterable[Recording], sample_rate_hz: float) -> WindowSet:
        """Cut pieces into training windows; there may be none."""
        options = self.options
        hop_s = options.hop_s if options.train_hop_s is None else options.train_hop_s
        return self._cut(pieces, sample_rate_hz, hop_s, self.options.train_phase, False)

    def _cut(
        self,
        pieces: Iterable[Recording],
        sample_rate_hz: float,
        hop_s: float | None,
        phase: str,
        check_classes: bool,
    ) -> WindowSet:
        return window_recordings(
            pieces,
            self.options.window_s,
            hop_s,
            sample_rate_hz=self.window_rate_hz(sample_rate_hz),
            label_rule=self.options.label_rule,
            min_purity=self.options.min_purity,
            short=self.options.short,
            phase=phase,
            random_state=self.options.random_state,
            check_classes=check_classes,
        )

    def lookahead_s(
        self, channels: tuple[Channel, ...], rates_hz: Iterable[float], sample_rate_hz: float
    ) -> float:
        """Return how many seconds a sample of a window may depend on later samples.

        The sum for the resampling filter, if the rate changes, and for steps with
        ``phase="zero"``; the maximum over recordings with these rates and channels.
        """
        resampling = [
            StreamResampler(
                rate, sample_rate_hz, 1, attenuation_db=self.options.attenuation_db
            ).latency_s
            for rate in set(rates_hz)
            if abs(rate / sample_rate_hz - 1) > SAME_RATE
        ]
        steps = StepChain(self.steps).stream(channels, sample_rate_hz)
        return max(resampling, default=0.0) + steps.latency_s


def make_steps(steps: Sequence[Any] | None) -> tuple[Step, ...]:
    """Return the steps given as objects or tables.

    Raises
    ------
    ArgumentError, ConfigurationError
        If an entry is neither, or is invalid; a note names it.
    """
    if isinstance(steps, dict | str):
        raise ArgumentError(f"steps={steps!r} is a single step; give a list of steps.")
    made = []
    for index, step in enumerate(steps or ()):
        try:
            made.append(make_step(step) if isinstance(step, dict) else step)
        except SensorseqError as error:
            error.add_note(f"in steps[{index}]")
            raise
        if not hasattr(made[-1], "apply"):
            raise ArgumentError(
                f"steps[{index}] is {step!r}; give a step such as Detrend(window_s=1), or a table"
                ' such as {"kind": "detrend", "window_s": 1}.'
            )
    return tuple(made)


def describe_cut(recording: Recording, pieces: Sequence[Recording]) -> dict[str, Any]:
    """Return facts about a recording's processing before windows were cut, as plain values."""
    facts: dict[str, Any] = {"n_samples": recording.n_samples}
    if "repaired_stamps" in recording.attributes:
        facts["repaired_stamps"] = recording.attributes["repaired_stamps"]
    filled: list[Any] = [
        piece.attributes["resampled"] for piece in pieces if "resampled" in piece.attributes
    ]
    facts["n_pieces"] = len(filled)
    facts["n_holes_filled"] = sum(int(piece["n_holes_filled"]) for piece in filled)
    return facts


def _emptied(recording: Recording, channels: tuple[Channel, ...]) -> Recording:
    return replace(
        recording,
        values=np.empty((0, len(channels)), np.float64),
        timestamps_s=np.empty(0),
        channels=channels,
    )
