"""The command line: arguments in, exit code out."""

import importlib
import io
import json
import os
import shlex
import sys
import textwrap
import tomllib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from enum import StrEnum
from functools import partial, wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO, TypeVar, cast

import typer

from sensorseq.command_words import in_options
from sensorseq.errors import (
    UNWRITABLE,
    ArgumentError,
    ConfigurationError,
    EnvironmentProblemError,
    InputError,
    MisplacedOutputError,
    OutputError,
    SensorseqError,
    check_choice,
    did_you_mean,
    printable,
    reason_of,
    ways_out,
    writing,
)
from sensorseq.io.atomic import locking, make_folder, real_file, write_whole
from sensorseq.options import split_names
from sensorseq.preprocessing.options import (
    OPTIONS,
    READ_AS_IN_TRAINING,
    READING_OPTIONS,
    PreparationOptions,
)
from sensorseq.text import plain

if TYPE_CHECKING:
    from sensorseq.data_checks import OutsideWindows
    from sensorseq.estimator import SensorLSTMClassifier

_Command = TypeVar("_Command", bound=Callable[..., None])
OK, USAGE, BAD_INPUT, ENVIRONMENT, GATE = 0, 2, 3, 4, 10
_outputs = ExitStack()  # what the running command has locked
# typer brings click's exceptions along, its own copy of them or click's, by version.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)

# Plain help: it needs no rich, so it is there at once, and it is the same in a file.
app = typer.Typer(
    name="sensorseq",
    help="Classify robot sensor sequences: prepare, train, evaluate, predict.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


class Format(StrEnum):
    """What `export` writes."""

    onnx = "onnx"
    c = "c"


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object to stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on stderr.")]


def _flag(name: str) -> Any:
    """Return the command-line option for an option of preparation."""
    option = OPTIONS[name]
    flag = f"{option.flag}/{option.off}" if option.off else option.flag
    return typer.Option(flag, metavar=option.metavar, help=option.help)


MeanDwell = Annotated[
    float | None,
    typer.Option(metavar="S", help="How long a class lasts on average [default: 60]."),
]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(
        metavar="SHARE",
        help="Abstain on windows of no known class, and on this share of the others, such as 0.05.",
    ),
]
Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse windows outside what the model was trained on.")
]
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL", help="Model file written by train.")]
Prepared = Annotated[Path, typer.Argument(metavar="H5", help="File written by prepare.")]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any argument of SensorLSTMClassifier, value as in TOML; repeatable.",
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same result.")
]
Report = Annotated[
    Path | None, typer.Option(metavar="HTML", help="Also write an HTML report, readable offline.")
]


@app.callback()
def _sensorseq(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if version:
        print(f"sensorseq {importlib.import_module('sensorseq').__version__}")
        raise typer.Exit


def _with_options(names: Sequence[str]) -> Callable[[_Command], _Command]:
    """Give a command that takes ``**options`` these of preparation, before its own.

    The command gets those that are given, as arguments in Python.
    """
    options = [option for option in map(OPTIONS.__getitem__, names) if option.help]

    def decorate(command: _Command) -> _Command:
        @wraps(command)
        def run_command(*args: Any, **kwargs: Any) -> None:
            given = {option.name: kwargs.pop(option.name) for option in options}
            command(
                *args,
                **kwargs,
                **{
                    name: value if (read := OPTIONS[name].read) is None else read(value)
                    for name, value in given.items()
                    if value is not None  # 0 is a value
                },
            )

        own = signature(command)
        given = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        first = next(i for i, p in enumerate(given) if p.default is not p.empty)
        added = [
            Parameter(
                option.name,
                Parameter.POSITIONAL_OR_KEYWORD,
                default=None,
                annotation=Annotated[option.command_type, _flag(option.name)],
            )
            for option in options
        ]
        run_command.__signature__ = own.replace(  # type: ignore[attr-defined]
            parameters=[*given[:first], *added, *given[first:]]
        )
        return cast(_Command, run_command)

    return decorate


def _reads_prepared(command: _Command) -> _Command:
    """Give a command that reads prepared files the option ``--no-verify``."""

    @wraps(command)
    def run_command(*args: Any, no_verify: bool, **kwargs: Any) -> None:
        from sensorseq.io.checksums import unverified

        with unverified() if no_verify else nullcontext():
            command(*args, **kwargs)

    own = signature(command)
    text = "Skip the checksums of prepared files: damage may crash or change results unnoticed."
    option = typer.Option("--no-verify", help=text)
    added = Parameter(
        "no_verify",
        Parameter.KEYWORD_ONLY,
        default=False,
        annotation=Annotated[bool, option],
    )
    run_command.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), added]
    )
    return cast(_Command, run_command)


def _example(*lines: str) -> str:
    # The first character tells click not to join the lines.
    return "\n".join(("\b", "Example:", *(f"  {line}" for line in lines)))


@app.command(
    epilog=_example(
        "sensorseq simulate simulated --robots 4",
        "sensorseq prepare simulated --window-s 2 -o simulated.h5",
    )
)
def simulate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="New folder to create.")],
    surfaces: Annotated[
        list[str] | None, typer.Option(metavar="NAME,...", help="Surfaces [default: all six].")
    ] = None,
    n_robots: Annotated[
        int, typer.Option("--robots", min=1, help="Number of robots; each is a group.")
    ] = 4,
    n_recordings: Annotated[
        int, typer.Option("--recordings", min=1, help="Per robot and surface.")
    ] = 2,
    duration_s: Annotated[float, typer.Option(min=1, help="Seconds per recording.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files.")] = 0,
    as_json: Json = False,
) -> None:
    """Write simulated recordings: motor current of robots on surfaces.

    Use it to try the commands and for tests. Accuracy on simulated data does not predict accuracy
    on real data.
    """
    from sensorseq.datasets import write_simulated

    with writing(folder, folder=True), _progress("simulating", quiet=as_json):
        written = write_simulated(
            folder,
            surfaces=split_names(surfaces),
            n_robots=n_robots,
            n_recordings=n_recordings,
            duration_s=duration_s,
            seed=seed,
        )
    result = {"folder": str(folder), "n_recordings": len(written), "simulated": True, "seed": seed}
    _say(result, f"{len(written)} simulated recordings in {folder}", as_json)


