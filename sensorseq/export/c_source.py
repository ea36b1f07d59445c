"""Classifiers in C99: for each sensor, a header and a source file that use libc but not malloc."""

import copy
import importlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from torch.nn import BatchNorm1d

from sensorseq.base.checks import check_integer, check_positive
from sensorseq.base.text import listed
from sensorseq.errors import ArgumentError, InputError, check_choice, noting, warn_caller
from sensorseq.export.c_preprocessing import CResampler, CStep, make_steps
from sensorseq.export.c_tables import (
    Tables,
    add_trees,
    comment,
    rounded,
    struct_bytes,
    text,
    with_rounded_leaves,
)
from sensorseq.export.features import not_exported
from sensorseq.export.graph_preprocessing import MOST_STEPS
from sensorseq.export.network import module_of, refuse_for_sensors, used_modules
from sensorseq.features.motors import LEAST_SLOPE, RIDGE
from sensorseq.features.summary import SummaryFeatures, inner_edges
from sensorseq.features.trees import SMALLEST_LOG as SMALLEST_LOG_OF_TREES
from sensorseq.io.atomic import make_folder, write_together
from sensorseq.prediction.inputs import Input
from sensorseq.prediction.members.boosting import BoostingMember
from sensorseq.prediction.members.choice import LSTM
from sensorseq.prediction.members.linear import LinearMember
from sensorseq.prediction.members.member import Member
from sensorseq.prediction.members.motors import MotorsMember
from sensorseq.prediction.members.sensors import SensorSum
from sensorseq.prediction.members.sum import Sum
from sensorseq.prediction.model import TrainedModel
from sensorseq.prediction.patches import LARGEST_SAMPLE, SMALLEST_POWER, Patch, count_steps
from sensorseq.prediction.preparation import refuse_normalized
from sensorseq.preprocessing.options import PreparationOptions
from sensorseq.preprocessing.scale import Scaler
from sensorseq.preprocessing.steps import StepChain
from sensorseq.preprocessing.steps.chain import make_steps as read_steps
from sensorseq.sensor_windows import AnyWindows, window_set_of
from sensorseq.sequence.smoothing import LOWEST, FixedLag, Smoothing
from sensorseq.training.evaluation import ModuleNetwork
from sensorseq.training.labels import read_labels

