"""Several steps in sequence as one step: the form of a pipeline that a robot runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sensorseq.errors import ArgumentError, SensorseqError
from sensorseq.preprocessing._checks import check_rate
from sensorseq.preprocessing.steps import _fields
from sensorseq.preprocessing.steps.base import Step, StepBase, StepStream, StreamBase
from sensorseq.recording import Channel


@dataclass(frozen=True)
class StepChain(StepBase):
    """Steps applied in sequence.

    Parameters
    ----------
    steps : sequence of Step
        The steps in order; an empty chain changes nothing.

    Notes
    -----
    `apply` is bit-identical to applying the steps one by one, each at its rate. Errors name the
    step they come from.
    """

    kind: ClassVar[str] = "chain"

    steps: tuple[Step, ...] = ()

    def __post_init__(self) -> None:
        steps = tuple(self.steps)
        for step in steps:
            if not isinstance(step, Step):
                raise ArgumentError(f"steps: {step!r} is not a step; make one with make_step.")
        _fields.set_fields(self, steps=steps)

    def output_channels(
        self, channels: tuple[Channel, ...], sample_rate_hz: float | None = None
    ) -> tuple[Channel, ...]:
        """Return the channels of the result; see `Step`."""
        for number, step in enumerate(self.steps):
            with _naming(number, step):
                channels = step.output_channels(channels, sample_rate_hz)
                if sample_rate_hz is not None:
                    sample_rate_hz = step.output_rate_hz(sample_rate_hz)
        return channels

    def output_rate_hz(self, sample_rate_hz: float) -> float:
        """Return the rate of the result; see `Step`."""
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        for step in self.steps:
            rate = step.output_rate_hz(rate)
        return rate

    def stream(self, channels: tuple[Channel, ...], sample_rate_hz: float) -> StepStream:
        """Return a stream; see `Step`. Its latency is the sum of all latencies."""
        rate = check_rate("sample_rate_hz", sample_rate_hz)
        streams = []
        for number, step in enumerate(self.steps):
            with _naming(number, step):
                streams.append(step.stream(channels, rate))
                channels = step.output_channels(channels, rate)
                rate = step.output_rate_hz(rate)
        return _ChainStream(streams) if streams else _Unchanged(channels)

    def to_dict(self) -> dict[str, Any]:
        """Return {"kind": "chain", "steps": [...]}."""
        return {"kind": self.kind, "steps": [step.to_dict() for step in self.steps]}


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
        self.delay_s = sum(stream.delay_s for stream in streams)

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


@contextmanager
def _naming(number: int, step: Step) -> Iterator[None]:
    try:
        yield
    except SensorseqError as error:
        error.add_note(f"in step {number + 1}, {step.kind}")
        raise