@app.command(
    epilog=_example(
        "sensorseq inspect logs --files 'pro_*.csv' --time-column time",
        "sensorseq inspect logs --html look.html",
        "sensorseq inspect terrain.h5 --leakage",
    )
)
@_reads_prepared
@_with_options(READING_OPTIONS)
def inspect(
    context: typer.Context,
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH",
            help="Recording, folder or manifest; with --html or --leakage, also a prepared file.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Write a page with a picture of each channel."),
    ] = None,
    leakage: Annotated[
        bool, typer.Option("--leakage", help="Check a prepared file for leakage between its parts.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **selected: Any,
) -> None:
    """Show what recordings contain, what is odd in them, and which cannot be read.

    Lists rate, channels, missing samples and gaps of each. Exit code 3 if one cannot be read.
    With --html, also writes a page, readable offline: pictures of each channel, class by class.

    With --leakage, checks whether training, validation and test windows of a prepared file
    overlap. Exit code 10 if they do. Also lists what is wrong with the data of training and
    validation: constant channels, wrong labels of identical windows, padding and others.
    """
    from sensorseq.evaluation import inspect as described

    is_prepared = leakage or (html is not None and described.is_prepared(path))
    if is_prepared and selected:
        raise ArgumentError(
            f"{OPTIONS[next(iter(selected))].flag} is for recordings and has no use with a prepared"
            " file; remove it."
        )
    if leakage:
        if html is not None:
            raise ArgumentError("--html shows no leakage; run the command once for each.")
        _inspect_leakage(path, as_json)
        return
    _check_output(html, path)
    with _progress("reading", quiet=quiet) as advance:
        if is_prepared:
            found, facts = described.inspect_windows(path, progress=advance)
        else:
            found, facts = described.inspect_recordings(
                path, **selected, read_logs=html is not None, progress=advance
            )
    if html is not None:
        from sensorseq.evaluation.look import make_look

        write_whole(html, make_look(found, facts, title=path.resolve().name).encode())
    text = in_options(described.format_recordings(found), context.command.params, (), ())
    _say(found, text, as_json)
    if found["n_errors"]:
        raise typer.Exit(BAD_INPUT)


def _inspect_leakage(path: Path, as_json: bool) -> None:
    from sensorseq.evaluation.inspect import inspect_data, inspect_leakage
    from sensorseq.evaluation.text import wrapped

    report, data = inspect_leakage(path), inspect_data(path)
    shown = "\n".join([str(report), *(wrapped(f"data: {finding}") for finding in data)])
    _say({**report.to_dict(), "data": [vars(finding) for finding in data]}, shown, as_json)
    if report:
        raise typer.Exit(GATE)


@app.command(
    epilog=_example(
        "sensorseq prepare logs --files 'pro_*.csv' --time-column time \\",
        "    --window-s 5 --hop-s 2.5 -o terrain.h5",
        "sensorseq prepare logs --config terrain.toml --balance oversample \\",
        "    -o terrain.h5",
    )
)
@_with_options(tuple(OPTIONS))
def prepare(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(metavar="PATH", help="Folder with one folder per class, or a manifest."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="H5", help="File to write.")],
    config: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="Configuration file; options here override it."),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Number of processes.")] = 1,
    engine: Annotated[
        str, typer.Option(metavar="process|dask", help="What runs the jobs.")
    ] = "process",
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use the workers of this dask scheduler."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Resume an interrupted run, or extend the file by what is new."
        ),
    ] = False,
    on_error: Annotated[
        str, typer.Option(metavar="skip|stop", help="What to do with an unusable recording.")
    ] = "stop",
    allow_scales: Annotated[
        bool,
        typer.Option(
            "--allow-scales", help="Use recordings that seem to be in other units, or are all zero."
        ),
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **options: Any,
) -> None:
    """Turn recordings into one file of windows, split by group.

    Each folder is a class and each file in it a recording; or a manifest lists path, label and
    group. Whole groups go to train, validation or test, so no test recording is ever trained on.
    Filters, features and all other steps are set in a configuration file, --config, or chosen by
    --derive auto.

    If the file is there and nothing changed, nothing is done. --resume adds new and changed
    recordings to it and leaves the others in their part; without --resume, the file is replaced.

    Exit code 2: an option or the configuration is invalid; 3: a recording cannot be used.
    """
    from sensorseq.evaluation.inspect import refuse_prepared
    from sensorseq.evaluation.text import format_summary
    from sensorseq.prepare import prepare as make_file

    refuse_prepared(Path(source), "give the recordings it was made from, or use `sensorseq train`.")

    with _progress("preparing", quiet=quiet) as advance:
        summary = make_file(
            source,
            output,
            **options,
            config=config,
            jobs=jobs,
            engine=engine,
            scheduler=scheduler,
            resume=resume,
            on_error=on_error,
            allow_scales=allow_scales,
            progress=lambda stage, done, total: advance(done, total, stage),
        )
    text = in_options(format_summary(summary.to_dict()), context.command.params, (), ())
    _say(summary.to_dict(), text, as_json)


