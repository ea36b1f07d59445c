"""The commands that classify recordings: predict and stream."""

import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from sensorseq.base.text import plural
from sensorseq.cli import options as opt
from sensorseq.cli.app import command
from sensorseq.cli.models import load_to_predict
from sensorseq.cli.output import check_output, print_part, print_result, progress, warn
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.io.atomic import write_whole
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.options import READ_AS_IN_TRAINING


@command(
    "sensorseq predict terrain.safetensors logs/ICE/pro_01.csv",
    "sensorseq predict terrain.safetensors drive.csv --mean-dwell-s 30 \\",
    "    --csv spans.csv",
    "sensorseq predict terrain.safetensors new_logs --windows --json",
)
@opt.takes_preparation_options(READ_AS_IN_TRAINING, after="recordings")
def predict(
    model_file: opt.ModelFile,
    recordings: Annotated[
        list[Path], Argument(metavar="RECORDING...", help="Raw files, or folders of raw files.")
    ],
    every_window: Annotated[
        bool, Option("--windows", help="Print one line per window instead of per span.")
    ] = False,
    smooth: opt.Smooth = "marginals",
    lag: opt.Lag = None,
    mean_dwell_s: opt.MeanDwell = None,
    hop_s: Annotated[
        float | None,
        Option(metavar="S", help="Seconds between window starts [default: as in training]."),
    ] = None,
    table: Annotated[
        Path | None, Option("--csv", metavar="CSV", help="Write the segments as a table.")
    ] = None,
    absolute_time: Annotated[
        bool,
        Option("--absolute-time", help="In --csv, write timestamps, not seconds since the start."),
    ] = False,
    label_studio: Annotated[
        Path | None,
        Option(metavar="JSON", help="Write the segments as predictions for Label Studio."),
    ] = None,
    html: Annotated[
        Path | None, Option(metavar="HTML", help="Write a page with the classes over the signals.")
    ] = None,
    strict: opt.Strict = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    **given: Any,
) -> None:
    """Classify raw recordings.

    The recordings are read like the training recordings, unless an option changes this. They are
    then prepared like the training windows: rate, channels, filters and features, windows, and
    scaling. Each line gives a time span and its class or, with --windows, a window and its class.

    A robot stays on a surface for a while, so the classification of a window also uses its
    neighbors. --smooth none classifies each window independently.
    """
    from sensorseq.base.layout import wrapped
    from sensorseq.evaluation.predict import (
        format_agreement,
        format_prediction,
        label_studio_tasks,
        make_drive_page,
        predict_recordings,
        table_of_spans,
    )
    from sensorseq.prediction.outside import join_outside, report_outside
    from sensorseq.sequence.smoothing import Smoothing

    outputs = {"page": html, "segments": table, "tasks": label_studio}
    was_there = [check_output(path, model_file, *recordings) for path in outputs.values()]
    if absolute_time and table is None:
        raise ArgumentError("--absolute-time applies only to the table of --csv; also give --csv.")
    model = load_to_predict(model_file, strict=strict)
    with progress("predicting", quiet=quiet) as advance:
        options = ReadOptions(**given)
        predictions = predict_recordings(
            model,
            recordings,
            options,
            smooth=Smoothing(smooth, lag, mean_dwell_s),
            hop_s=hop_s,
            with_facts=html is not None,
            progress=advance,
        )
    if table is not None:
        write_whole(table, table_of_spans(predictions, absolute_time=absolute_time).encode())
    if label_studio is not None:
        write_whole(label_studio, label_studio_tasks(predictions).encode())
    if html is not None:
        title = recordings[0].name if len(recordings) == 1 else f"{len(predictions)} recordings"
        write_whole(html, make_drive_page(predictions, title=title).encode())
    outside = [prediction.outside for prediction in predictions if prediction.outside is not None]
    # The text has a note for each recording.
    say = warn if as_json else (lambda _: None)
    report_outside(join_outside(outside) if outside else None, say, strict=strict)
    result = {
        "model": str(model_file),
        "classes": model.classes.tolist(),
        "recordings": [prediction.to_dict() for prediction in predictions],
    }
    text = "\n\n".join(
        format_prediction(prediction, every_window=every_window) for prediction in predictions
    )
    labeled = [made for each in predictions if (made := each.agreement()) is not None]
    if len(labeled) > 1:
        of_all = format_agreement(labeled, is_smoothed=smooth != "none")
        text += "\n\n" + wrapped(f"{plural(len(labeled), 'recording')} with labels: {of_all}")
    print_result(result, text, as_json)
    for (what, path), note in zip(outputs.items(), was_there, strict=True):
        if path is not None:
            print_part(f"{what} written to {path}{note}", as_json)


