"""The command export."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import GATE, closing, command
from sensorseq.cli.models import load_model, naming, read_pair
from sensorseq.cli.output import check_output, check_parent, print_result
from sensorseq.errors import ArgumentError
from sensorseq.io.atomic import make_folder
from sensorseq.options import split_names


class Format(StrEnum):
    """The file formats of `export`."""

    onnx = "onnx"
    c = "c"


@command(
    "sensorseq export terrain.safetensors -o terrain.onnx --check terrain.h5",
    "sensorseq export terrain.safetensors --format c --weights int8 -o model",
)
def export(
    model_file: opt.ModelFile,
    output: Annotated[
        Path, Option("--output", "-o", metavar="PATH", help="ONNX file, or folder for C.")
    ],
    to: Annotated[
        Format, Option("--format", help="An ONNX graph, or one header and one source in C99.")
    ] = Format.onnx,
    n_timesteps: Annotated[
        int | None,
        Option(
            "--timesteps",
            min=1,
            help="Timesteps of every window [default: any number; C: as in training].",
        ),
    ] = None,
    lengths: Annotated[
        bool | None,
        Option(
            "--lengths/--no-lengths",
            help="ONNX: add an input for the length of each window [default: if training"
            " windows differ in length].",
        ),
    ] = None,
    steps: Annotated[
        bool, Option("--steps", help="ONNX: put the steps of the preparation into the graph.")
    ] = False,
    check: Annotated[
        Path | None,
        Option(
            metavar="H5",
            help="ONNX: compare onnxruntime with the model. C: state the accuracy in the header.",
        ),
    ] = None,
    hop: Annotated[
        int | None,
        Option(min=1, help="C: samples between window starts [default: as in training]."),
    ] = None,
    sample_rate_hz: Annotated[
        float | None,
        Option("--sample-rate", metavar="HZ", help="C: sample rate before resampling."),
    ] = None,
    weights: Annotated[
        str | None, Option(metavar="TYPE", help="C: float32 or int8 [default: float32].")
    ] = None,
    units: Annotated[
        list[str] | None,
        Option(metavar="NAME=UNIT,...", help="C: units of channels, such as current=mA."),
    ] = None,
    prefix: Annotated[
        str | None, Option(metavar="NAME", help="C: prefix of all names [default: sensorseq].")
    ] = None,
    smooth: opt.StreamSmooth = "none",
    lag: opt.Lag = None,
    mean_dwell_s: opt.MeanDwell = None,
    as_json: opt.Json = False,
    no_verify: opt.NoVerify = False,
) -> None:
    """Write a model as an ONNX graph or as C, for programs without Python.

    The graph takes windows that were prepared as in training, and returns probabilities; it
    contains the scaling, networks, features and trees. The exit code is 10 if --check finds a
    difference above 1e-5. The C code accepts raw samples one by one, so it also contains resampling
    and causal steps; --smooth adds a function that smooths the probabilities over time. For several
    sensors, the graph has one input per sensor; in C, each sensor has its own files, and two more
    files combine the sensors.
    """
    if to is Format.c:
        _refuse_options(to, lengths=lengths is not None, steps=steps)
        is_new = not output.exists()
        prefix = prefix or "sensorseq"
        if is_new:
            check_parent(output)
        output = make_folder(output)
        if is_new:
            closing.callback(lambda: None if any(output.iterdir()) else output.rmdir())
        for path in (output / f"{prefix}_model.h", output / f"{prefix}_model.c"):
            check_output(path, model_file)
        form = "NAME=UNIT, such as current=mA"
        of_channels = dict(read_pair("--units", pair, form) for pair in split_names(units) or ())
        model = load_model(model_file)
        from sensorseq.sequence.smoothing import Smoothing

        written = model.to_c(
            output,
            n_timesteps=n_timesteps,
            hop=hop,
            sample_rate_hz=sample_rate_hz,
            units=of_channels,
            weights=weights or "float32",
            check=check,
            prefix=prefix,
            smooth=Smoothing(smooth, lag, mean_dwell_s),
        )
        print_result({"model": str(model_file), **written.to_dict()}, str(written), as_json)
        return
    c_alone = {"hop": hop, "sample_rate": sample_rate_hz, "weights": weights}
    c_alone |= {"smooth": smooth != "none", "lag": lag, "mean_dwell_s": mean_dwell_s}
    _refuse_options(to, **c_alone, units=units, prefix=prefix)
    was_there = check_output(output, model_file, *([] if check is None else [check]))
    if steps and check is not None:
        raise ArgumentError(
            "--check compares windows after the steps, but a graph with --steps takes windows"
            " before the steps; check a graph without --steps."
        )
    model = load_model(model_file)
    model.to_onnx(output, n_timesteps=n_timesteps, lengths=lengths, steps=steps)
    from sensorseq.export.graph_preprocessing import stored_steps

    result: dict[str, Any] = {"model": str(model_file), "output": str(output)}
    classes = ", ".join(map(str, model.classes_.tolist()))
    lines = [f"{output}: probabilities of {classes}{was_there}"]
    for name, of_sensor in model.model_.inputs.items():
        of, argument = (f" of {name}", f"lengths_{name}") if name else ("", "lengths")
        if of_sensor.had_lengths if lengths is None else lengths:
            lines.append(f"Give the graph the number of valid steps of each window as {argument}.")
        if not steps and (outside := [step.kind for step in stored_steps(of_sensor.preparation)]):
            lines.append(f"Windows{of} need these steps before the graph: {', '.join(outside)}.")
    difference = None
    if check is not None:
        from sensorseq.export.to_onnx import TOLERANCE, onnx_difference
        from sensorseq.io.prepared import read_one_or_several

        with naming(check):
            windows = read_one_or_several(check)
            difference = onnx_difference(model.model_, output, windows)
        result |= {"n_windows": len(windows), "largest_difference": difference}
        lines.append(
            f"onnxruntime and the model differ by at most {difference:.1e} on"
            f" {len(windows)} windows"
        )
    print_result(result, "\n".join(lines), as_json)
    if difference is not None and not difference <= TOLERANCE:
        raise typer.Exit(GATE)


def _refuse_options(to: Format, **options: Any) -> None:
    """Raise an error for options of the other format instead of silently ignoring them."""
    for name, value in options.items():
        if value is not None and value is not False:  # 0 counts as given
            raise ArgumentError(f"--{name.replace('_', '-')} does not apply to --format {to}.")
