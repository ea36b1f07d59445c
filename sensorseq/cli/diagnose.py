"""The command diagnose."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import GATE, command
from sensorseq.cli.models import (
    changed_settings,
    load_model,
    page_command,
    read_pair,
    rerun_command,
)
from sensorseq.cli.output import check_output, print_result, warn
from sensorseq.errors import ArgumentError, check_choice, did_you_mean
from sensorseq.io.atomic import write_whole

if TYPE_CHECKING:
    from sensorseq.estimator import AnyClassifier, SensorLSTMClassifier


@command(
    "sensorseq diagnose lightning_logs/version_0/metrics.csv --n-val 42",
    "sensorseq diagnose runs/today --column loss=Loss/fit --html fit.html",
    "sensorseq diagnose terrain.safetensors --fail-on strong",
)
def diagnose(
    path: Annotated[
        Path,
        Argument(
            metavar="PATH", help="Log (CSV, JSON or TensorBoard events), folder of a run, or model."
        ),
    ],
    n_val: Annotated[int | None, Option(help="Number of independent validation windows.")] = None,
    n_train: Annotated[int | None, Option(help="Number of training windows.")] = None,
    n_classes: Annotated[int | None, Option(help="Number of classes.")] = None,
    best_epoch: Annotated[
        int | None, Option(help="Epoch whose weights were kept, counted from 1.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        Option(
            "--column",
            metavar="ROLE=NAME",
            help="Column for a role, such as loss; ROLE=none ignores the role; repeatable.",
        ),
    ] = None,
    sensor: Annotated[
        str | None, Option(metavar="NAME", help="The sensor, if the model has several.")
    ] = None,
    html: Annotated[Path | None, Option(metavar="HTML", help="Also write an HTML report.")] = None,
    fail_on: Annotated[
        str | None,
        Option(metavar="mild|strong", help="Exit with code 10 at this severity or worse."),
    ] = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
) -> None:
    """Judge whether a training run fluctuates more than it should.

    The command reads the losses that Keras, Lightning, skorch, transformers or TensorBoard wrote,
    or the run stored in a sensorseq model. Losses are cross-entropy in nats, and accuracies are
    fractions.

    For --fail-on, diverged and not_learning count as strong; too_short_to_tell never fails.
    """
    if fail_on is not None:
        check_choice("--fail-on", fail_on, ("mild", "strong"))
    check_output(html, path)
    counts: dict[str, Any] = {"n_val": n_val, "n_train": n_train}
    counts |= {"n_classes": n_classes, "best_epoch": best_epoch}
    from sensorseq.io.model_file import is_model

    if is_model(path):
        for name, value in {**counts, "column": columns}.items():
            if value is not None:
                option = "--" + name.replace("_", "-")
                raise ArgumentError(
                    f"{option} is for logs, but {path} is a model; remove {option}."
                )
        model = _model_of_sensor(load_model(path), sensor)
        report, rerun = model.fluctuation_, rerun_command(changed_settings(model))
    elif sensor is not None:
        raise ArgumentError(f"--sensor is for models, but {path} is a log; remove --sensor.")
    else:
        from sensorseq.diagnosis.report import FluctuationReport

        report = FluctuationReport.from_history(path, **counts, columns=_read_columns(columns))
        rerun = rerun_command({})
        if not quiet:
            pairs = ", ".join(f"{role} <- {column}" for role, column in report.columns_read.items())
            warn(textwrap.fill(f"read: {pairs}", 80, subsequent_indent="  "))
    from sensorseq.diagnosis.report_text import write_report

    if html is not None:
        from sensorseq.diagnosis.report_page import make_page

        write_whole(html, make_page(report, rerun).encode())
    page = page_command(path) if html is None else str(html)
    print_result(report.to_dict(), write_report(report, rerun, page), as_json)
    if fail_on is None:
        return
    if report.model is not None and report.model.lstm_share == 0:
        warn("the LSTM has no weight in this model, so --fail-on does not apply to its curve.")
        return
    if report.verdict == "too_short_to_tell":
        warn("the run is too short to tell, so --fail-on does not apply.")
    grave = report.verdict in ("diverged", "not_learning") or report.severity == "strong"
    if grave or (fail_on == "mild" and report.severity == "mild"):
        raise typer.Exit(GATE)


def _model_of_sensor(model: "AnyClassifier", sensor: str | None) -> "SensorLSTMClassifier":
    """Return the model itself, or the model of one of its sensors."""
    from sensorseq.estimator import classifiers_of

    models = classifiers_of(model)
    if not model.model_.names_sensors:
        if sensor is None:
            return next(iter(models.values()))
        models = {}
    elif sensor in models:
        return models[sensor]
    names = ", ".join(models) or "only one sensor"
    problem = "no --sensor is given" if sensor is None else f"--sensor {sensor} is not known"
    raise ArgumentError(
        f"{problem}; the model has {names}.{did_you_mean(sensor or '', models, '{}')}"
    )


def _read_columns(pairs: Sequence[str] | None) -> dict[str, str | None]:
    """Parse ``role=name``; the name "none" means None."""
    columns: dict[str, str | None] = {}
    for text in pairs or ():
        form = "ROLE=NAME once, such as loss=Loss/fit"
        role, name = read_pair("--column", text, form)
        if role in columns:
            raise ArgumentError(f"--column {text}: give {form}.")
        columns[role] = None if name.lower() == "none" else name
    return columns
