"""The command `sensorseq-run`: predict and stream by numpy and one C library."""

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
from sensorseq_runtime.prediction.fused import FusedModel
from sensorseq_runtime.prediction.loading import load_classifier
from sensorseq_runtime.prediction.network import usable_threads
from sensorseq_runtime.prediction.outside import report_outside
from sensorseq_runtime.prediction.stream import prediction_plan
from sensorseq_runtime.recording import Channel, Recording
from sensorseq_runtime.sequence.smoothing import SMOOTH, STREAM_SMOOTH
from sensorseq_runtime.sequence.timeline import spans_as_csv

# what its CSV reader cannot do
_UNUSUAL = ("time_unit", "encoding", "delimiter", "decimal", "no_header", "names")
_UNUSUAL += ("recording_column", "pair")
_models: dict[str, TrainedModel] = {}  # of a worker


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status, which is that of `sensorseq`."""
    given = _parser().parse_args(arguments)
    try:
        given.run(given)
    except (SensorseqError, OSError) as error:
        said = str(error)
        if isinstance(error, OSError) and error.strerror:
            said = f"{error.filename}: {error.strerror}."
        print(f"error: {said}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="sensorseq-run", description=__doc__)
    parser.add_argument("--version", action="version", version=f"sensorseq-runtime {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    predict = commands.add_parser("predict", help="Classify CSV logs.")
    stream = commands.add_parser("stream", help="Classify samples as they arrive.")
    for command, smooth, default in (
        (predict, SMOOTH, "marginals"),
        (stream, STREAM_SMOOTH, "none"),
    ):
        add = command.add_argument
        add("model", type=Path, help="model file that sensorseq wrote")
        add("--smooth", choices=smooth, default=default)
        add("--lag", type=int, default=3, help="later windows that --smooth lag waits for")
        add("--mean-dwell-s", type=float, help="how long a class lasts on average")
        add("--time-column", help="column of time stamps in seconds [time]")
        add("--strict", action="store_true", help="windows unlike the training are an error")
        add("--quiet", action="store_true")
    predict.add_argument("--sample-rate-hz", type=float, help="rate of a log without time stamps")
    predict.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="CSV with a header")
    predict.add_argument("--hop-s", type=float, help="seconds between window starts")
    predict.add_argument("--csv", type=Path, help="write the spans as a table")
    predict.add_argument("--json", action="store_true", help="one line of JSON for each log")
    predict.set_defaults(run=_predict)
    of = {"action": "append", "metavar": "[NAME=]HZ"}
    stream.add_argument("--sample-rate-hz", **of, help="rate of the samples, or of each sensor")
    stream.add_argument("--input", type=Path, help="pipe or serial line [stdin]")
    stream.add_argument("--udp", metavar="[HOST:]PORT", help="listen for datagrams of samples")
    stream.add_argument("--tcp", metavar="[HOST:]PORT", help="serve each connection as a robot")
    most = "most connections of --tcp at a time [64]"
    stream.add_argument("--max-clients", type=int, default=64, help=most)
    stream.add_argument("--format", choices=live.FORMATS, default="csv")
    stream.add_argument("--max-gap-s", type=float, help="longest gap to bridge")
    stream.add_argument("--max-delay-s", type=float, default=0.0, help="wait for late samples")
    stream.set_defaults(run=_stream)
    return parser


def _warn(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def _stream(given: argparse.Namespace) -> None:
    if sum(source is not None for source in (given.input, given.udp, given.tcp)) > 1:
        raise InputError("--input, --udp and --tcp exclude each other.")
    model = load_classifier(given.model, strict=given.strict)
    say = (lambda _: None) if given.quiet else _warn

    def make() -> live.AnyStream:
        made = live.stream_of(
            model,
            live.rates_of(given.sample_rate_hz),
            max_gap_s=given.max_gap_s,
            max_delay_s=given.max_delay_s,
            smooth=given.smooth,
            lag=given.lag,
            mean_dwell_s=given.mean_dwell_s,
        )
        made.on_outside = partial(report_outside, say=_warn, strict=given.strict)
        return made

    decisions = make()
    parser = live.parser_for(decisions, given.format, given.time_column)
    if given.tcp is not None:
        import asyncio  # takes longer to import than to load a model

        from sensorseq_runtime.prediction.serving import serve

        own = {"sample_format": given.format, "time_column": given.time_column}
        most = {"n_threads": usable_threads(), "max_clients": given.max_clients}
        asyncio.run(serve(make, given.tcp, **own, **most, say=say))
        return
    with ExitStack() as stack:
        if given.udp is not None:
            samples = live.samples_of_udp(given.udp, parser)
        else:
            path = given.input
            pipe = sys.stdin if path is None else stack.enter_context(path.open("rb", 0))
            samples = live.samples_of_pipe(pipe.fileno(), parser)
        live.classify(decisions, samples, parser, sys.stdout, say)


def _predict(given: argparse.Namespace) -> None:
    model = load_classifier(given.model, strict=given.strict)
    if isinstance(model, FusedModel):
        raise InputError(
            f"{given.model} is a model of several sensors; use `sensorseq predict`, or"
            " `sensorseq-run stream`."
        )
    _models[str(given.model)] = model
    for name in _UNUSUAL:
        if (value := _reading(model).get(name)) is not None:
            raise InputError(
                f"the training logs were read with {name}={value!r}, which sensorseq-run cannot do;"
                " use `sensorseq predict`."
            )
    spans = []
    n_workers = min(usable_threads(), len(given.logs))
    with ExitStack() as stack:
        found = map(partial(_predict_log, given), given.logs)
        if n_workers > 1:  # which inherit the model
            from concurrent.futures import ProcessPoolExecutor

            os.environ["OMP_NUM_THREADS"] = "1"
            pool = stack.enter_context(ProcessPoolExecutor(n_workers))
            found = pool.map(partial(_predict_log, given), given.logs)
        for path, (own, notes) in zip(given.logs, found):
            spans += own
            for note in () if given.quiet else notes:
                _warn(f"{path}: {note}")
            if given.json:
                print(json.dumps({"path": str(path), "spans": [one._asdict() for one in own]}))
                continue
            print(path)
            for one in own:
                when = f"{one.start_s:.1f} to {one.end_s:.1f} s"
                print(f"  {when:<24} {one.label}  {100 * one.probability:.1f} %")
    if given.csv is not None:
        write_whole(given.csv, spans_as_csv(tuple(spans)).encode())


def _reading(model: TrainedModel) -> Mapping[str, Any]:
    """Return the options that the training logs were read with, as far as they are known."""
    made: Mapping[str, Any] = model.preparation or {}
    return (made.get("configuration") or {}).get("input") or {}


def _predict_log(given: argparse.Namespace, path: Path) -> tuple[list[Any], list[str]]:
    """Return the spans of a log, in seconds since its start, and what is to be said of it."""
    model = _models[str(given.model)]
    recording = _read(path, model, given)
    windows = prediction_plan(model.preparation, given.hop_s).prepare([recording])
    outside = model.outside(windows) if model.knows_ranges else None
    if outside is not None and outside.n_outside and given.strict:
        raise InputError(f"{path}: {outside} Leave out --strict to use them anyway.")
    how = {"smooth": given.smooth, "lag": given.lag, "mean_dwell_s": given.mean_dwell_s}
    begins_s = float(recording.timestamps_s[0])
    spans = [
        one._replace(start_s=one.start_s - begins_s, end_s=one.end_s - begins_s)
        for one in model.timeline(windows, **how).spans
    ]
    return spans, [] if outside is None or not outside.n_outside else [str(outside)]


def _read(path: Path, model: TrainedModel, given: argparse.Namespace) -> Recording:
    """Read the channels of a CSV log."""
    options = prediction_plan(model.preparation).options
    names, units = tuple(options.channels or ()), options.units or {}
    time_column = given.time_column or _reading(model).get("time_column")
    parser = live.SampleParser("csv", names, time_column)
    values, stamps = parser.feed(path.read_bytes(), whole=True)
    if parser.n_unreadable:
        raise RecordingError(f"{path}: {parser.n_unreadable} line(s) are no samples.")
    if stamps is None:
        rate = given.sample_rate_hz
        if rate is None:
            raise RecordingError(f"{path}: there is no time column; give --sample-rate-hz.")
        stamps = np.arange(len(values)) / rate
    channels = tuple(Channel(name, units.get(name, "")) for name in names)
    return Recording(values, stamps, channels, path.stem)


if __name__ == "__main__":
    sys.exit(main())