@app.command(
    epilog=_example(
        "sensorseq train terrain.h5 -o terrain.safetensors --report fit.html",
        "sensorseq train terrain.h5 -o t.safetensors --set dropout=0.5",
        "sensorseq train terrain.h5 -o t.safetensors \\",
        "    --set checkpoint=t.checkpoint --set resume=true",
    )
)
@_reads_prepared
def train(
    windows: Prepared,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="File to write.")],
    hidden_size: Annotated[int | None, typer.Option(help="LSTM units.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows per step.")] = None,
    max_epochs: Annotated[int | None, typer.Option(help="Largest number of epochs.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Stop after this many epochs without improvement.")
    ] = None,
    random_state: Seed = 0,
    settings: Settings = None,
    compare: Annotated[
        bool,
        typer.Option(
            "--compare/--no-compare", help="In the page, compare with simple baseline models."
        ),
    ] = True,
    report: Report = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a classifier on prepared windows.

    The validation part gives the curve and the report; then the model is trained on it, too. The
    test part is not read.
    """
    was_there = _check_output(output, windows)
    _check_output(report, windows, output)
    arguments = {
        "hidden_size": hidden_size,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
        "patience": patience,
        "early_stopping": None if patience is None else True,
    }
    from sensorseq.estimator import SensorLSTMClassifier

    typed = {name: value for name, value in arguments.items() if value is not None}
    typed |= _read_settings(settings)
    given = _with_scale(typed, windows)
    if isinstance(checkpoint := given.get("checkpoint"), str):
        outputs = {written.absolute() for written in (output, report) if written is not None}
        if Path(checkpoint).absolute() in outputs:
            raise ArgumentError(
                f"checkpoint={checkpoint!r} is also the name of an output; give the checkpoint"
                " another name, such as 'run.checkpoint'."
            )
    model = SensorLSTMClassifier(
        **{"random_state": random_state, "verbose": 0 if quiet else 1, **given}
    )
    model.fit(windows).set_params(verbose=0)
    model.save(output)
    _tell(f"model written to {output}{was_there}", as_json)
    from sensorseq.diagnosis.words import settings_as_options, write_report

    def again(changes: Mapping[str, Any]) -> str:
        command = f"sensorseq train {shlex.quote(str(windows))} -o {shlex.quote(str(output))}"
        command += f" --seed {random_state}" if random_state else ""
        command += "" if compare else " --no-compare"
        command += settings_as_options({**typed, **changes})
        return command if report is None else f"{command} --report {shlex.quote(str(report))}"

    verdict = model.fluctuation_
    page = str(report) if report is not None else _page_command(output)
    _tell("\n".join(["", write_report(verdict, again, page), "", *_describe_fit(model)]), as_json)
    last = model.history_[model.best_epoch_ - 1]
    result = {
        "model": str(output),
        "report": None if report is None else str(report),
        "epochs": model.n_iter_,
        "best_epoch": model.best_epoch_,
        "val_loss": last.get("val_loss"),
        "val_accuracy": last.get("val_accuracy"),
        "classes": model.classes_.tolist(),
        "features": model.features_.to_dict(),
        "refitted": model.refitted_,
        "fluctuation": verdict.to_dict(),
    }
    if report is not None:
        if compare:
            _tell("comparing with baselines for the page; Ctrl-C skips it", as_json)
        _write_page(report, model, windows, "validation", compare, title=output.name, command=again)
        _tell(f"report written to {report}", as_json)
    if as_json:
        _say(result, "", as_json)


@app.command(
    epilog=_example("sensorseq adapt terrain.safetensors --windows new.h5 -o new.safetensors")
)
def adapt(
    model_file: ModelFile,
    windows: Annotated[
        Path, typer.Option(metavar="H5", help="A few labelled windows of the robot, prepared.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL", help="File to write.")],
    as_json: Json = False,
) -> None:
    """Adapt a model to another robot, from a few labelled windows of it.

    Prepare its recordings like those of training. Scaling and linear layer change if that lowers
    the log-loss; the old training windows are not needed, and a test part is not read.
    """
    was_there = _check_output(output, model_file, windows)
    with _naming(windows):
        adapted = _load(model_file).adapt(windows)
    adapted.save(output)
    result = {"model": str(output), **vars(adapted.adaptation_)}
    _say(result, f"{output}{was_there}: {adapted.adaptation_}", as_json)


@app.command(
    epilog=_example(
        "sensorseq evaluate terrain.safetensors terrain.h5",
        "sensorseq evaluate terrain.safetensors terrain.h5 --folds 5 --json",
    )
)
@_reads_prepared
def evaluate(
    model_file: ModelFile,
    windows: Prepared,
    folds: Annotated[
        int | None, typer.Option(min=2, help="Cross-validate: retrain on folds of whole groups.")
    ] = None,
    baselines: Annotated[
        bool,
        typer.Option("--baselines/--no-baselines", help="Compare with simple baseline models."),
    ] = True,
    include_seen: Annotated[
        bool, typer.Option("--include-seen", help="Also score recordings seen in training.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of folds and intervals.")] = 0,
    strict: Strict = False,
    report: Report = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on test recordings it has never seen.

    Intervals are 95 %, from resampling whole groups of recordings. With --folds, a model with the
    same arguments is trained for each fold on the groups outside it.
    """
    from sensorseq.evaluation.baselines import BASELINES
    from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
    from sensorseq.evaluation.text import format_comparison
    from sensorseq.io.prepared import read_windows

    _check_output(report, windows, model_file)
    model = _load(model_file, strict=strict)
    compared = BASELINES if baselines else ()
    with _naming(windows), _progress("evaluating", quiet=quiet) as advance:

        def say(words: str) -> None:
            advance(0, 0, words)

        given: dict[str, Any] = {"baselines": compared, "seed": seed, "progress": say}
        if folds is None:
            comparison = evaluate_test(
                model, read_windows(windows), include_seen=include_seen, **given
            )
        else:
            comparison = evaluate_folds(model, read_windows(windows), folds, **given)
        _tell_outside(comparison.outside, strict=strict)
    if report is not None:
        from sensorseq.diagnosis.words import settings_as_options

        usual = type(model)().get_params()
        left = {"checkpoint", "device", "resume", "verbose"}
        own = {k: v for k, v in model.get_params().items() if k not in left and v != usual[k]}

        def again(changes: Mapping[str, Any]) -> str:  # the file it was trained on is not known
            return f"sensorseq train H5 -o MODEL{settings_as_options({**own, **changes})}"

        _write_page(
            report,
            model,
            windows,
            "test" if folds is None else None,
            False,
            title=f"{model_file.name} on {windows.name}",
            comparison=comparison,
            command=again,
            scores_first=True,
        )
    result = {"model": str(model_file), "windows": str(windows), **comparison.to_dict()}
    _say(result, format_comparison(comparison), as_json)


