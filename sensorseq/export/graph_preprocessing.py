"""The windows of a graph: steps of the preparation, gaps, cropping, scaling and frames."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sensorseq.errors import ArgumentError, InputError
from sensorseq.export.graph import Graph
from sensorseq.prediction.checked_windows import LARGEST
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.patches import LARGEST_SAMPLE, SMALLEST_POWER, Patch
from sensorseq.prediction.preparation import refuse_normalized
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.scale import Scaler
from sensorseq.preprocessing.steps.chain import StepChain, make_step
from sensorseq.preprocessing.steps.products import Magnitude, Power, Product, SignedBy, Subtract
from sensorseq.preprocessing.steps.units import product_unit
from sensorseq.recording import Channel

MOST_STEPS = 2**31 - 1  # largest step count in a C int
_POINTWISE = (Product, Power, Subtract, SignedBy, Magnitude)


@dataclass(frozen=True)
class GraphWindows:
    """Names of tensors in the graph: scaled float32 windows (n, t, c), lengths and step count.

    `lengths` (int64) has shape (n,), or (1,) if all windows are full; `n_steps` has shape (1,) and
    contains t. `usable` (bool), of shape (n,), is False for windows that `predict` refuses because
    of a value. If samples may be missing, `lost` (bool), of shape (n, 1, c), marks the channels
    without a number.
    """

    x: str
    lengths: str
    n_steps: str
    n_channels: int
    are_full: bool
    usable: str = ""
    lost: str = ""

    def is_valid(self, g: Graph, lengths: str | None = None) -> str:
        """Return the name of a mask (n or 1, t) that is True for steps within the lengths."""
        steps = g("Range", 0, g("Squeeze", self.n_steps, [0]), 1)
        return g("Less", steps, g("Unsqueeze", lengths or self.lengths, [1]))


def read_windows(
    g: Graph,
    of: Input,
    *,
    n_timesteps: int | None,
    lengths: bool,
    dtype: str,
    steps: bool,
    sensor: str = "",
) -> GraphWindows:
    """Declare a graph's inputs; apply the preparation's steps if `steps` is set, crop and scale.

    If sensors have names, `sensor` is the name of the sensor whose inputs are declared.
    """
    n_channels, flat, preparation = of.n_channels, of.flat_timesteps, of.preparation
    if n_timesteps is not None and flat not in (None, n_timesteps):
        raise ArgumentError(f"n_timesteps={n_timesteps}, but the model takes {flat} columns.")
    if steps and preparation is None:
        raise InputError(
            "steps=True needs the preparation of the windows, but the model was trained on arrays;"
            " train it on a prepared file."
        )
    refuse_normalized(preparation, "a graph of windows")
    recorded: Mapping[str, Any] = preparation or {}
    n_inputs = len(input_channels(recorded)) if steps else n_channels
    n_timesteps = flat or n_timesteps
    suffix = f"_{sensor}" if sensor else ""
    axis: int | str = f"timesteps{suffix}" if n_timesteps is None else n_timesteps
    shape: list[int | str] = ["n", axis] if flat else ["n", axis, n_inputs]
    x = g.add_input(f"X{suffix}", dtype, shape)
    n_steps = g("Shape", x, start=1, end=2)
    if n_timesteps is not None:
        n_steps = g.constant([n_timesteps])
    valid, usable = n_steps, ""
    if lengths:
        given = g.add_input(f"lengths{suffix}", np.int64, ["n"])
        valid = g("Min", g("Max", given, [1]), n_steps)
        usable = g("Equal", given, valid)
    if flat:
        x = g("Unsqueeze", x, [2])
    windows = GraphWindows(x, valid, n_steps, n_channels, not lengths, usable)
    windows = _checked(g, windows, allow_nan=of.missing != "error")
    if steps:
        windows = replace(windows, x=apply_steps(g, x, recorded, dtype))
    if of.missing != "error":
        windows = _bridged(g, windows)
    longest = of.max_timesteps
    if longest is not None and (n_timesteps is None or n_timesteps > longest):
        windows = _cropped(g, windows, longest, of.crop)
    return _checked(g, _scaled(g, windows, of.scaler))


def _checked(g: Graph, windows: GraphWindows, *, allow_nan: bool = False) -> GraphWindows:
    """Mark windows as not usable if a value is too large for float32 or, by default, NaN."""
    size = g("Abs", windows.x)
    largest = g("CastLike", np.float64(LARGEST), size)
    bad = g("Greater", size, largest) if allow_nan else g("Not", g("LessOrEqual", size, largest))
    if not windows.are_full:
        bad = g("And", bad, g("Unsqueeze", windows.is_valid(g), [2]))
    n_bad = g("ReduceMax", g.cast(bad, np.int32), axes=[1, 2], keepdims=0)
    usable = g("Equal", n_bad, np.int32(0))
    return replace(windows, usable=g("And", windows.usable, usable) if windows.usable else usable)


def _bridged(g: Graph, windows: GraphWindows) -> GraphWindows:
    """Bridge gaps, as `bridge_gaps` does; channels without a number become zero."""
    x, n_steps = windows.x, windows.n_steps
    steps = g("Unsqueeze", g("Range", 0, g("Squeeze", n_steps, [0]), 1), [1])  # (t, 1)
    is_number = g("Not", g("IsNaN", x))
    if not windows.are_full:
        is_number = g("And", is_number, g("Unsqueeze", windows.is_valid(g), [2]))
    number = g.cast(is_number, np.int64)
    places, _ = g.several(  # the steps of the numbers, in order
        2, "TopK", g("Where", is_number, steps, n_steps), n_steps, axis=1, largest=0
    )
    count = g("CumSum", number, 1)
    last = g("Sub", g("ReduceMax", count, axes=[1]), 1)  # (n, 1, c)
    ends = []
    for of_number in (g("Sub", count, 1), g("Sub", count, number)):
        place = g("GatherElements", places, g("Max", g("Min", of_number, last), 0), axis=1)
        ends.append(g("Min", place, g("Sub", n_steps, 1)))
    before, after = ends
    low, high = (g("GatherElements", x, end, axis=1) for end in ends)
    since, span = g("Sub", steps, before), g("Max", g("Sub", after, before), 1)
    share = g("Div", g.cast(since, np.float64), g.cast(span, np.float64))
    rise = g("Mul", share, g.cast(g("Sub", high, low), np.float64))
    line = g("CastLike", g("Add", g.cast(low, np.float64), rise), x)
    lost = g("Less", last, 0)
    line = g("Where", lost, g("CastLike", 0, x), line)
    return replace(windows, x=g("Where", is_number, x, line), lost=lost)


def stored_steps(preparation: Mapping[str, Any] | None) -> list[Any]:
    """Return the steps that were applied to a model's windows, with chains flattened."""
    configuration = (preparation or {}).get("configuration") or {}
    steps = [make_step(fields) for fields in configuration.get("steps") or []]
    while any(isinstance(step, StepChain) for step in steps):
        steps = [inner for step in steps for inner in getattr(step, "steps", (step,))]
    return steps


