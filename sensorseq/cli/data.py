"""The commands for recordings: fetch, inspect and prepare."""

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import BAD_INPUT, GATE, command, is_given
from sensorseq.cli.output import check_output, print_part, print_result, progress
from sensorseq.cli.words import in_options
from sensorseq.errors import ArgumentError, check_choice
from sensorseq.io.atomic import write_whole
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.options import OPTIONS, READING_OPTIONS


@command("sensorseq fetch borealtc -o borealtc")
def fetch(
    name: Annotated[str, Argument(metavar="NAME", help="borealtc: REAL recordings of a robot.")],
    output: Annotated[
        Path | None, Option("--output", "-o", metavar="FOLDER", help="By default in the cache.")
    ] = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Download real recordings for first experiments, and print the command that models them.

    borealtc has motor currents, wheel speeds and an inertial unit of a Husky robot on five
    terrains (61 MB, CC0). Every file is checked; an interrupted download continues.
    """
    from sensorseq.datasets import fetch_borealtc

    check_choice("NAME", name, ("borealtc",))
    with progress("bytes", quiet=quiet) as advance:
        folder = fetch_borealtc(output, progress=advance)
    line = (
        f"sensorseq run {shlex.quote(str(folder))} --exclude MIXED,SNOW/pro_12"
        " --files 'pro_*.csv' -o terrain"
    )
    text = (
        f"{folder}: BorealTC, REAL recordings (CC0). Make a model of the motor logs with\n\n{line}"
    )
    print_result({"folder": str(folder), "run": line}, text, as_json)


@command(
    "sensorseq inspect logs --files 'pro_*.csv' --time-column time",
    "sensorseq inspect logs --html look.html",
    "sensorseq inspect terrain.h5 --leakage",
)
@opt.takes_preparation_options(READING_OPTIONS, after="path")
def inspect(
    context: typer.Context,
    path: Annotated[
        Path,
        Argument(
            metavar="PATH",
            help="Recording, folder, manifest or (with --html or --leakage) prepared file.",
        ),
    ],
    html: Annotated[
        Path | None, Option(metavar="HTML", help="Write a page with a picture of each channel.")
    ] = None,
    leakage: Annotated[
        bool, Option("--leakage", help="Check a prepared file for leakage between its parts.")
    ] = False,
    sensor: Annotated[
        str | None,
        Option(metavar="NAME", help="Sensor to inspect, if the file has several."),
    ] = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_verify: opt.NoVerify = False,
    **given: Any,
) -> None:
    """Describe recordings and their irregularities, or say why they cannot be read.

    The command lists the rate, channels, missing samples and gaps of each recording. The exit code
    is 3 if a recording cannot be read. With --html, the command also writes a page, readable
    offline, with plots of each channel for each class.

    With --leakage, the command checks whether training, validation and test windows of a prepared
    file overlap; the exit code is 10 if they do. The command also lists faults in the training and
    validation data: constant channels, padding, identical windows with different labels, and so on.
    """
    from sensorseq.evaluation import inspect as described
    from sensorseq.io.prepared import is_prepared

    has_windows = leakage or (html is not None and is_prepared(path))
    flags = [OPTIONS[name].flag for name in READING_OPTIONS if is_given(context, name)]
    if has_windows and flags:
        raise ArgumentError(f"{flags[0]} does not apply to a prepared file; remove it.")
    if sensor is not None and not has_windows:
        raise ArgumentError("--sensor needs a prepared file, and --html or --leakage.")
    if leakage:
        if html is not None:
            raise ArgumentError("--html does not show leakage; use one option at a time.")
        _inspect_leakage(path, sensor, as_json)
        return
    was_there = check_output(html, path)
    with progress("reading", quiet=quiet) as advance:
        if has_windows:
            description, facts = described.inspect_windows(path, sensor=sensor, progress=advance)
        else:
            reading = ReadOptions(**given)
            description, facts = described.inspect_recordings(
                path, reading, read_logs=html is not None, progress=advance
            )
    if html is not None:
        from sensorseq.inspection.look import make_look

        write_whole(html, make_look(description, facts, title=path.resolve().name).encode())
    text = in_options(described.format_recordings(description), context.command.params, (), ())
    print_result(description, text, as_json)
    if html is not None:
        print_part(f"page written to {html}{was_there}", as_json)
    if description["n_errors"]:
        raise typer.Exit(BAD_INPUT)


def _inspect_leakage(path: Path, sensor: str | None, as_json: bool) -> None:
    from sensorseq.base.layout import wrapped
    from sensorseq.evaluation.inspect import inspect_leakage

    report, data = inspect_leakage(path, sensor)
    shown = "\n".join([str(report), *(wrapped(f"data: {finding}") for finding in data)])
    print_result(
        {**report.to_dict(), "data": [finding.to_dict() for finding in data]}, shown, as_json
    )
    if report:
        raise typer.Exit(GATE)


@command(
    "sensorseq prepare logs --files 'pro_*.csv' --time-column time \\",
    "    --window-s 5 --hop-s 2.5 -o terrain.h5",
    "sensorseq prepare logs --config terrain.toml --balance oversample \\",
    "    -o terrain.h5",
)
@opt.takes_preparation_options(OPTIONS, after="output")
def prepare(
    context: typer.Context,
    source: Annotated[
        str, Argument(metavar="PATH", help="Folder with one folder per class, or a manifest.")
    ],
    output: Annotated[str, Option("--output", "-o", metavar="H5", help="File to write.")],
    config: Annotated[
        Path | None, Option(metavar="TOML", help="Configuration file; options override it.")
    ] = None,
    jobs: Annotated[int, Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    engine: Annotated[str, Option(metavar="process|dask", help="Where the jobs run.")] = "process",
    scheduler: Annotated[
        str | None, Option(metavar="ADDRESS", help="Use the workers of this dask scheduler.")
    ] = None,
    resume: Annotated[
        bool,
        Option("--resume", help="Resume an interrupted run, or add new recordings to the file."),
    ] = False,
    on_error: Annotated[
        str, Option(metavar="skip|stop", help="How to handle an unusable recording.")
    ] = "stop",
    allow_scales: Annotated[
        bool,
        Option(
            "--allow-scales",
            help="Use recordings that seem to be in different units, or are all zero.",
        ),
    ] = False,
    allow_constant: Annotated[
        bool,
        Option("--allow-constant", help="Keep constant channels that reveal the class."),
    ] = False,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    **given: Any,
) -> None:
    """Turn recordings into one file of windows, split by group.

    Each folder is a class, and each file in it is a recording; alternatively, a manifest lists
    path, label and group. By default, all recordings of a group go to the same part: training,
    validation or test. Filters, features and all other steps are set in a configuration file
    (--config).

    If the file exists and nothing has changed, nothing is done. --resume adds new and changed
    recordings to the file and keeps all other recordings in their parts; without --resume, the file
    is replaced.

    The exit code is 2 if an option or the configuration is invalid, and 3 if a recording cannot be
    used.
    """
    from sensorseq.io.blocks import reuse_freed_memory
    from sensorseq.io.prepared import refuse_prepared
    from sensorseq.prepare import prepare as make_file

    refuse_prepared(Path(source), "give the recordings it was made from, or use `sensorseq train`.")

    reuse_freed_memory()
    with progress("preparing", quiet=quiet) as advance:
        summary = make_file(
            source,
            output,
            **given,
            config=config,
            jobs=jobs,
            engine=engine,
            scheduler=scheduler,
            resume=resume,
            on_error=on_error,
            allow_scales=allow_scales,
            allow_constant=allow_constant,
            progress=lambda stage, done, total: advance(done, total, stage),
        )
    text = summary.text(lambda sentence: in_options(sentence, context.command.params, (), ()))
    print_result(summary.to_dict(), text, as_json)
