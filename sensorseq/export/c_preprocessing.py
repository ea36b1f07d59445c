"""The preprocessing in the C export: resampling and causal steps, as in streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, InputError, noting
from sensorseq.export.c_tables import Tables
from sensorseq.preprocessing.polyphase import design_lowpass, simple_ratio
from sensorseq.preprocessing.resample import rate_ratio
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.steps._kernels import Lagged, LocalFit, MovingStatistic, Sos
from sensorseq.preprocessing.steps.products import (
    Magnitude,
    Power,
    Product,
    SignedBy,
    Subtract,
    _Combined,
)
from sensorseq.preprocessing.steps.units import product_unit
from sensorseq.recording import Channel


@dataclass(frozen=True)
class CResampler:
    """A polyphase filter with `up` phases, each of `n_taps` taps."""

    up: int
    down: int
    n_taps: int
    wait: int  # number of input samples before the first output
    phase: int  # phase of the first output
    latency_s: float

    @classmethod
    def make(
        cls, input_rate_hz: float, rate_hz: float, attenuation_db: float, tables: Tables
    ) -> "CResampler | None":
        """Design `StreamResampler`'s filter and add its taps; return None for equal rates."""
        ratio = simple_ratio(rate_ratio(input_rate_hz, rate_hz))
        if ratio == 1:
            return None
        if ratio is None:
            raise InputError(
                f"resampling from {input_rate_hz:g} to {rate_hz:g} Hz cannot be exported to C: the"
                " ratio is not a fraction of small integers. Sample at a different rate, such as"
                f" {rate_hz:g} or {2 * rate_hz:g} Hz."
            )
        up, down = ratio.numerator, ratio.denominator
        taps = design_lowpass(up, 1 / max(up, down), attenuation_db)
        n_taps = -(-len(taps) // up)
        by_phase = np.zeros((n_taps, up))
        by_phase.flat[: len(taps)] = taps
        tables.add("resample_taps", by_phase.T, "f8")
        delay = len(taps) // 2
        return cls(up, down, n_taps, delay // up + 1, delay % up, delay / up / input_rate_hz)


@dataclass
class CStep:
    """One step: its kernel, the columns it reads, and the sources of its outputs."""

    kind: str
    kernel: Any  # None for a combination of columns
    picked: Sequence[int]
    sources: Sequence[int]
    window: int = 1  # number of samples to keep
    expression: str = ""  # C code of a combination
    n_outputs: int = 0

    @property
    def multiply_adds(self) -> int:
        """The number of multiply-adds per input sample."""
        n = len(self.picked)
        if self.kind == "sos":
            return n * 5 * len(self.kernel.sections)
        return n * {"fit": 1, "moving": 2}.get(self.kind, 0) * self.window + n


def make_steps(
    chain: StepChain, channels: Sequence[str], rate: float, units: Mapping[str, str], tables: Tables
) -> list[CStep]:
    """Return the C steps for these input channels.

    Raise an InputError if a step cannot be exported to C.
    """
    current = tuple(Channel(name, units.get(name, "")) for name in channels)
    steps = []
    for index, step in enumerate(_flat(chain)):
        with noting(f"in steps[{index}] ({step.kind})", ArgumentError):
            in_c = _make_step(step, f"step_{index}", current, rate, units, tables)
            current = step.output_channels(current)
            in_c.n_outputs = len(current)
            steps.append(in_c)
    return steps


def _flat(chain: StepChain) -> list[Any]:
    return [
        inner
        for step in chain.steps
        for inner in (_flat(step) if isinstance(step, StepChain) else [step])
    ]


def _make_step(
    step: Any, name: str, channels: tuple[Channel, ...], rate: float, units: Any, tables: Tables
) -> CStep:
    if isinstance(step, _Combined):
        _check_units(step, channels, units)
        columns = step._columns(channels)
        in_c = CStep("combine", None, columns.picked, columns.sources)
        in_c.expression = _combination(step, [channels[column] for column in columns.picked])
    elif getattr(step, "phase", "causal") != "causal":
        raise InputError(
            f"the step {step.kind!r} has phase='zero', which needs later samples, so it cannot be"
            " exported to C; prepare and train with phase='causal'."
        )
    else:
        columns = step._columns(channels)
        kernel = step._kernel(rate, [channels[column] for column in columns.picked])
        in_c = CStep(_KINDS[type(kernel)], kernel, columns.picked, columns.sources)
        _add_kernel(in_c, name, tables)
    tables.add(f"{name}_picked", in_c.picked, "i4")
    tables.add(f"{name}_source", in_c.sources, "i4")
    return in_c


_KINDS: dict[type, str] = {Sos: "sos", LocalFit: "fit", MovingStatistic: "moving", Lagged: "lag"}


def _add_kernel(step: CStep, name: str, tables: Tables) -> None:
    kernel = step.kernel
    if step.kind == "sos":
        tables.add(f"{name}_sections", kernel.sections, "f8")
    elif step.kind == "fit":
        step.window = kernel.before + 1
        weights = [kernel.weights(before, 0) for before in range(step.window)]
        tables.add(f"{name}_weights", np.concatenate(weights), "f8")
    else:
        step.window = kernel.lag + 1 if step.kind == "lag" else kernel.window


def _check_units(step: Any, channels: tuple[Channel, ...], units: Mapping[str, str]) -> None:
    """Raise an error if a product's factor depends on an unknown unit."""
    if not isinstance(step, Product | Power):
        return
    with_unit = {channel.name for channel in channels if channel.unit} | set(units)
    for _, name in step._inputs():
        if name not in with_unit:
            raise InputError(
                f"the step {step.kind!r} multiplies {name!r}, whose unit the model lacks, so the"
                f' factor is unknown; give units={{{name!r}: ...}}, as in the recordings ("" if'
                " the recordings had no unit)."
            )


def _combination(step: Any, inputs: list[Channel]) -> str:
    """Return the C expression of a combination of the columns x[0], x[1], ..."""
    if isinstance(step, Subtract):
        return "x[0] - x[1]"
    if isinstance(step, SignedBy):
        return "x[0] * (double)((x[1] > 0.0) - (x[1] < 0.0))"
    if isinstance(step, Magnitude):
        return f"sqrt({' + '.join(f'x[{i}] * x[{i}]' for i in range(len(inputs)))})"
    return f"x[0] * x[1] * {product_unit(inputs[0].unit, inputs[1].unit)[1]!r}"