def input_channels(preparation: Mapping[str, Any]) -> list[str]:
    """Return the names of the channels before any steps."""
    return list(preparation.get("input_channels") or preparation["channels"])


def apply_steps(g: Graph, x: str, preparation: Mapping[str, Any], dtype: str) -> str:
    """Apply the steps to windows (n, t, c).

    Raise an error if a step depends on samples before the window.
    """
    units = PreparationOptions.recorded(preparation).units or {}
    channels = tuple(Channel(name, units.get(name, "")) for name in input_channels(preparation))
    for step in stored_steps(preparation):
        if not isinstance(step, _POINTWISE):
            raise InputError(
                f"the step {step.kind!r} cannot be exported: it depends on samples before the"
                " window. Export without `steps`, and apply the step before the graph, with"
                " sensorseq stream or in your program."
            )
        if isinstance(step, Product | Power) and not all(
            units.get(name) for _, name in step._inputs()
        ):
            raise InputError(
                f"the step {step.kind!r} cannot be exported: the model lacks the units of its"
                f" channels, which determine the step's factor. Prepare with units of"
                f" {', '.join(name for _, name in step._inputs())}."
            )
        columns = step._columns(channels)
        picked = [
            g("Gather", x, np.array([column]), axis=2)  # (n, t, 1)
            for column in columns.picked
        ]
        combined = _combined(g, step, picked, [channels[column] for column in columns.picked])
        combined = g.cast(combined, dtype)
        kept = np.array([source for source in columns.sources if source >= 0], np.int64)
        x = g("Concat", g("Gather", x, kept, axis=2), combined, axis=2) if kept.size else combined
        channels = columns.channels
    return x


def _combined(g: Graph, step: Any, inputs: list[str], channels: list[Channel]) -> str:
    """Compute a step's new channel (n, t, 1) in float64."""
    values = [g.cast(column, np.float64) for column in inputs]
    if isinstance(step, Magnitude):
        squares = [g("Mul", value, value) for value in values]
        total = squares[0]
        for square in squares[1:]:  # added in the same order as in the step
            total = g("Add", total, square)
        return g("Sqrt", total)
    left, right = values
    if isinstance(step, Subtract):
        return g("Sub", left, right)
    if isinstance(step, SignedBy):
        return g("Mul", left, g("Sign", right))
    _, factor = product_unit(channels[0].unit, channels[1].unit)
    return g("Mul", g("Mul", left, right), np.float64(factor))