@command(
    "read_sensor | sensorseq stream terrain.safetensors --sample-rate-hz 100",
    "sensorseq stream terrain.safetensors --udp 5005 --format float32",
    "sensorseq stream terrain.safetensors --replay logs/ICE/pro_01.csv",
)
def stream(
    model_file: opt.ModelFile,
    source: Annotated[
        Path | None, Option("--input", metavar="PATH", help="Pipe or serial line [default: stdin].")
    ] = None,
    udp: Annotated[
        str | None, Option(metavar="[HOST:]PORT", help="Listen for datagrams of samples.")
    ] = None,
    replay: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Recording or log to replay; with several sensors, any file of the recording.",
        ),
    ] = None,
    speed: Annotated[float, Option(min=0, help="Replay speed; 0 replays without waiting.")] = 0.0,
    sample_format: Annotated[
        str, Option("--format", metavar="KIND", help="csv, float32 or float64.")
    ] = "csv",
    sample_rate_hz: Annotated[
        list[str] | None,
        Option(
            metavar="[NAME=]HZ",
            help="Rate of the samples [default: the model's]; repeatable for several sensors.",
        ),
    ] = None,
    time_column: Annotated[
        str | None, Option(metavar="NAME", help="Column of timestamps in seconds [default: time].")
    ] = None,
    max_gap_s: Annotated[
        float | None, Option(metavar="S", help="Longest gap to bridge [default: as in training].")
    ] = None,
    max_delay_s: Annotated[
        float, Option(metavar="S", help="How long to wait for delayed samples.")
    ] = 0.0,
    smooth: opt.StreamSmooth = "none",
    lag: opt.Lag = None,
    mean_dwell_s: opt.MeanDwell = None,
    strict: opt.Strict = False,
    quiet: opt.Quiet = False,
) -> None:
    """Classify samples as they arrive, and print one line of JSON for each window.

    Samples are lines of CSV or little-endian floats. Without a header, a line of CSV contains the
    model's channels in order, optionally preceded by the time. Ctrl-C or the end of the input ends
    the stream; the remaining windows are then classified.

    With several sensors, each line begins with the name of its sensor and the time, such as
    imu,0.01,0.3,9.8; a sensor may send a header: imu,time,gyro_x,acc_z.
    """
    from sensorseq.prediction import live
    from sensorseq.prediction.outside import report_outside
    from sensorseq.sequence.smoothing import Smoothing

    check_choice("--format", sample_format, live.FORMATS)
    if sum(option is not None for option in (source, udp, replay)) > 1:
        raise ArgumentError("give only one of --input, --udp and --replay.")
    live.check_stream_options(
        sample_format, time_column=time_column, max_delay_s=max_delay_s, replay=replay, speed=speed
    )
    model = load_to_predict(model_file, strict=strict)
    decisions = model.stream(
        live.rates_of(sample_rate_hz),
        max_gap_s=max_gap_s,
        max_delay_s=max_delay_s,
        smooth=Smoothing(smooth, lag, mean_dwell_s),
    )
    decisions.on_outside = partial(report_outside, say=warn, strict=strict)
    parser = live.parser_for(decisions, sample_format, time_column)
    notify = (lambda _: None) if quiet else warn
    with ExitStack() as stack:
        if udp is not None:
            samples = live.samples_of_udp(udp, parser, notify)
        elif replay is not None:
            from sensorseq.evaluation.raw_recordings import samples_of_recording

            samples = samples_of_recording(model, replay, time_column, speed)
        else:
            pipe = sys.stdin if source is None else stack.enter_context(source.open("rb", 0))
            samples = live.samples_of_pipe(pipe.fileno(), parser)
        live.classify(decisions, samples, parser, sys.stdout, notify)