@app.command(
    epilog=_example(
        "sensorseq predict terrain.safetensors logs/ICE/pro_01.csv",
        "sensorseq predict terrain.safetensors drive.csv --mean-dwell-s 30 \\",
        "    --csv spans.csv",
        "sensorseq predict terrain.safetensors new_logs --windows --json",
    )
)
@_with_options(READ_AS_IN_TRAINING)
def predict(
    model_file: ModelFile,
    recordings: Annotated[
        list[Path], typer.Argument(metavar="RECORDING...", help="Raw files, or folders of them.")
    ],
    every_window: Annotated[
        bool, typer.Option("--windows", help="Print one line per window instead of per span.")
    ] = False,
    smooth: Annotated[
        str,
        typer.Option(
            metavar="HOW",
            help="Smooth over time: marginals, viterbi, lag, filter, none [default: marginals].",
        ),
    ] = "marginals",
    mean_dwell_s: MeanDwell = None,
    table: Annotated[
        Path | None, typer.Option("--csv", metavar="CSV", help="Write the spans as a table.")
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="Write a page with the classes over the signals."),
    ] = None,
    strict: Strict = False,
    as_json: Json = False,
    quiet: Quiet = False,
    **reading: Any,
) -> None:
    """Classify raw recordings.

    They are read as the training recordings were, unless an option here says otherwise, and go
    through the same steps as the training windows: rate, channels, filters and features, windows,
    scaling. Each line gives a time span and its class; with --windows, a single window.

    A robot stays on a surface for a while, so the windows around a window count, too. --smooth none
    shows what each window says by itself.
    """
    from sensorseq.data_checks import join_outside
    from sensorseq.evaluation.predict import predict_recordings, table_of_spans
    from sensorseq.evaluation.text import format_prediction

    _check_output(html, model_file, *recordings)
    _check_output(table, model_file, *recordings)
    model = _load(model_file, strict=strict)
    with _progress("predicting", quiet=quiet) as advance:
        found = predict_recordings(
            model,
            recordings,
            smooth=smooth,
            mean_dwell_s=mean_dwell_s,
            with_facts=html is not None,
            progress=advance,
            **reading,
        )
    if table is not None:
        write_whole(table, table_of_spans(found).encode())
    if html is not None:
        from sensorseq.evaluation.drive_page import make_drive_page

        title = recordings[0].name if len(recordings) == 1 else f"{len(found)} recordings"
        write_whole(html, make_drive_page(found, title=title).encode())
    outside = [one.outside for one in found if one.outside is not None]
    _tell_outside(join_outside(outside) if outside else None, strict=strict)
    result = {
        "model": str(model_file),
        "classes": model.classes_.tolist(),
        "recordings": [prediction.to_dict() for prediction in found],
    }
    text = "\n\n".join(format_prediction(one, every_window=every_window) for one in found)
    _say(result, text, as_json)


