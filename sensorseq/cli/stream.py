"""The command stream."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from sensorseq.cli.app import FalseAlarmRate, MeanDwell, ModelFile, Quiet, Strict, app, example
from sensorseq.cli.models import load_model, tell_outside
from sensorseq.cli.output import warn
from sensorseq.errors import ArgumentError, InputError, check_choice


@app.command(
    epilog=example(
        "read_sensor | sensorseq stream terrain.safetensors --sample-rate-hz 100",
        "sensorseq stream terrain.safetensors --udp 5005 --format float32",
        "sensorseq stream terrain.safetensors --replay logs/ICE/pro_01.csv",
    )
)
def stream(
    model_file: ModelFile,
    source: Annotated[
        Path | None,
        typer.Option("--input", metavar="PATH", help="Pipe or serial line [default: stdin]."),
    ] = None,
    udp: Annotated[
        str | None, typer.Option(metavar="[HOST:]PORT", help="Listen for datagrams of samples.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Replay a recording or log.")
    ] = None,
    speed: Annotated[
        float, typer.Option(min=0, help="Speed of the replay; 0: without waiting.")
    ] = 0.0,
    sample_format: Annotated[
        str, typer.Option("--format", metavar="KIND", help="csv, float32 or float64.")
    ] = "csv",
    sample_rate_hz: Annotated[
        float | None, typer.Option(metavar="HZ", help="Rate of the samples [default: the model's].")
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of time stamps in seconds [default: time]."),
    ] = None,
    max_gap_s: Annotated[
        float | None,
        typer.Option(metavar="S", help="Longest gap to bridge [default: as in training]."),
    ] = None,
    max_delay_s: Annotated[
        float, typer.Option(metavar="S", help="How long to wait for samples out of order.")
    ] = 0.0,
    false_alarm_rate: FalseAlarmRate = None,
    smooth: Annotated[
        str,
        typer.Option(metavar="HOW", help="Smooth over time: none, filter, lag [default: none]."),
    ] = "none",
    lag: Annotated[int, typer.Option(min=0, help="Windows that lag waits for.")] = 3,
    mean_dwell_s: MeanDwell = None,
    strict: Strict = False,
    quiet: Quiet = False,
) -> None:
    """Classify samples as they arrive: one line of JSON for each window.

    Samples are lines of CSV with a header, or the model's channels in order, perhaps after the
    time; or little-endian floats. Ctrl-C, the end of the input or an empty datagram ends the
    stream; then the rest is decided.
    """
    from sensorseq.evaluation import live

    check_choice("--format", sample_format, live.FORMATS)
    if sum(given is not None for given in (source, udp, replay)) > 1:
        raise ArgumentError("--input, --udp and --replay exclude each other.")
    model = load_model(model_file, strict=strict)
    decisions = model.stream(
        sample_rate_hz,
        max_gap_s=max_gap_s,
        max_delay_s=max_delay_s,
        false_alarm_rate=false_alarm_rate,
        smooth=smooth,
        lag=lag,
        mean_dwell_s=mean_dwell_s,
    )
    parser = live.SampleParser(sample_format, decisions.channels, time_column)
    if not quiet:
        channels = ", ".join(decisions.channels)
        later = decisions.latency_s
        wait = f"; decisions come {later:.3g} s after their windows" if later else ""
        warn(f"expects {channels} at {decisions.sample_rate_hz:g} Hz{wait}")
    with ExitStack() as stack:
        if udp is not None:
            samples = live.samples_of_udp(udp, parser)
        elif replay is not None:
            samples = live.samples_of_recording(model, replay, time_column, speed)
        elif source is not None:
            opened = stack.enter_context(source.open("rb", buffering=0))
            samples = live.samples_of_pipe(opened.fileno(), parser)
        else:
            samples = live.samples_of_pipe(sys.stdin.fileno(), parser)
        decisions.on_outside = partial(tell_outside, strict=strict)
        n_samples = live.write_decisions(decisions, samples, sys.stdout)
    if parser.n_unreadable and not n_samples:
        raise InputError(
            f"none of {parser.n_unreadable} line(s) is a sample of {len(decisions.channels)}"
            f" channels ({', '.join(decisions.channels)}). Send a header with the channels' names,"
            " or these columns in this order; or use --format."
        )
    if not quiet:
        counts = {"n_samples": n_samples, "n_unreadable": parser.n_unreadable, **decisions.counts}
        said = ", ".join(f"{name.removeprefix('n_')} {n}" for name, n in counts.items() if n)
        warn(said or "no samples")
