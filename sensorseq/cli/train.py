"""The commands that train, adapt and evaluate models."""

import shlex
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import command
from sensorseq.cli.models import (
    changed_settings,
    load_model,
    naming,
    page_command,
    read_motors,
    read_settings,
    rerun_command,
    with_scale,
    write_page,
)
from sensorseq.cli.output import check_output, print_part, print_result, progress, warn
from sensorseq.errors import ArgumentError


@command(
    "sensorseq train terrain.h5 -o terrain.safetensors --report fit.html",
    "sensorseq train terrain.h5 -o t.safetensors --set dropout=0.5",
)
def train(
    windows: opt.Prepared,
    output: opt.NewModel,
    hidden_size: Annotated[int | None, Option(help="LSTM units.")] = None,
    learning_rate: Annotated[float | None, Option(help="Peak learning rate.")] = None,
    batch_size: Annotated[int | None, Option(help="Windows per step.")] = None,
    max_epochs: Annotated[int | None, Option(help="Maximum number of epochs.")] = None,
    patience: Annotated[
        int | None, Option(help="Stop after this many epochs without improvement.")
    ] = None,
    motors: Annotated[
        str | None,
        Option(
            metavar="CURRENT:SPEED,...",
            help="Channels of motors, such as curL:velL,curR:velR; see docs/motors.md.",
        ),
    ] = None,
    random_state: opt.Seed = 0,
    settings: opt.Settings = None,
    compare: Annotated[
        bool,
        Option("--compare/--no-compare", help="In the report, compare with simple baselines."),
    ] = True,
    report: opt.Report = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_verify: opt.NoVerify = False,
) -> None:
    """Train a classifier on prepared windows.

    Before training, the command names recordings that stand out from the others of their class. The
    loss curves and the report use the validation part; afterwards, the model is also trained on
    that part. The test part is not read.
    """
    was_there = check_output(output, windows)
    check_output(report, windows, output)
    from sensorseq.estimator import SensorFusionClassifier, SensorLSTMClassifier
    from sensorseq.io.prepared import sensors_in

    sensors = sensors_in(windows)
    if report is not None and sensors:
        raise ArgumentError(
            "--report is for one sensor; train without it, and write a page for each sensor with"
            " `sensorseq diagnose MODEL --sensor NAME --html PAGE`."
        )
    short = {
        "hidden_size": hidden_size,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "max_epochs": max_epochs,
        "patience": patience,
        "early_stopping": None if patience is None else True,
        "motors": None if motors is None else read_motors(motors),
    }
    typed: dict[str, Any] = {name: value for name, value in short.items() if value is not None}
    typed |= read_settings(settings)
    arguments: dict[str, Any] = {"random_state": random_state, "verbose": 0 if quiet else 1}
    arguments |= with_scale(typed, windows)
    from sensorseq.evaluation.text import describe_fit, describe_sensors

    for sensor in sensors or (None,):
        _name_odd_recordings(windows, sensor, quiet)
    model = SensorLSTMClassifier(**arguments)
    if sensors:
        fused = SensorFusionClassifier(model).fit(windows)
        for classifier in fused.sensors_.values():
            classifier.set_params(verbose=0)
        model.set_params(verbose=0)
        fused.save(output)
        print_part(f"model written to {output}{was_there}", as_json)
        print_part("\n".join(["", *describe_sensors(fused)]), as_json)
        result = {"model": str(output), "classes": fused.classes_.tolist()}
        result["features"] = fused.features_.to_dict()
        result["sensors"] = {
            name: classifier.fluctuation_.to_dict() for name, classifier in fused.sensors_.items()
        }
        if as_json:
            print_result(result, "", as_json)
        return
    model.fit(windows).set_params(verbose=0)
    model.save(output)
    print_part(f"model written to {output}{was_there}", as_json)
    from sensorseq.diagnosis.report_text import write_report

    more = f" --seed {random_state}" if random_state else ""
    more += "" if compare else " --no-compare"
    more += "" if report is None else f" --report {shlex.quote(str(report))}"
    rerun = rerun_command(typed, shlex.quote(str(windows)), shlex.quote(str(output)), more)
    verdict = model.fluctuation_
    page = str(report) if report is not None else page_command(output)
    print_part(
        "\n".join(["", write_report(verdict, rerun, page), "", *describe_fit(model)]),
        as_json,
    )
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
            print_part(
                "comparing with baselines for the report; Ctrl-C skips the comparison", as_json
            )
        write_page(report, model, windows, "validation", compare, title=output.name, command=rerun)
        print_part(f"report written to {report}", as_json)
    if as_json:
        print_result(result, "", as_json)