@app.command(
    epilog=_example(
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
    model = _load(model_file, strict=strict)
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
        _warn(f"expects {channels} at {decisions.sample_rate_hz:g} Hz{wait}")
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
        decisions.on_outside = partial(_tell_outside, strict=strict)
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
        _warn(said or "no samples")


@app.command(
    epilog=_example(
        "sensorseq export terrain.safetensors -o terrain.onnx --check terrain.h5",
        "sensorseq export terrain.safetensors --format c --weights int8 -o model",
    )
)
@_reads_prepared
def export(
    model_file: ModelFile,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="PATH", help="ONNX file, or folder for C.")
    ],
    to: Annotated[
        Format, typer.Option("--format", help="An ONNX graph, or one header and one source in C99.")
    ] = Format.onnx,
    n_timesteps: Annotated[
        int | None,
        typer.Option(
            "--timesteps",
            min=1,
            help="Steps of every window [default: any number; C: as in training].",
        ),
    ] = None,
    lengths: Annotated[
        bool,
        typer.Option("--lengths", help="ONNX: add an input with the valid steps of each window."),
    ] = False,
    steps: Annotated[
        bool, typer.Option("--steps", help="ONNX: put the steps of the preparation into the graph.")
    ] = False,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="H5",
            help="ONNX: compare probabilities in onnxruntime. C: state the accuracy in the header.",
        ),
    ] = None,
    hop: Annotated[
        int | None,
        typer.Option(min=1, help="C: samples between window starts [default: as in training]."),
    ] = None,
    sample_rate_hz: Annotated[
        float | None,
        typer.Option(
            "--sample-rate", metavar="HZ", help="C: rate of the samples, to resample them."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="TYPE", help="C: float32 or int8 [default: float32].")
    ] = None,
    units: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=UNIT,...", help="C: units of channels, such as current=mA."),
    ] = None,
    prefix: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="C: first part of all names [default: sensorseq]."),
    ] = None,
    false_alarm_rate: FalseAlarmRate = None,
    as_json: Json = False,
) -> None:
    """Write a model as an ONNX graph or as C, for programs without Python.

    The graph takes windows prepared as in training, and gives probabilities: scaling, networks,
    features and trees are in it. Exit code 10 if --check finds a difference above 1e-5. The C code
    takes raw samples one by one: resampling and causal steps are in it, trees are not.
    """
    if to is Format.c:
        _refuse_options(to, lengths=lengths, steps=steps)
        is_new = not output.exists()
        prefix = prefix or "sensorseq"
        if is_new:
            _check_parent(output)
        output = make_folder(output)
        if is_new:
            _outputs.callback(lambda: None if any(output.iterdir()) else output.rmdir())
        for path in (output / f"{prefix}_model.h", output / f"{prefix}_model.c"):
            _check_output(path, model_file)
        given: dict[str, Any] = {
            "n_timesteps": n_timesteps,
            "hop": hop,
            "sample_rate_hz": sample_rate_hz,
            "false_alarm_rate": false_alarm_rate,
        }
        given |= {"check": check, "weights": weights or "float32", "prefix": prefix}
        given["units"] = _read_units(units)
        written = _load(model_file).to_c(output, **given)
        _say({"model": str(model_file), **written.to_dict()}, str(written), as_json)
        return
    c_alone = {"hop": hop, "sample_rate": sample_rate_hz, "weights": weights}
    _refuse_options(to, **c_alone, units=units, prefix=prefix)
    was_there = _check_output(output, model_file, *([] if check is None else [check]))
    if steps and check is not None:
        raise ArgumentError(
            "--check compares windows after the steps, which a graph with --steps does not take;"
            " check one without --steps."
        )
    model = _load(model_file)
    model.to_onnx(
        output,
        n_timesteps=n_timesteps,
        lengths=lengths,
        steps=steps,
        false_alarm_rate=false_alarm_rate,
    )
    from sensorseq.export.steps import stored_steps

    result: dict[str, Any] = {"model": str(model_file), "output": str(output)}
    classes = ", ".join(map(str, model.classes_.tolist()))
    lines = [f"{output}: probabilities of {classes}{was_there}"]
    if not steps and (outside := [step.kind for step in stored_steps(model.preparation_)]):
        lines.append(f"The graph takes windows after these steps: {', '.join(outside)}.")
    difference = None
    if check is not None:
        from sensorseq.export.check import TOLERANCE, onnx_difference
        from sensorseq.io.prepared import read_windows

        with _naming(check):
            windows = read_windows(check)
            difference = onnx_difference(model, output, windows.X, windows.lengths)
        result |= {"n_windows": len(windows), "largest_difference": difference}
        lines.append(f"onnxruntime differs by at most {difference:.1e} on {len(windows)} windows")
    _say(result, "\n".join(lines), as_json)
    if difference is not None and not difference <= TOLERANCE:
        raise typer.Exit(GATE)


@app.command(
    epilog=_example(
        "sensorseq diagnose lightning_logs/version_0/metrics.csv --n-val 42",
        "sensorseq diagnose runs/today --column loss=Loss/fit --html fit.html",
        "sensorseq diagnose terrain.safetensors --fail-on strong",
    )
)
def diagnose(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="PATH", help="CSV, JSON, TensorBoard event file, folder of a run, or a model."
        ),
    ],
    n_val: Annotated[
        int | None, typer.Option(help="Number of independent validation windows.")
    ] = None,
    n_train: Annotated[int | None, typer.Option(help="Number of training windows.")] = None,
    n_classes: Annotated[int | None, typer.Option(help="Number of classes.")] = None,
    best_epoch: Annotated[
        int | None, typer.Option(help="Epoch whose weights were kept, counted from 1.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option(
            "--column",
            metavar="ROLE=NAME",
            help="Which column is loss, val_accuracy, ...; NAME none ignores a role; repeatable.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="HTML", help="Also write an HTML report.")
    ] = None,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="mild|strong", help="Exit with code 10 at this severity or worse."),
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Judge whether a training run fluctuates more than it should.

    Reads the losses that Keras, Lightning, skorch, transformers or TensorBoard wrote, or the run
    stored in a sensorseq model. Losses are cross-entropy in nats, accuracies fractions.

    For --fail-on, diverged and not_learning count as strong; too_short_to_tell never fails.
    """
    if fail_on is not None:
        check_choice("--fail-on", fail_on, ("mild", "strong"))
    _check_output(html, path)
    counts: dict[str, Any] = {
        "n_val": n_val,
        "n_train": n_train,
        "n_classes": n_classes,
        "best_epoch": best_epoch,
    }
    if _is_model(path):
        for name, value in {**counts, "column": columns}.items():
            if value is not None:
                option = "--" + name.replace("_", "-")
                raise ArgumentError(
                    f"{option} is for logs, and {path} is a model that stores it; remove {option}."
                )
        report = _load(path).fluctuation_
    else:
        from sensorseq.diagnosis.report import FluctuationReport

        report = FluctuationReport.from_history(path, **counts, columns=_read_columns(columns))
        if not quiet:
            pairs = ", ".join(f"{ours} <- {own}" for ours, own in report.columns_read.items())
            _warn(textwrap.fill(f"read: {pairs}", 80, subsequent_indent="  "))
    if html is not None:
        report.to_html(html)
    from sensorseq.diagnosis.words import write_report

    page = _page_command(path) if html is None else str(html)
    _say(report.to_dict(), write_report(report, page=page), as_json)
    if fail_on is None:
        return
    if report.verdict == "too_short_to_tell":
        _warn("too short to tell, so --fail-on does not apply.")
    grave = report.verdict in ("diverged", "not_learning") or report.severity == "strong"
    if grave or (fail_on == "mild" and report.severity == "mild"):
        raise typer.Exit(GATE)


def _page_command(path: Path) -> str:
    return f"sensorseq diagnose {shlex.quote(str(path))} --html report.html"


@app.command(epilog=_example("sensorseq doctor", "sensorseq doctor terrain.h5 --json"))
@_reads_prepared
def doctor(
    windows: Annotated[
        Path | None,
        typer.Argument(
            metavar="[H5]", help="File written by prepare [default: synthetic signals]."
        ),
    ] = None,
    settings: Settings = None,
    random_state: Seed = 0,
    installation: Annotated[
        bool, typer.Option("--self", help="Check the installed package; exit code 1 if it fails.")
    ] = False,
    gpu: Annotated[
        bool, typer.Option("--gpu", help="Check the CUDA kernels; exit code 1 if one fails.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Tell a bug from a hard problem by short test trainings.

    The outcome of each training is known. Without a file, it uses synthetic signals. Exit code 10
    if a check fails. With --self, checks the installation instead: the compiled kernels compared
    with float64, a small training, a saved model. With --gpu, runs every CUDA kernel on this GPU
    and compares it with float64, in at most a minute. With SENSORSEQ_CUDA_KERNELS=auto, the kernels
    that passed are used from then on.
    """
    if gpu:
        _check_gpu(windows, settings, as_json, installation)
        return
    if installation:
        _check_installation(windows, settings, as_json)
        return
    from sensorseq.doctor import check_training, plant_windows
    from sensorseq.estimator import SensorLSTMClassifier

    given = _read_settings(settings)
    if windows is None:
        X, y, groups = plant_windows(random_state)
        model = SensorLSTMClassifier(**given)
        diagnosis = check_training(model, X, y, groups=groups, random_state=random_state)
    else:
        model = SensorLSTMClassifier(**_with_scale(given, windows))
        with _naming(windows):
            diagnosis = check_training(model, windows, random_state=random_state)
    _say(diagnosis.to_dict(), str(diagnosis), as_json)
    if not diagnosis.passed:
        raise typer.Exit(GATE)