def _cropped(g: Graph, windows: GraphWindows, longest: int, crop: str) -> GraphWindows:
    """Crop windows to at most `longest` steps, as `Windows.cropped` does."""
    n_steps = g("Min", windows.n_steps, [longest])
    lengths = g("Min", windows.lengths, [longest])
    x = windows.x
    if crop == "head":
        x = g("Slice", x, [0], n_steps, [1])
    else:
        spare = g("Sub", windows.lengths, lengths)
        start = spare if crop == "tail" else g("Div", spare, 2)
        steps = g("Range", 0, g("Squeeze", n_steps, [0]), 1)
        index = g("Unsqueeze", g("Add", g("Unsqueeze", start, [1]), steps), [2])
        sizes = g("Concat", g("Shape", x, end=1), n_steps, [windows.n_channels], axis=0)
        x = g("GatherElements", x, g("Expand", index, sizes), axis=1)
    return replace(windows, x=x, lengths=lengths, n_steps=n_steps)


def _scaled(g: Graph, windows: GraphWindows, scaler: Scaler | None) -> GraphWindows:
    """Scale in float64 and round once to float32, as `Scaler` does; set invalid steps to zero."""
    x = windows.x
    if scaler is not None and scaler.kind is not None:
        x = g("Sub", g.cast(x, np.float64), scaler.channel_center)
        x = g("Div", x, scaler.channel_scale)
    x = g.cast(x, np.float32)
    if windows.lost:  # a channel without a number gets its training mean
        x = g("Where", windows.lost, np.float32(0), x)
    if not windows.are_full:
        x = g("Where", g("Unsqueeze", windows.is_valid(g), [2]), x, np.float32(0))
    return replace(windows, x=x)


def as_steps(g: Graph, windows: GraphWindows, patch: Patch | None) -> GraphWindows:
    """Return the inputs of the networks: the windows, or their frames as steps; see `Patch`."""
    if patch is None:
        return windows
    size, n_channels = patch.n_samples, windows.n_channels
    n_steps, lengths = (
        _step_count(g, windows.n_steps, patch),
        _step_count(g, windows.lengths, patch),
    )
    first = g("Mul", g("Range", 0, g("Squeeze", n_steps, [0]), 1), patch.hop)
    places = g("Reshape", g("Add", g("Unsqueeze", first, [1]), np.arange(size)), [-1])
    last = g("Unsqueeze", g("Sub", windows.lengths, [1]), [1])
    held = g("Unsqueeze", g("Min", last, places), [2])  # (n or 1, all samples of frames, 1)
    sizes = g("Concat", g("Shape", windows.x, end=1), [1, n_channels], axis=0)
    largest = np.float64(LARGEST_SAMPLE)
    samples = g("Clip", g.cast(windows.x, np.float64), -largest, largest)
    x = g("GatherElements", samples, g("Expand", held, sizes), axis=1)
    frames = g("Reshape", x, g("Concat", [0], n_steps, [size, n_channels], axis=0))
    mean = g("ReduceMean", frames, axes=[2])
    apart = g("Sub", frames, mean)
    low, high = (g(f"Reduce{which}", frames, axes=[2], keepdims=0) for which in ("Min", "Max"))
    variance = g("ReduceMean", g("Mul", apart, apart), axes=[2], keepdims=0)
    window, share = patch.spectrum()
    # tables of sines, which onnxruntime computes from the angles
    turns = g("Mod", g("Mul", np.arange(size)[:, None], np.arange(size // 2 + 1)), size)
    angle = g("Mul", g.cast(turns, np.float64), np.float64(2 * np.pi / size))
    rows = g("Transpose", apart, perm=[0, 1, 3, 2])  # (n, steps, c, samples)
    power = ""
    for shift in (0.0, np.pi / 2):
        waves = g("Mul", g("Sin", g("Add", angle, np.float64(shift))), window[:, None])
        part = g("MatMul", rows, waves)
        squared = g("Mul", part, part)
        power = g("Add", power, squared) if power else squared
    bands = g("MatMul", power, share)
    n_bands = n_channels * share.shape[1]
    bands = g("Reshape", bands, [0, 0, n_bands])
    spread, bands = (g("Log", g("Add", v, np.float64(SMALLEST_POWER))) for v in (variance, bands))
    steps = g("Concat", g("Squeeze", mean, [2]), spread, low, high, bands, axis=2)
    assert patch.scaler is not None
    center, scale = patch.scaler.channel_center, patch.scaler.channel_scale
    steps = g("Div", g("Sub", steps, center), scale)
    steps = g.cast(steps, np.float32)
    frames_as_steps = GraphWindows(
        steps, lengths, n_steps, patch.n_inputs(n_channels), windows.are_full
    )
    if windows.are_full:
        return frames_as_steps
    valid = g("Unsqueeze", frames_as_steps.is_valid(g), [2])
    return replace(frames_as_steps, x=g("Where", valid, steps, np.float32(0)))


def _step_count(g: Graph, lengths: str, patch: Patch) -> str:
    """Compute the number of steps for each length, as `count_steps` does."""
    beyond = g("Max", g("Sub", lengths, [patch.n_samples]), [0])
    return g("Add", g("Div", g("Add", beyond, [patch.hop - 1]), [patch.hop]), [1])