WEIGHTS = ("float32", "int8")
_NO_SMOOTHING = Smoothing("none")
_CONVOLVED = {"rocket", "hydra"}
_EXPORTED = (
    "rocket",
    "hydra",
    "summary",
    "boosting",
    "motors",
)  # the members that the templates compute
_LARGEST_LOSS = 0.005  # a larger loss of accuracy due to int8 weights causes a warning
_ROUNDED_HOP = 1e-3  # a hop less than this many samples from an integer is rounded
_MOST_TERMS = 10_000  # largest denominator of a fractional hop
# Code sizes in bytes on a Cortex-M4 (gcc -Os, without libm): of the network, of a small part (a
# step, resampling or trees), and of a larger part.
_NETWORK_BYTES, _SMALL_BYTES, _PART_BYTES = 1500, 350, 1500


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of a model as trained and with rounded weights, on the same windows."""

    n_windows: int
    part: str
    trained: float
    rounded: float
    is_seen: bool  # True if the model also learned from these windows


@dataclass(frozen=True)
class CExport:
    """The two files and the memory that they need on a microcontroller; `print` shows a table.

    For several sensors, `sensors` contains the export of each sensor, and the sizes are sums over
    all sensors.
    """

    header: Path
    source: Path
    weights: str
    ram_bytes: int
    flash_bytes: int
    code_bytes: int
    multiply_adds: int
    accuracy: Accuracy | None
    smooths: bool = False
    sensors: Mapping[str, "CExport"] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            **vars(self),
            "header": str(self.header),
            "source": str(self.source),
            "accuracy": None if self.accuracy is None else vars(self.accuracy),
            "sensors": {name: export.to_dict() for name, export in self.sensors.items()},
        }

    def at(self, folder: Path) -> "CExport":
        """Return a copy of this export whose files are in a folder."""
        sensors = {name: export.at(folder) for name, export in self.sensors.items()}
        header, source = folder / self.header, folder / self.source
        return replace(self, header=header, source=source, sensors=sensors)

    def __str__(self) -> str:
        states = f"one {self.header.stem.removesuffix('_model')}_state"
        if self.sensors:
            states = "one state for each sensor"
        rows = [
            ("weights", self.weights),
            *((name, export._needs) for name, export in self.sensors.items()),
            (
                "RAM",
                f"{self.ram_bytes:,} bytes ({states}{' and smoother' if self.smooths else ''})",
            ),
            (
                "flash",
                f"{self.flash_bytes:,} bytes (constants, and about {self.code_bytes:,} of code)",
            ),
            ("multiply-adds", f"{self.multiply_adds:,} a window"),
        ]
        if self.accuracy is not None:
            rows.append(("accuracy", describe_accuracy(self.accuracy)))
        table = "\n".join(f"{name:<14} {value}" for name, value in rows)
        return f"wrote {self.header} and {self.source.name}\n{table}"

    @property
    def _needs(self) -> str:
        return f"{self.ram_bytes:,} bytes of RAM, {self.flash_bytes:,} of flash: {self.header.name}"


def describe_accuracy(accuracy: Accuracy) -> str:
    """Return the accuracy as text, for the header and the table."""
    seen = ", which the final model learned from" if accuracy.is_seen else ""
    return (
        f"{100 * accuracy.rounded:.2f} % (before rounding {100 * accuracy.trained:.2f} %) on"
        f" {accuracy.n_windows} {accuracy.part} windows{seen}"
    )


class _Timing(NamedTuple):
    """The window length and the hop in samples, and the rates."""

    n_timesteps: int
    hop: Fraction
    input_rate_hz: float | None
    model_rate_hz: float | None

    @property
    def n_overlapping(self) -> int:
        """The largest number of windows that a sample belongs to."""
        return -(-self.n_timesteps // max(1, int(self.hop)))


def write_texts(
    folder: str | os.PathLike[str], export: CExport, texts: Mapping[Path, str]
) -> CExport:
    """Write all files of an export or none, and return the export with their paths."""
    at = make_folder(folder)
    write_together({at / name: text.encode() for name, text in texts.items()})
    return export.at(at)


@dataclass(frozen=True)
class COptions:
    """The arguments of `to_c`; arguments with a default apply only to a model of a single sensor.

    `is_refitted` is True if the model has also learned from the validation part of `check`.
    """

    units: Mapping[str, str] | None
    weights: str
    check: AnyWindows | None
    prefix: str
    is_refitted: bool
    n_timesteps: int | None = None
    hop: int | None = None
    sample_rate_hz: float | None = None
    smoothing: Smoothing = _NO_SMOOTHING

    def __post_init__(self) -> None:
        check_choice("weights", self.weights, WEIGHTS)
        if not (self.prefix.isascii() and self.prefix.isidentifier()):
            raise ArgumentError(f"prefix={self.prefix!r} is not a C identifier.")


def render_c(model: TrainedModel, options: COptions) -> tuple[CExport, dict[Path, str]]:
    """Return the export of `to_c`, with the text of each file."""
    if model.names_sensors:
        return _render_sensors(model, options)
    if model.missing != "error":
        warn_caller(
            f"the C code does not bridge gaps, as predict does with missing={model.missing!r}: its"
            " functions refuse NaN by returning -1. Bridge gaps before you call them."
        )
    return _render(model, options)


def _render(model: TrainedModel, options: COptions) -> tuple[CExport, dict[Path, str]]:
    weights, prefix, smoothing = options.weights, options.prefix, options.smoothing
    _refuse(model)
    source = _Source(model, Tables(weights == "int8"))
    timing, steps = source.preprocessing(
        options.n_timesteps, options.hop, options.sample_rate_hz, options.units or {}
    )
    source.scaling()
    source.network()
    source.features()
    smoother = None if smoothing.smooth == "none" else source.smoothing(timing, smoothing)
    accuracy = compare_accuracy(model, options)
    values = source.layout(timing, steps)
    values |= {"p": prefix, "P": prefix.upper()}
    values |= {"smoother": smoother, "lowest": LOWEST}
    values["accuracy"] = None if accuracy is None else describe_accuracy(accuracy)
    header, code_of = map(_templates().get_template, ("model.h.in", "model.c.in"))
    structs = header.render(values).partition(f"}} {prefix}_state;")
    values["state_bytes"] = struct_bytes(structs[0])
    paths = Path(f"{prefix}_model.h"), Path(f"{prefix}_model.c")
    texts = (template.render(values) for template in (header, code_of))
    n_parts = len(source.described.keys() & _CONVOLVED) + bool(source.used_statistics.size)
    n_parts += 4 * ("motors" in source.described)
    n_small = (
        (smoother is not None)
        + (source.summary is not None and source.summary.spectrum)
        + len(steps)
        + (source.resampler is not None)
        + ("boosting" in source.described)
    )
    code = _NETWORK_BYTES * bool(source.modules) + _SMALL_BYTES * n_small + _PART_BYTES * n_parts
    export = CExport(
        *paths,
        weights,
        values["state_bytes"] + (struct_bytes(structs[2]) if smoother else 0),
        source.tables.n_bytes + code,
        code,
        source.multiply_adds(timing, steps),
        accuracy,
        smoother is not None,
    )
    return export, dict(zip(paths, texts, strict=True))


def _render_sensors(model: TrainedModel, options: COptions) -> tuple[CExport, dict[Path, str]]:
    smooth = options.smoothing.smooth
    refuse_for_sensors(
        model,
        n_timesteps=options.n_timesteps,
        hop=options.hop,
        sample_rate_hz=options.sample_rate_hz,
        smooth=None if smooth == "none" else smooth,
    )
    joint, prefix = model.sum, options.prefix
    assert isinstance(joint, SensorSum)
    table = joint.weight_table()
    exports: dict[str, CExport] = {}
    texts: dict[Path, str] = {}
    macros: dict[str, str] = {}
    names = {name: re.sub(r"[^A-Za-z0-9_]", "_", name) for name in model.inputs}
    for name, in_c in names.items():
        of_sensor = replace(options, prefix=f"{prefix}_{in_c}", check=None)
        with noting(f"in the model of sensor {name!r}"):
            exports[name], sources = _render(model.of_sensor(name), of_sensor)
        for macro in re.findall(r"^#define (\w+)", sources[exports[name].header], re.M):
            if (other := macros.setdefault(macro, name)) != name:
                raise ArgumentError(
                    f"sensors {other!r} and {name!r} would both have the name {macro} in C; give"
                    " one of them a different name, and fit again."
                )
        texts |= sources
    # The weights are meant for uncalibrated logits, but the C code joins calibrated logits.
    temperatures = np.array([joint.temperatures[name] for name in model.inputs])
    factors = table * temperatures / model.temperature
    tables = Tables(options.weights == "int8")
    tables.add("join_factor", factors[-1:] if model.missing == "error" else factors, "f8")
    accuracy = compare_accuracy(model, options)
    header, code_of = map(_templates().get_template, ("join.h.in", "join.c.in"))
    values = {
        "version": importlib.import_module("sensorseq").__version__,
        "model": model,
        "p": prefix,
        "P": prefix.upper(),
        "names": names,
        "headers": [export.header for export in exports.values()],
        "of": [f"of_{in_c}" for in_c in names.values()],
        "needs_all": model.missing == "error",
        "hop_s": _hop_s(next(iter(model.inputs.values()))),
        "tables": tables,
        "accuracy": None if accuracy is None else describe_accuracy(accuracy),
    }
    paths = Path(f"{prefix}_model.h"), Path(f"{prefix}_model.c")
    texts |= {paths[0]: header.render(values), paths[1]: code_of.render(values)}
    parts = exports.values()
    export = CExport(
        *paths,
        options.weights,
        sum(part.ram_bytes for part in parts),
        sum(part.flash_bytes for part in parts) + tables.n_bytes + _SMALL_BYTES,
        sum(part.code_bytes for part in parts) + _SMALL_BYTES,
        sum(part.multiply_adds for part in parts),
        accuracy,
        sensors=exports,
    )
    return export, texts


def _hop_s(of_sensor: Input) -> float | None:
    """Return the time between the starts of windows, or None after a fit on arrays."""
    preparation: Mapping[str, Any] = of_sensor.preparation or {}
    options = PreparationOptions.recorded(preparation)
    return (options.hop_s or options.window_s) if preparation.get("configuration") else None


@cache  # because compiling templates leaks memory
def _templates() -> Environment:
    """Return a Jinja environment with the templates in the folder `c`."""
    environment = Environment(
        loader=PackageLoader("sensorseq.export", "c"),
        undefined=StrictUndefined,
        line_statement_prefix="//%",
        variable_start_string="${",
        variable_end_string="}",
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {"text": text, "comment": comment}
    return environment


def _refuse(model: TrainedModel) -> None:
    """Raise an InputError if a part of the model cannot be exported to C."""
    for name in model.sum.members.keys() - {LSTM, *_EXPORTED}:
        raise InputError(f"{not_exported(name, model.sum.members[name])} to C; train without it.")
    if model.preparation is not None and model.preparation.get("scaled") is not None:
        raise InputError(
            "the model was trained on windows that were already scaled, so it lacks the scaling;"
            " train it on the unscaled prepared file."
        )
    refuse_normalized(model.preparation, "C source")


class _Source:
    """The values of the templates, collected part by part."""

    def __init__(self, model: TrainedModel, tables: Tables) -> None:
        self.model = model
        self.tables = tables
        self.modules = used_modules(model)
        self.first = module_of(model.lstm.networks[0], len(model.classes))
        self.described: dict[str, Any] = {
            name: model.sum.members[name] for name in model.sum.used if name != LSTM
        }
        self.resampler: CResampler | None = None
        self.inputs: list[str] = []

    def preprocessing(
        self,
        n_timesteps: int | None,
        hop: int | None,
        sample_rate_hz: float | None,
        units: Mapping[str, str],
    ) -> tuple[_Timing, list[CStep]]:
        """Determine timing and steps from the preparation, unless arguments override them."""
        preparation: Mapping[str, Any] = self.model.preparation or {}
        options = PreparationOptions.recorded(preparation)
        model_rate = preparation.get("sample_rate_hz")
        configured = bool(preparation.get("configuration"))
        n = preparation.get("n_timesteps") or self.model.input.n_timesteps
        if n_timesteps is not None:
            n = check_integer("n_timesteps", n_timesteps, most=MOST_STEPS)
        if n is None:
            raise ArgumentError(
                "the model does not store the length of its training windows; give n_timesteps."
            )
        most = self.model.input.max_timesteps
        if most is not None and most < n:
            raise InputError(
                f"max_timesteps={most} crops windows of {n} steps, which cannot be exported to C;"
                f" give n_timesteps={most}, or train on windows of that length."
            )
        length = Fraction(n)
        if hop is not None:
            length = Fraction(check_integer("hop", hop, most=MOST_STEPS))
        elif configured and model_rate and options.hop_s is not None:
            length = Fraction(options.hop_s * model_rate).limit_denominator(_MOST_TERMS)
            if abs(length - round(length)) < _ROUNDED_HOP:  # rates from timestamps are not exact
                length = Fraction(round(length))
        n_channels = self.model.n_channels
        names = self.model.channels or [f"channel_{i}" for i in range(n_channels)]
        steps: list[CStep] = []
        if configured and options.steps:
            names = preparation.get("input_channels") or names
            chain = StepChain(read_steps(options.steps))
            all_units = {**(options.units or {}), **units}
            steps = make_steps(chain, names, float(model_rate or 0), all_units, self.tables)
        self.inputs = [str(name) for name in names]
        if sample_rate_hz is not None:
            check_positive("sample_rate_hz", sample_rate_hz)
            if model_rate is None:
                raise ArgumentError(
                    f"sample_rate_hz={sample_rate_hz!r} needs the rate of training, which the model"
                    " lacks; resample yourself, or train on a prepared file."
                )
            if (held := preparation.get("held")) and sample_rate_hz != model_rate:
                raise InputError(
                    f"{listed(held)}: held until the next value, which cannot be resampled in C;"
                    f" give samples at {model_rate:g} Hz."
                )
            attenuation = options.attenuation_db
            self.resampler = CResampler.make(sample_rate_hz, model_rate, attenuation, self.tables)
        if self.resampler is not None and self.resampler.up > self.resampler.down * length:
            raise ArgumentError(
                "`hop` is shorter than one sample at sample_rate_hz; use a longer hop."
            )
        return _Timing(n, length, sample_rate_hz or model_rate, model_rate), steps

    def smoothing(self, timing: _Timing, smoothing: Smoothing) -> FixedLag:
        """Add the constants of the smoothing over time."""
        rate = timing.model_rate_hz
        if not rate:
            raise InputError(
                f"smooth={smoothing.smooth!r} needs the rate of the windows, which a model trained"
                " on arrays lacks; train it on a prepared file, or smooth in your program."
            )
        smoother = FixedLag.of(
            smoothing,
            shares=self.model.class_shares,
            window_s=timing.n_timesteps / rate,
            hop_s=float(timing.hop) / rate,
        )
        self.tables.add("smooth_shares", smoother.shares, "f8")
        self.tables.add("smooth_start", smoother.start, "f8")
        self.tables.add("smooth_step", smoother.step, "f8")
        return smoother

    def scaling(self) -> None:
        """Add the scaling statistics of each channel."""
        scaler = self.model.scaler
        if not isinstance(scaler, Scaler) or scaler.kind is None:
            return
        self.tables.add("scale_center", scaler.channel_center, "f8")
        self.tables.add("scale_factor", scaler.channel_scale, "f8")

    @property
    def scale(self) -> str | None:
        """The kind of scaling, or None if samples are not scaled."""
        return None if self.model.scaler is None else self.model.scaler.kind

    def network(self) -> None:
        """Add the weights of all networks."""
        scales, shifts = [], []
        for m, module in enumerate(self.modules):
            for layer in range(module.num_layers):
                for d, suffix in enumerate(("", "_reverse")[: self._n_directions]):
                    at = f"_{m}_{layer}_{d}"
                    weight_ih, weight_hh, bias_ih, bias_hh = (
                        _array(getattr(module.lstm, f"{name}_l{layer}{suffix}"))
                        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
                    )
                    self.tables.add_weight(f"input{at}", weight_ih)
                    self.tables.add_weight(f"recurrent{at}", weight_hh)
                    self.tables.add(f"bias{at}", bias_ih + bias_hh, "f4")
            self.tables.add_weight(f"head_{m}", _array(module.linear.weight))
            self.tables.add(f"head_bias_{m}", _array(module.linear.bias), "f4")
            norm = module.norm
            if norm is not None:
                scale, shift = (
                    _array(part).astype(np.float64) for part in (norm.weight, norm.bias)
                )
                if isinstance(norm, BatchNorm1d):
                    scale = scale / np.sqrt(_array(norm.running_var) + norm.eps)
                    shift = shift - scale * _array(norm.running_mean)
                scales.append(scale)
                shifts.append(shift)
        if self.modules and self.model.lstm.patch is not None:
            self._patch(self.model.lstm.patch)
        if scales:
            self.tables.add("norm_scale", np.stack(scales), "f4")
            self.tables.add("norm_shift", np.stack(shifts), "f4")

    def _patch(self, patch: Patch) -> None:
        """Add the constants of the frames: window, sines, cosines, bands, and input scaling."""
        window, share = patch.spectrum()
        angle = 2 * np.pi * np.arange(patch.n_samples) / patch.n_samples
        self.tables.add("patch_window", window, "f8")
        self.tables.add("patch_cosine", np.cos(angle), "f8")
        self.tables.add("patch_sine", np.sin(angle), "f8")
        self.tables.add("patch_share", share.max(axis=0), "f8")
        self.tables.add("patch_band", [1] + [end for _, end in patch.bands], "u2")
        assert patch.scaler is not None
        self.tables.add("patch_center", patch.scaler.channel_center, "f8")
        self.tables.add("patch_scale", patch.scaler.channel_scale, "f8")

    def features(self) -> None:
        """Add the features that describe a window, and their weights."""
        used, summary = self.used_statistics, self.summary
        if summary is not None and summary.n_steps_ is not None:
            self.tables.add("narrow_edge", inner_edges(summary.n_steps_), "i4")
        if used.size:
            self.tables.add("statistic_column", used, "i4")
        for name, member in self.described.items():
            if isinstance(member, BoostingMember):
                add_trees(self.tables, name, member.trees, used)
                continue
            if isinstance(member, MotorsMember):
                self._motors(member)
                continue
            if name in _CONVOLVED:
                for array, values in member.describe.state()["arrays"].items():
                    kind = "i1" if array == "kernels" else values.dtype.str[1:]
                    self.tables.add(f"{name}_{array}", values, kind)
            else:
                places = np.searchsorted(used, member.describe.columns)
                self.tables.add("summary_statistic", places, "u2")
                self.tables.add("summary_threshold", member.describe.edges(), "f8")
            self.tables.add_features(name, member.weight)
            self.tables.add(f"{name}_intercept", member.bias, "f8")
        self.tables.add("sum_bias", self.model.sum.bias, "f8")

    def _motors(self, member: MotorsMember) -> None:
        """Add the channels of motors, the way back to their physical values, and the trees."""
        windows = member.windows
        columns = [motor.columns[k] for k in (0, 1) for motor in windows.motors]
        self.tables.add("motor_column", columns, "i4")
        self.tables.add("motor_center", windows.center[columns], "f8")
        self.tables.add("motor_factor", windows.factor[columns], "f8")
        self.tables.add("motor_grid", windows.grid[columns], "f8")
        add_trees(self.tables, "motors", member.trees, np.arange(len(windows.names)))

    @property
    def summary(self) -> SummaryFeatures | None:
        """The statistics that steps or trees read, which must be the same for both."""
        read: list[SummaryFeatures] = [
            member.summary if name == "boosting" else member.describe.summary
            for name, member in self.described.items()
            if name in ("summary", "boosting")
        ]
        if read and read[0].state() != read[-1].state():
            raise InputError(
                "features 'summary' and 'boosting' read different statistics, so they cannot be"
                " exported to C together; fit both in one model."
            )
        return read[0] if read else None

    @property
    def used_statistics(self) -> NDArray[np.int64]:
        """The columns of the summary statistics that are read by steps or trees."""
        columns = [np.zeros(0, np.int64)]
        if "summary" in self.described:
            columns.append(self.described["summary"].describe.columns)
        if "boosting" in self.described:
            columns.append(self.described["boosting"].trees.columns)
        used = np.unique(np.concatenate(columns))
        are_read = len(columns) > 1  # even by trees of leaves
        return used if used.size or not are_read else np.zeros(1, np.int64)

    @property
    def _n_directions(self) -> int:
        return 2 if self.first.bidirectional else 1

    def layout(self, timing: _Timing, steps: list[CStep]) -> dict[str, Any]:
        """Return the values for the templates, including the fields of the state."""
        first, n = self.first, timing.n_timesteps
        width = first.hidden_size * self._n_directions
        convolved = [member for name, member in self.described.items() if name in _CONVOLVED]
        motors = self.described["motors"].windows.motors if "motors" in self.described else ()
        padded = [member.describe.state()["settings"]["padded_steps"] for member in convolved]
        # keep the states of all overlapping windows, not the samples, if the states are smaller
        kept = 2 * width * first.num_layers + width * (2 if first.pooling == "meanmax" else 1)
        n_more = timing.n_overlapping * len(self.modules) - 1
        is_small = n_more * kept <= n * self.model.n_channels
        streams = self._n_directions == 1 and is_small and self.model.lstm.patch is None
        return {
            "version": importlib.import_module("sensorseq").__version__,
            "model": self.model,
            "net": first,
            "n_models": len(self.modules),
            "n_channels": self.model.n_channels,
            "patch": self.model.lstm.patch,
            "smallest_power": SMALLEST_POWER,
            "largest_sample": LARGEST_SAMPLE,
            "n_directions": self._n_directions,
            "width": width,
            "timing": timing,
            "channels": self.inputs,
            "state_bytes": 0,
            "tables": self.tables,
            "streams": streams and not self.described,
            "n_rows": max(n, *padded) if padded else n,
            **{name: self.described.get(name) for name in _EXPORTED},
            "weights": {name: self.model.sum.used[name] for name in self.described},
            "lstm_weight": self.model.sum.weights[LSTM],
            "smallest_log_of_trees": SMALLEST_LOG_OF_TREES,
            "n_motors": len(motors),
            "ridge": RIDGE,
            "least_slope": LEAST_SLOPE,
            "motor_rows": -(-n // self.described["motors"].windows.every) if motors else 0,
            "features": list(self.described),
            "n_statistics": self.used_statistics.size,
            "statistics": self.summary,
            "scale": self.scale,
            "steps": steps,
            "resampler": self.resampler,
        }

    def multiply_adds(self, timing: _Timing, steps: list[CStep]) -> int:
        """Estimate the multiply-adds per window, including the preprocessing of one hop."""
        first, n, k = self.first, timing.n_timesteps, len(self.model.classes)
        hidden, c = first.hidden_size, self.model.n_channels
        patch = self.model.lstm.patch
        n_steps = count_steps(n, patch)
        width = hidden * self._n_directions
        inputs = [first.input_size] + [width] * (first.num_layers - 1)
        per_step = sum(4 * hidden * (n_inputs + hidden) + 3 * hidden for n_inputs in inputs)
        pooled = width * (2 if first.pooling == "meanmax" else 1)
        total: int = len(self.modules) * (n_steps * self._n_directions * per_step + k * pooled)
        if self.modules and patch is not None:
            total += n_steps * c * patch.n_samples * (patch.n_samples + 4)
        if "rocket" in self.described:
            arrays = self.described["rocket"].describe.state()["arrays"]
            n_sums = 8 * c * len(arrays["dilations"]) + 4 * int(arrays["channel_counts"].sum())
            total += n * n_sums + (n + k) * len(arrays["biases"])  # a comparison counts as one add
        if "hydra" in self.described:
            arrays = self.described["hydra"].describe.state()["arrays"]
            n_sums = 8 * c * len(arrays["dilations"]) + 28 * int(arrays["channel_counts"].sum())
            total += n * (n_sums + 2 * len(arrays["kernels"])) + k * 2 * len(arrays["kernels"])
        if (summary := self.summary) is not None:
            n_described = len(np.unique(self.used_statistics // len(summary.names)))
            total += n_described * n * (3 * n + (15 if summary.spectrum else 10))
        if "summary" in self.described:
            total += k * self.described["summary"].weight.shape[0]
        if "boosting" in self.described:
            feature = self.described["boosting"].trees.state()["arrays"]["feature"]
            total += int((feature >= 0).sum())  # upper limit; a comparison counts as one add
        if "motors" in self.described:
            member = self.described["motors"]
            total += n * 10 * len(member.windows.names)  # about ten for each value and feature
            total += int((member.trees.arrays["feature"] >= 0).sum())
        rate = timing.model_rate_hz or 1.0
        per_sample = float(sum(step.multiply_adds for step in steps))
        if self.resampler is not None:
            rates = (timing.input_rate_hz or 1.0) * self.resampler.up / self.resampler.down / rate
            per_sample += self.resampler.n_taps * len(self.inputs) * rates
        return total + int(timing.hop * (c + per_sample))


def _array(tensor: Any) -> NDArray[Any]:
    values: NDArray[Any] = tensor.detach().cpu().numpy()
    return values


def _rounded(whole: Sum) -> Sum:
    networks = []
    members: dict[str, Member] = dict(whole.members)
    for network in whole.lstm.networks:
        module = copy.deepcopy(module_of(network, len(whole.bias))).cpu()
        for name, tensor in module.named_parameters():
            if "weight" in name and not name.startswith("norm."):
                values = _array(tensor)
                values[...] = rounded(values)
        networks.append(ModuleNetwork(module, "cpu"))
    for name, member in members.items():
        if isinstance(member, LinearMember):
            members[name] = replace(member, weight=rounded(member.weight, exponents=True))
        elif isinstance(member, BoostingMember | MotorsMember):
            members[name] = replace(member, trees=with_rounded_leaves(member.trees))
    members[LSTM] = replace(whole.lstm, networks=networks)
    return replace(whole, members=members)


def with_rounded_weights(model: TrainedModel) -> TrainedModel:
    """Return a copy of a model with its weights rounded to int8."""
    if not isinstance(model.sum, SensorSum):
        return replace(model, sum=_rounded(model.sum))
    sums: dict[str, Member]
    sums = {name: _rounded(model.sum.of_sensor(name)) for name in model.inputs}
    return replace(model, sum=replace(model.sum, members=sums))


def _accuracy(model: TrainedModel, windows: AnyWindows) -> float:
    predicted = model.predict(windows)
    labels, _ = read_labels(windows.y, len(predicted), "y", classes=model.classes)
    return float(np.mean(labels == predicted))


def compare_accuracy(model: TrainedModel, options: COptions) -> Accuracy | None:
    """Compare accuracies on the labeled validation windows or, without a split, on all windows."""
    part, check = "given", window_set_of(options.check)
    if options.check is None:
        return None
    if check is None or check.y is None:
        raise ArgumentError("`check` has no labels, so no accuracy can be computed.")
    if check.split is not None:
        part = "validation"
        rows = np.flatnonzero(np.asarray(check.split) == part)
        if not len(rows):
            raise InputError("`check` has a split without a validation part.")
        check = check.take(rows)
    exported = trained = _accuracy(model, check)
    if options.weights == "int8":
        exported = _accuracy(with_rounded_weights(model), check)
    if trained - exported > _LARGEST_LOSS:
        warn_caller(
            f"int8 weights lower the accuracy from {100 * trained:.2f} to {100 * exported:.2f} %;"
            ' use weights="float32".'
        )
    is_seen = part == "validation" and options.is_refitted
    return Accuracy(len(check), part, trained, exported, is_seen)