def _check_gpu(
    windows: Path | None, settings: list[str] | None, as_json: bool, installation: bool
) -> None:
    from sensorseq import gpu_check
    from sensorseq.ops import cuda_kernels

    if windows is not None or settings or installation:
        raise ArgumentError("--gpu checks the CUDA kernels; give no file, --set or --self with it.")
    mode = cuda_kernels.switch()

    def show(result: gpu_check.Result) -> None:
        if not as_json:
            print(gpu_check.format_result(result), flush=True)

    results = gpu_check.check_gpu(on_result=show)
    n_passed = sum(result.outcome == "passed" for result in results)
    serves = {
        cuda_kernels.OFF: f"torch's LSTM serves; to let kernels that passed serve, set"
        f" {cuda_kernels.SWITCH}={cuda_kernels.AUTO}",
        cuda_kernels.AUTO: "the kernels that passed every run serve from now on",
        cuda_kernels.FORCED: f"all kernels serve, as {cuda_kernels.SWITCH}={cuda_kernels.FORCED}",
    }[mode]
    found = {
        "passed": n_passed == len(results),
        "checks": [result._asdict() | {"case": result.case.name} for result in results],
        "serves": serves,
    }
    _say(found, f"\n{n_passed} of {len(results)} runs passed; {serves}", as_json)
    if n_passed < len(results):
        raise typer.Exit(1)


def _check_installation(windows: Path | None, settings: list[str] | None, as_json: bool) -> None:
    from sensorseq import self_check

    if windows is not None or settings:
        raise ArgumentError("--self checks the installation; give no file and no --set with it.")
    results = self_check.check_installation()
    passed = all(result.status == "passed" for result in results)
    found = {"passed": passed, "checks": [result.to_dict() for result in results]}
    _say(found, self_check.format_results(results), as_json)
    if not passed:
        raise typer.Exit(1)


