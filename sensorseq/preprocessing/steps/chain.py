"""Chain steps into one step, and make steps from configurations and files."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.base import checks
from sensorseq.errors import ArgumentError, ConfigurationError, check_choice, did_you_mean, noting
from sensorseq.preprocessing.steps._columns import ChannelwiseStep, ColumnStep
from sensorseq.preprocessing.steps.base import Step, StepStream, StreamBase, set_fields
from sensorseq.preprocessing.steps.features import Derivative, Difference, Moving
from sensorseq.preprocessing.steps.filters import BandPass, Detrend, Notch
from sensorseq.preprocessing.steps.products import Magnitude, Power, Product, SignedBy, Subtract
from sensorseq.recording import Channel


@dataclass(frozen=True)
class StepChain(Step):
    """Steps applied in sequence; errors name the step that raised them.

    The result of `apply` has the same bits as if the steps were applied one by one. An empty chain
    changes nothing.
    """

    kind: ClassVar[str] = "chain"

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        for step in steps:
            if not isinstance(step, Step):
                raise ArgumentError(f"steps: {step!r} is not a step; make one with make_step.")
        set_fields(self, steps=steps)

    def output_channels(self, channels: tuple[Channel, ...]) -> tuple[Channel, ...]:
        """Return the output channels; see `Step`."""
        for index, step in enumerate(self.steps):
            with noting(f"in steps[{index}] ({step.kind})"):
                channels = step.output_channels(channels)
        return channels

    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream, whose latency is the sum of the latencies of all steps; see `Step`."""
        rate = checks.check_rate("sample_rate_hz", sample_rate_hz)
        streams = []
        for index, step in enumerate(self.steps):
            with noting(f"in steps[{index}] ({step.kind})"):
                streams.append(step.stream(channels, rate))
                channels = step.output_channels(channels)
        return _ChainStream(streams) if streams else _Unchanged(channels)

    def without_zero(self, channels: tuple[Channel, ...]) -> dict[str, str]:
        """Return the output channels in which 0 has lost its meaning, and the step that caused it.

        0 in these channels does not mean 0 in the recorded channels they were computed from.
        """
        lost: dict[str, str] = {}
        for step in self.steps:
            after = step.output_channels(channels)
            if isinstance(step, StepChain):
                lost |= step.without_zero(channels)
            elif isinstance(step, ColumnStep):
                columns, before = step._columns(channels), dict(lost)
                for channel, source in zip(after, columns.sources):
                    if source >= 0:
                        continue
                    is_each = isinstance(step, ChannelwiseStep)
                    picked = [columns.picked[-1 - source]] if is_each else columns.picked
                    causes = [before.get(channels[column].name) for column in picked]
                    causes.append(None if _keeps_zero(step) else step.kind)
                    lost.pop(channel.name, None)
                    if any(causes):
                        lost[channel.name] = next(cause for cause in causes if cause)
            else:
                lost = dict.fromkeys((channel.name for channel in after), step.kind)
            channels = after
        return lost

    def to_dict(self) -> dict[str, Any]:
        """Return {"kind": "chain", "steps": [...]}."""
        return {"kind": self.kind, "steps": [step.to_dict() for step in self.steps]}


def _keeps_zero(step: Step) -> bool:
    """Test whether 0 in the new channels means 0 in the channels they were computed from."""
    if isinstance(step, BandPass):
        return step.low_hz is None
    if isinstance(step, Moving):
        return step.statistic == "mean"
    return isinstance(step, (Notch, Product, Power, SignedBy))


class _Unchanged(StreamBase):
    latency_s = 0.0

    def _push(self, samples: NDArray[np.float64]) -> NDArray[np.floating]:
        return samples.copy()

    def _flush(self) -> NDArray[np.floating]:
        return np.empty((0, len(self._names)))


class _ChainStream:
    def __init__(self, streams: list[StepStream]) -> None:
        self._streams = streams
        self.latency_s = sum(stream.latency_s for stream in streams)

    def push(self, values: ArrayLike) -> NDArray[np.floating]:
        rows: NDArray[np.floating] = np.asarray(values)
        for stream in self._streams:
            rows = stream.push(rows)
        return rows

    def flush(self) -> NDArray[np.floating]:
        left: NDArray[np.floating] | None = None
        for stream in self._streams:
            parts = [stream.flush()] if left is None else [stream.push(left), stream.flush()]
            left = np.concatenate(parts)
        assert left is not None
        return left


STEPS: dict[str, type[Step]] = {
    step.kind: step
    for step in (
        Detrend,
        BandPass,
        Notch,
        Derivative,
        Difference,
        Moving,
        Product,
        Power,
        Subtract,
        SignedBy,
        Magnitude,
        StepChain,
    )
}


def make_step(table: Mapping[str, Any]) -> Step:
    """Make a step from the result of `to_dict` or from a TOML table, ``{"kind": ..., **fields}``.

    Missing fields get their default values; an error names the nearest known kind or field.
    """
    if not isinstance(table, Mapping) or "kind" not in table:
        raise ConfigurationError(f"a step must be a table with a kind, not {table!r}.")
    step = STEPS[check_choice("kind", table["kind"], STEPS)]
    field_of = {field.name: field for field in fields(step)}  # type: ignore[arg-type]
    values = {name: value for name, value in table.items() if name != "kind"}
    for name in values:
        if name not in field_of:
            hint = did_you_mean(name, field_of)
            raise ConfigurationError(
                f"step {step.kind!r} has no field {name!r}.{hint} Known: {', '.join(field_of)}."
            )
    for name, field in field_of.items():
        if field.default is MISSING and name not in values:
            raise ConfigurationError(f"step {step.kind!r} needs {name}.")
    with noting(f"in step {step.kind!r}", ArgumentError):
        if step is StepChain:
            entries = values.get("steps", ())
            if not isinstance(entries, (list, tuple)):
                raise ConfigurationError(f"steps={entries!r} is not a list of tables.")
            return StepChain(tuple(make_step(entry) for entry in entries))
        return step(**values)


def make_steps(steps: Sequence[Any] | None) -> tuple[Step, ...]:
    """Return steps from objects or tables; if an error is raised, its note names the entry."""
    if isinstance(steps, (dict, str)):
        raise ArgumentError(f"steps={steps!r} is a single step; give a list of steps.")
    made = []
    for index, step in enumerate(steps or ()):
        with noting(f"in steps[{index}]"):
            made.append(make_step(step) if isinstance(step, dict) else step)
        if not hasattr(made[-1], "apply"):
            raise ArgumentError(
                f"steps[{index}] is {step!r}; give a step such as Detrend(window_s=1), or a table"
                ' such as {"kind": "detrend", "window_s": 1}.'
            )
    return tuple(made)
