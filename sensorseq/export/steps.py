"""Preparation steps that process one sample at a time, as operators."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sensorseq.errors import InputError
from sensorseq.export.graph import Graph
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.steps.chain import StepChain, make_step
from sensorseq.preprocessing.steps.products import Magnitude, Power, Product, SignedBy, Subtract
from sensorseq.preprocessing.steps.units import product_unit
from sensorseq.recording import Channel

_POINTWISE = (Product, Power, Subtract, SignedBy, Magnitude)


def stored_steps(preparation: Mapping[str, Any] | None) -> list[Any]:
    """Return the steps applied to a model's windows, with chains flattened."""
    configuration = (preparation or {}).get("configuration") or {}
    found = [make_step(said) for said in configuration.get("steps") or []]
    while any(isinstance(step, StepChain) for step in found):
        found = [one for step in found for one in getattr(step, "steps", (step,))]
    return found


def input_channels(preparation: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels before the steps."""
    return list(preparation.get("input_channels") or preparation["channels"])


def apply_steps(g: Graph, x: str, preparation: Mapping[str, Any], dtype: str) -> str:
    """Apply the steps to windows (n, t, c); raise for a step with memory, by name."""
    units = PreparationOptions.recorded(preparation).units or {}
    channels = tuple(Channel(name, units.get(name, "")) for name in input_channels(preparation))
    for step in stored_steps(preparation):
        if not isinstance(step, _POINTWISE):
            raise InputError(
                f"the step {step.kind!r} cannot be exported: it depends on samples before the"
                " window. Export without `steps` and apply it outside, with sensorseq stream or in"
                " your program."
            )
        if isinstance(step, Product | Power) and not all(
            units.get(name) for _, name in step._inputs()
        ):
            raise InputError(
                f"the step {step.kind!r} cannot be exported: the model does not know the units of"
                f" its channels, which decide about its factor. Prepare with units of"
                f" {', '.join(name for _, name in step._inputs())}."
            )
        columns = step._columns(channels)
        picked = [
            g("Gather", x, np.array([column]), axis=2)  # (n, t, 1)
            for column in columns.picked
        ]
        made = _combined(g, step, picked, [channels[column] for column in columns.picked])
        made = g.cast(made, dtype)
        kept = np.array([source for source in columns.sources if source >= 0], np.int64)
        x = g("Concat", g("Gather", x, kept, axis=2), made, axis=2) if kept.size else made
        channels = columns.channels
    return x


def _combined(g: Graph, step: Any, inputs: list[str], channels: list[Channel]) -> str:
    """Compute the new channel of a step (n, t, 1) in float64."""
    values = [g.cast(each, np.float64) for each in inputs]
    if isinstance(step, Magnitude):
        squares = [g("Mul", each, each) for each in values]
        total = squares[0]
        for square in squares[1:]:  # the same order as in the step
            total = g("Add", total, square)
        return g("Sqrt", total)
    left, right = values
    if isinstance(step, Subtract):
        return g("Sub", left, right)
    if isinstance(step, SignedBy):
        return g("Mul", left, g("Sign", right))
    _, factor = product_unit(channels[0].unit, channels[1].unit)
    return g("Mul", g("Mul", left, right), np.float64(factor))