def _name_odd_recordings(windows: Path, sensor: str | None, quiet: bool) -> None:
    """Print the recordings that stand out, with the command that shows them."""
    from sensorseq.base.layout import wrapped
    from sensorseq.inspection.joined_windows import rank_joined
    from sensorseq.inspection.recordings import stands_out

    with progress("comparing recordings", quiet=quiet) as advance:
        ranked = rank_joined(windows, sensor, advance)
    for finding in stands_out(ranked):
        more = "" if sensor is None else f" --sensor {shlex.quote(sensor)}"
        warn(
            wrapped(
                f"{finding} --exclude is an option of `sensorseq prepare`. To see all recordings:"
            )
        )
        warn(f"  sensorseq inspect {shlex.quote(str(windows))}{more} --html look.html")


@command("sensorseq adapt terrain.safetensors --windows new.h5 -o new.safetensors")
def adapt(
    model_file: opt.ModelFile,
    windows: Annotated[
        Path, Option(metavar="H5", help="Prepared file with a few labeled windows of the robot.")
    ],
    output: opt.NewModel,
    as_json: opt.Json = False,
) -> None:
    """Adapt a model to another robot with a few labeled windows of that robot.

    Prepare the robot's recordings like the training recordings. The command moves the scaling
    toward that of the new windows if this clearly lowers the log-loss. The old training windows are
    not needed, and a test part is not read.
    """
    from sensorseq.estimator import classifiers_of

    was_there = check_output(output, model_file, windows)
    with naming(windows):
        adapted = load_model(model_file).adapt(windows)
    adapted.save(output)
    adaptations = {
        name: classifier.adaptation_ for name, classifier in classifiers_of(adapted).items()
    }
    if adapted.model_.names_sensors:
        text = "\n".join([f"{output}{was_there}:", *(f"{k}: {v}" for k, v in adaptations.items())])
        of_sensors = {name: vars(adaptation) for name, adaptation in adaptations.items()}
        print_result({"model": str(output), "sensors": of_sensors}, text, as_json)
        return
    (adaptation,) = adaptations.values()
    result = {"model": str(output), **vars(adaptation)}
    print_result(result, f"{output}{was_there}: {adaptation}", as_json)


@command(
    "sensorseq evaluate terrain.safetensors terrain.h5",
    "sensorseq evaluate terrain.safetensors terrain.h5 --folds 5 --json",
)
def evaluate(
    model_file: opt.ModelFile,
    windows: opt.Prepared,
    folds: Annotated[
        int | None, Option(min=2, help="Cross-validate: retrain on folds of whole groups.")
    ] = None,
    baselines: Annotated[
        bool, Option("--baselines/--no-baselines", help="Compare with simple baseline models.")
    ] = True,
    include_seen: Annotated[
        bool, Option("--include-seen", help="Also score recordings that were seen in training.")
    ] = False,
    seed: Annotated[int, Option(min=0, help="Seed of folds and intervals.")] = 0,
    smooth: opt.Smooth = "marginals",
    lag: opt.Lag = None,
    mean_dwell_s: opt.MeanDwell = None,
    strict: opt.Strict = False,
    report: opt.Report = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    no_verify: opt.NoVerify = False,
) -> None:
    """Evaluate a model on test recordings that it has never seen.

    Intervals are 95 % confidence intervals, computed by resampling whole groups of recordings. With
    --folds, a model with the same arguments is trained for each fold, on the groups outside that
    fold.

    Recordings with several classes are also scored over time: the result of --smooth is compared
    with the results of single windows and of a majority vote.
    """
    from sensorseq.evaluation.baselines import BASELINES
    from sensorseq.evaluation.comparison_text import format_comparison
    from sensorseq.evaluation.evaluate import evaluate_folds, evaluate_test
    from sensorseq.io.prepared import read_one_or_several, sensors_in
    from sensorseq.prediction.outside import report_outside
    from sensorseq.sequence.smoothing import Smoothing, as_smoothing

    was_there = check_output(report, windows, model_file)
    if report is not None and sensors_in(windows):
        raise ArgumentError("--report is for one sensor; evaluate without it.")
    model = load_model(model_file, strict=strict)
    arguments: dict[str, Any] = {"baselines": BASELINES if baselines else (), "seed": seed}
    # the majority vote always uses the lag
    smoothing = as_smoothing(Smoothing(smooth, None, mean_dwell_s))
    arguments["smoothing"] = smoothing._replace(lag=lag)
    with naming(windows), progress("evaluating", quiet=quiet) as advance:
        arguments["progress"] = partial(advance, 0, 0)
        read = read_one_or_several(windows)
        if folds is None:
            comparison = evaluate_test(model, read, include_seen=include_seen, **arguments)
        else:
            comparison = evaluate_folds(model, read, folds, **arguments)
        report_outside(comparison.outside, warn, strict=strict)
    if report is not None:
        write_page(
            report,
            model,
            windows,
            "test" if folds is None else None,
            False,
            title=f"{model_file.name} on {windows.name}",
            comparison=comparison,
            command=rerun_command(changed_settings(model)),
            scores_first=True,
        )
    result = {"model": str(model_file), "windows": str(windows), **comparison.to_dict()}
    print_result(result, format_comparison(comparison), as_json)
    if report is not None:
        print_part(f"report written to {report}{was_there}", as_json)