@app.command(epilog=_example("sensorseq bench"))
def bench(
    against: Annotated[
        str, typer.Option(metavar="torch|cudnn", help="torch on the CPU, or cuDNN on a GPU.")
    ] = "torch",
    threads: Annotated[
        int | None, typer.Option(min=1, max=4096, help="CPU threads [default: torch's].")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure the speed compared with torch and the processor's peak.

    Times a few shapes on this machine, alternating with torch, in about half a minute. Stop other
    work first: it distorts the timings. With --against cudnn, compares with torch's LSTM on the
    GPU, in the same precision.
    """
    check_choice("--against", against, ("torch", "cudnn"))
    options: dict[str, Any] = {} if against == "cudnn" else {"threads": threads}
    if against == "cudnn" and threads is not None:
        raise ArgumentError("--threads is for the CPU; remove it with --against cudnn.")
    name = "sensorseq.benchmark_cuda" if against == "cudnn" else "sensorseq.benchmark"
    benchmark = importlib.import_module(name)
    with _progress("measuring", quiet=quiet) as advance:
        result = benchmark.run_short(progress=advance, **options)
    _say(result, benchmark.format_short(result), as_json)


@app.command(epilog=_example("sensorseq info terrain.safetensors", "sensorseq info"))
@_reads_prepared
def info(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]", help="Model or prepared file [default: this installation]."
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print a model card in Markdown.")
    ] = False,
    windows: Annotated[
        Path | None,
        typer.Option(metavar="H5", help="Prepared file whose test part the card is measured on."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Describe a model, a prepared file, or this installation."""
    if markdown:
        if path is None or as_json:
            raise ArgumentError("--markdown needs a model file, and excludes --json.")
        print(printable(_model_card(path, windows), "\n"), end="")
        return
    if windows is not None:
        raise ArgumentError("--windows is for --markdown.")
    from sensorseq.evaluation import inspect as described

    found = described.describe_installation() if path is None else described.describe_file(path)
    show = described.format_installation if path is None else described.format_file
    _say(found, show(found), as_json)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and end the process with its exit code.

    0: done. 2: the command line or the configuration is invalid. 3: the data cannot be used.
    4: an output cannot be written, or the installation or the machine lacks something. 10: a
    requested check failed.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding lacks is shown escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error is one message on stderr."""
    command = typer.main.get_command(app)
    words = _words_of(command, arguments)
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, words)
        try:
            with _outputs:
                code = command.main(list(arguments), prog_name="sensorseq", standalone_mode=False)
                sys.stdout.flush()
        except _UsageError as error:
            message = printable(getattr(error, "message", ""), "\n")  # of several lines: the help
            error.message = message  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]  # in click's words, with the usage line
            return USAGE
        except (typer.Abort, KeyboardInterrupt) as error:
            notes = getattr(error.__cause__ or error, "__notes__", ())
            _warn(" ".join(["interrupted.", *(f"({note})" for note in notes)]))
            return 130
        except (ArgumentError, ConfigurationError) as error:
            return _fail(error, USAGE, words)
        except MisplacedOutputError as error:
            return _fail(error, BAD_INPUT, words)
        except (EnvironmentProblemError, OutputError) as error:
            return _fail(error, ENVIRONMENT, words)
        except BrokenPipeError:  # the reader of stdout has left, as in `| head`
            _drop_buffer(sys.stdout)
            return OK
        except SensorseqError as error:
            return _fail(error, BAD_INPUT, words)
        except OSError as error:
            return _fail_by_system(error, words)
    return code if isinstance(code, int) else OK


def _drop_buffer(stream: TextIO) -> None:
    """Forget what a stream still buffers, which the end of the process would fail to write."""
    descriptor, own = stream.fileno(), os.dup(stream.fileno())
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    stream.flush()
    os.dup2(own, descriptor)
    os.close(own)
    os.close(null)


def _fail_by_system(error: OSError, words: Callable[[str], str]) -> int:
    said, code = f"{error.filename}: {reason_of(error)}.", BAD_INPUT
    if error.errno is not None and error.filename is None:  # such as no temporary folder
        said, code = f"{reason_of(error)}.", ENVIRONMENT
    if error.errno in UNWRITABLE:
        if error.filename is None:
            _drop_buffer(sys.stdout)
        why, code = f"cannot be written ({reason_of(error)}). {ways_out(error)}.", ENVIRONMENT
        said = f"{error.filename or 'the output'} {why}"
    return _fail(error if error.errno is None else OSError(said), code, words)


def _fail(error: BaseException, code: int, words: Callable[[str], str]) -> int:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    _warn(f"error: {words(f'{error}{notes}')}")
    return code


def _warn(message: str) -> None:
    try:
        print(printable(message, "\n"), file=sys.stderr)
    except OSError:  # a full disk: no reason not to work
        _drop_buffer(sys.stderr)


def _visible_json(line: str) -> str:
    """Escape characters that act on a terminal, as JSON does; the value stays the same."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def _words_of(command: Any, arguments: Sequence[str]) -> Callable[[str], str]:
    """Return what puts the options of the command that runs into messages."""
    chosen = command.commands.get(arguments[0]) if arguments else None
    parameters = [] if chosen is None else chosen.params

    def words(text: str) -> str:
        settings: Mapping[str, Any] = {}
        if any(parameter.name == "settings" for parameter in parameters):
            from sensorseq.estimator import SensorLSTMClassifier

            settings = SensorLSTMClassifier().get_params()
        return in_options(text, parameters, settings, arguments)

    return words


def _show_warning(
    words: Callable[[str], str], message: Any, category: Any, *where: Any, **more: Any
) -> None:
    # Deprecation warnings of libraries are for developers; ours are for everyone.
    if not issubclass(category, DeprecationWarning | FutureWarning):
        _warn(f"warning: {words(str(message))}")


def _say(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        is_utf = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
        shown = json.dumps(plain(result), allow_nan=False, ensure_ascii=not is_utf, indent=1)
        print("\n".join(map(_visible_json, shown.split("\n"))))
    else:
        print(printable(text, "\n"))


def _tell(text: str, as_json: bool) -> None:
    """Print a part of the result at once, unless all of it comes as JSON at the end."""
    if not as_json:
        print(printable(text, "\n"), flush=True)


@contextmanager
def _progress(what: str, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar on a terminal; elsewhere nothing, so that logs stay short."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, stage="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)

        def advance(done: int, total: int, stage: str = "") -> None:
            words = f"{what}: {stage}" if stage else what
            bar.update(task, completed=done, total=total or None, description=words)

        yield advance


def _read_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Read ``name=value`` with values as in TOML; a bare word is text, none is None."""
    from sensorseq.estimator import SensorLSTMClassifier

    known = SensorLSTMClassifier().get_params()
    read: dict[str, Any] = {}
    for setting in settings or ():
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals or not text:
            raise ArgumentError(f"--set {setting}: give NAME=VALUE, such as dropout=0.3.")
        if name not in known:
            hint = did_you_mean(name, known, "{}")
            raise ArgumentError(
                f"--set {setting}: SensorLSTMClassifier has no argument {name}.{hint}"
            )
        try:
            read[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            read[name] = None if text.lower() == "none" else text
    return read


def _read_units(given: Sequence[str] | None) -> dict[str, str]:
    """Read ``channel=unit``."""
    units = {}
    for text in split_names(given) or ():
        name, equals, unit = (part.strip() for part in text.partition("="))
        if not (name and equals and unit):
            raise ArgumentError(f"--units {text}: give NAME=UNIT, such as current=mA.")
        units[name] = unit
    return units


def _read_columns(given: Sequence[str] | None) -> dict[str, str | None]:
    """Read ``role=name``; the name none is None."""
    columns: dict[str, str | None] = {}
    for text in given or ():
        role, equals, name = (part.strip() for part in text.partition("="))
        if not equals or not name or role in columns:
            raise ArgumentError(f"--column {text}: give ROLE=NAME once, such as loss=Loss/fit.")
        columns[role] = None if name.lower() == "none" else name
    return columns


def _is_model(path: Path) -> bool:
    """Return whether a file is, or claims to be, one in safetensors: a length, then JSON."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(10)
    return path.suffix == ".safetensors" or (head[7:8] == b"\0" and head[8:] == b'{"')


def _with_scale(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return arguments with the kind of scaling that a prepared file was made for."""
    from sensorseq.io.prepared import PreparedFile

    if "scale" in given:
        return dict(given)
    with PreparedFile(path) as file:
        scale = PreparationOptions.recorded(file.columns.provenance).scale
    return {**given, **({} if scale is None else {"scale": scale})}


def _model_card(path: Path, windows: Path | None) -> str:
    """Return the model card, measured on the test part of a prepared file if one is given."""
    from sensorseq.evaluation.card import model_card
    from sensorseq.evaluation.evaluate import evaluate_test
    from sensorseq.io.prepared import PreparedFile, read_windows

    model = _load(path)
    if windows is None:
        return model_card(model, path)
    with _naming(windows):
        comparison = evaluate_test(model, read_windows(windows))
    with PreparedFile(windows) as prepared:
        return model_card(model, path, comparison, prepared.columns.counts())


def _refuse_options(to: Format, **given: Any) -> None:
    """Raise for options of the other format, which would be ignored."""
    for name, value in given.items():
        if value is not None and value is not False:  # 0 is a value
            raise ArgumentError(f"--{name.replace('_', '-')} does not apply to --format {to}.")


def _load(path: Path, *, strict: bool = False) -> "SensorLSTMClassifier":
    from sensorseq.estimator import SensorLSTMClassifier
    from sensorseq.estimator.reading import NO_RANGES
    from sensorseq.evaluation.inspect import refuse_prepared

    refuse_prepared(path, "give a model here. The order is MODEL first, then the rest.")
    model = SensorLSTMClassifier.load(path, device="auto")  # trained on a GPU, used anywhere
    if strict and model._ranges is None:
        raise InputError(f"{path}: {NO_RANGES}")
    return model


def _tell_outside(found: "OutsideWindows | None", *, strict: bool) -> None:
    """Say which windows lie outside what a model was trained on; with --strict, refuse them."""
    if found is not None and found.n_outside:
        if strict:
            raise InputError(f"{found} Leave out --strict to use them all the same.")
        _warn(f"warning: {found}")


def _write_page(
    path: Path,
    model: "SensorLSTMClassifier",
    windows: Path,
    part: str | None,
    with_baselines: bool,
    **more: Any,
) -> None:
    from sensorseq.evaluation.page import PagePart, compare_on_validation, make_page
    from sensorseq.io.prepared import read_windows

    shown = None
    if part is not None:
        read = read_windows(windows)
        shown = PagePart.of(model, read, part)
        if with_baselines and shown is not None:
            try:
                more["comparison"] = compare_on_validation(model, shown, read)
            except KeyboardInterrupt:
                _warn("The comparison with baselines was stopped; the page is without it.")
    write_whole(path, make_page(model, shown, **more).encode())


def _describe_fit(model: "SensorLSTMClassifier") -> list[str]:
    """Say what the linear layer uses, and what was trained on."""
    said, choice = [], model.features_
    if choice.candidates:
        alone, together = choice.candidates[0], choice.candidates[-1]
        said.append(
            f"Features: {' and '.join(choice.names) or 'none'}. Accuracy on {choice.n_windows}"
            f" windows left out: {100 * together.accuracy:.1f} %, LSTM alone"
            f" {100 * alone.accuracy:.1f} %. The report above is about the LSTM alone."
        )
    elif model.features is not None:
        said.append(f"Features: none, because {choice.reason}.")
    if model.refitted_ and len(model.modules_) > model.n_models:
        said.append(
            f"The model keeps the networks of {len(model.modules_)} folds, which together have"
            " learned from all windows but those for test."
        )
    elif model.refitted_ and not model._used_modules:
        said.append(
            "The LSTM adds too little to the features here, so they decide alone. They have"
            " learned from all windows but those for test."
        )
    elif model.refitted_:
        said.append("After that, the network was trained again on all windows but those for test.")
    return [*textwrap.wrap(" ".join(said), 80), ""] if said else []


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Add the file's name to an error about its windows."""
    try:
        yield
    except SensorseqError as error:
        if printable(str(path)) not in str(error) and not isinstance(error, ArgumentError):
            error.add_note(f"windows from {path}")
        raise


def _check_output(path: Path | None, *others: Path) -> str:
    """Check before an hour of training that the result can be written, and lock it.

    Returns what to add to the message about it if a file is there.
    """
    if path is None:
        return ""
    for other in others:
        if path == other or (path.exists() and other.exists() and path.samefile(other)):
            raise ArgumentError(
                f"{path} is already used by this command and would be overwritten; give another"
                " output."
            )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name.")
    _check_parent(path)
    is_there = path.exists()
    with writing(path):
        _outputs.enter_context(locking(path, run=True))
    return ", in place of the earlier one" if is_there else ""


def _check_parent(path: Path) -> None:
    """Raise if the folder that an output is to be written into is missing."""
    if not (parent := real_file(path).absolute().parent).is_dir():
        if parent.exists():
            raise InputError(f"{path}: {parent} is a file, not a folder.")
        raise InputError(f"{path}: the folder {parent} is missing; create it.")


if __name__ == "__main__":
    main()
