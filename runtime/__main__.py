"""The command `sensorseq-run`: predict and stream with numpy and one C library."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sensorseq_runtime import TrainedModel, __version__
from sensorseq_runtime.errors import InputError, RecordingError, SensorseqError
from sensorseq_runtime.io.atomic import write_whole
from sensorseq_runtime.prediction import live
from sensorseq_runtime.prediction.loading import load_classifier
from sensorseq_runtime.prediction.network import usable_threads
from sensorseq_runtime.prediction.outside import report_outside
from sensorseq_runtime.prediction.stream import DecisionStream
from sensorseq_runtime.recording import Channel, Recording
from sensorseq_runtime.sequence.smoothing import SMOOTH, STREAM_SMOOTH, Smoothing
from sensorseq_runtime.sequence.timeline import spans_as_csv

# options with which training logs may have been read, but which this CSV reader does not support
_UNUSUAL = ("time_unit", "encoding", "delimiter", "decimal", "no_header", "names")
_UNUSUAL += ("recording_column", "pair")
_models: dict[str, TrainedModel] = {}  # loaded models by path, inherited by worker processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (SensorseqError, OSError) as error:
        message = str(error)
        if isinstance(error, OSError) and error.strerror:
            message = f"{error.filename}: {error.strerror}."
        print(f"error: {message}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sensorseq-run", description=__doc__)
    version = f"sensorseq-runtime {__version__}"
    parser.add_argument("-V", "--version", action="version", version=version)
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="Classify CSV logs.")
    stream = commands.add_parser("stream", help="Classify samples as they arrive.")
    for command, smooth, default in (
        (predict, SMOOTH, "marginals"),
        (stream, STREAM_SMOOTH, "none"),
    ):
        add = command.add_argument
        add("model", type=Path, help="model file from sensorseq")
        add("--smooth", choices=smooth, default=default)
        add("--lag", type=int, help="number of windows that --smooth lag waits for [3]")
        add("--mean-dwell-s", type=float, help="mean duration of a segment in seconds")
        add("--time-column", help="column of timestamps in seconds [time]")
        add("--strict", action="store_true", help="refuse windows unlike the training windows")
        add("--quiet", action="store_true")
    predict.add_argument(
        "--sample-rate-hz", type=float, help="sample rate of logs without timestamps"
    )
    predict.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="CSV with a header")
    predict.add_argument("--hop-s", type=float, help="seconds between window starts")
    predict.add_argument("--csv", type=Path, help="write the segments to this CSV file")
    predict.add_argument("--json", action="store_true", help="print one line of JSON for each log")
    predict.set_defaults(run=_predict)
    of = {"action": "append", "metavar": "[NAME=]HZ"}
    stream.add_argument("--sample-rate-hz", **of, help="sample rate, or the rate of each sensor")
    stream.add_argument("--input", type=Path, help="pipe or serial device [stdin]")
    stream.add_argument("--udp", metavar="[HOST:]PORT", help="listen for datagrams of samples")
    stream.add_argument("--tcp", metavar="[HOST:]PORT", help="serve one robot per connection")
    most = "maximum number of simultaneous connections to --tcp [64]"
    stream.add_argument("--max-clients", type=int, help=most)
    stream.add_argument("--format", choices=live.FORMATS, default="csv")
    stream.add_argument("--max-gap-s", type=float, help="longest gap to bridge in seconds")
    stream.add_argument(
        "--max-delay-s", type=float, default=0.0, help="seconds to wait for late samples"
    )
    stream.set_defaults(run=_stream)
    return parser


def _warn(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _stream(options: argparse.Namespace) -> None:
    if sum(source is not None for source in (options.input, options.udp, options.tcp)) > 1:
        raise InputError("give only one of --input, --udp and --tcp.")
    names = ("time_column", "max_delay_s", "tcp", "max_clients")
    given = {name: getattr(options, name) for name in names}
    live.check_stream_options(options.format, **given)
    model = load_classifier(options.model, strict=options.strict)
    say = (lambda _: None) if options.quiet else _warn

    def make() -> DecisionStream:
        stream = model.stream(
            live.rates_of(options.sample_rate_hz),
            max_gap_s=options.max_gap_s,
            max_delay_s=options.max_delay_s,
            smooth=Smoothing(options.smooth, options.lag, options.mean_dwell_s),
        )
        stream.on_outside = partial(report_outside, say=_warn, strict=options.strict)
        return stream

    decisions = make()
    parser = live.parser_for(decisions, options.format, options.time_column)
    if options.tcp is not None:
        import asyncio  # importing asyncio takes longer than loading a model

        from sensorseq_runtime.prediction.serving import MOST_CLIENTS, serve

        form = {"sample_format": options.format, "time_column": options.time_column}
        most = MOST_CLIENTS if options.max_clients is None else options.max_clients
        limits = {"n_threads": usable_threads(), "max_clients": most}
        asyncio.run(serve(make, options.tcp, **form, **limits, say=say))
        return
    with ExitStack() as stack:
        if options.udp is not None:
            samples = live.samples_of_udp(options.udp, parser, say)
        else:
            path = options.input
            pipe = sys.stdin if path is None else stack.enter_context(path.open("rb", 0))
            samples = live.samples_of_pipe(pipe.fileno(), parser)
        live.classify(decisions, samples, parser, sys.stdout, say)


def _predict(options: argparse.Namespace) -> None:
    model = load_classifier(options.model, strict=options.strict)
    if model.names_sensors:
        raise InputError(
            f"{options.model} is a model of several sensors; use `sensorseq predict` or"
            " `sensorseq-run stream`."
        )
    _models[str(options.model)] = model
    for name in _UNUSUAL:
        if (value := _reading(model).get(name)) is not None:
            raise InputError(
                f"the training logs were read with {name}={value!r}, which sensorseq-run does not"
                " support; use `sensorseq predict`."
            )
    spans = []
    n_workers = min(usable_threads(), len(options.logs))
    with ExitStack() as stack:
        results = map(partial(_predict_log, options), options.logs)
        if n_workers > 1:  # the worker processes inherit the model
            from concurrent.futures import ProcessPoolExecutor

            os.environ["OMP_NUM_THREADS"] = "1"
            pool = stack.enter_context(ProcessPoolExecutor(n_workers))
            results = pool.map(partial(_predict_log, options), options.logs)
        for path, (of_log, notes) in zip(options.logs, results):
            spans += of_log
            for note in () if options.quiet else notes:
                _warn(f"{path}: {note}")
            if options.json:
                print(json.dumps({"path": str(path), "spans": [span._asdict() for span in of_log]}))
                continue
            print(path)
            for span in of_log:
                when = f"{span.start_s:.1f} to {span.end_s:.1f} s"
                print(f"  {when:<24} {span.label}  {100 * span.probability:.1f} %")
    if options.csv is not None:
        write_whole(options.csv, spans_as_csv(tuple(spans)).encode())


def _reading(model: TrainedModel) -> Mapping[str, Any]:
    """Return the options with which the training logs were read, if they are known."""
    preparation: Mapping[str, Any] = model.preparation or {}
    return (preparation.get("configuration") or {}).get("input") or {}


def _predict_log(options: argparse.Namespace, path: Path) -> tuple[list[Any], list[str]]:
    """Return the segments of a log, in seconds since its start, and the notes to print."""
    model = _models[str(options.model)]
    recording = _read(path, model, options)
    windows = model.input.plan(options.hop_s).prepare([recording])
    outside = model.outside(windows) if model.has_ranges else None
    if outside is not None and outside.n_outside and options.strict:
        raise InputError(f"{path}: {outside} Leave out --strict to use these windows anyway.")
    smoothing = Smoothing(options.smooth, options.lag, options.mean_dwell_s)
    begins_s = float(recording.timestamps_s[0])
    spans = [
        span._replace(start_s=span.start_s - begins_s, end_s=span.end_s - begins_s)
        for span in model.timeline(windows, smooth=smoothing).spans
    ]
    return spans, [] if outside is None or not outside.n_outside else [str(outside)]


def _read(path: Path, model: TrainedModel, options: argparse.Namespace) -> Recording:
    """Read the channels of a CSV log."""
    preparation = model.input.plan().options
    names, units = tuple(preparation.channels or ()), preparation.units or {}
    time_column = options.time_column or _reading(model).get("time_column")
    parser = live.SampleParser("csv", names, time_column)
    values, stamps = parser.feed(path.read_bytes(), whole=True)
    if parser.n_unreadable:
        raise RecordingError(f"{path}: {parser.n_unreadable} line(s) cannot be read as samples.")
    rate = options.sample_rate_hz
    if stamps is not None and rate is not None:
        raise RecordingError(f"{path}: the log has a time column; leave out --sample-rate-hz.")
    if stamps is None:
        if rate is None:
            raise RecordingError(f"{path}: the log has no time column; pass --sample-rate-hz.")
        stamps = np.arange(len(values)) / rate
    channels = tuple(Channel(name, units.get(name, "")) for name in names)
    return Recording(values, stamps, channels, path.stem)


if __name__ == "__main__":
    sys.exit(main())
