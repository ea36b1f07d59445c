"""Load models and prepared windows, and parse settings, for the commands."""

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorseq.cli.output import warn
from sensorseq.errors import (
    ArgumentError,
    InputError,
    ModelFileError,
    SensorseqError,
    did_you_mean,
    printable,
)
from sensorseq.io.atomic import write_whole
from sensorseq.preprocessing.options import PreparationOptions

if TYPE_CHECKING:
    from sensorseq.diagnosis.report_text import Command
    from sensorseq.estimator import AnyClassifier, SensorLSTMClassifier
    from sensorseq.prediction.model import TrainedModel


def load_model(path: Path, *, strict: bool = False) -> "AnyClassifier":
    """Load a classifier; with `strict`, the model must store the range of its training data."""
    from sensorseq.estimator import load_estimator
    from sensorseq.io.prepared import refuse_prepared
    from sensorseq.prediction.outside import NO_RANGES

    refuse_prepared(path, "give a model here. MODEL comes first, before all other arguments.")
    # The model may have been trained on a GPU that this machine lacks.
    model = load_estimator(path, device="auto")
    if strict and not model.model_.has_ranges:
        raise InputError(f"{path}: {NO_RANGES}")
    return model


def load_to_predict(path: Path, *, strict: bool = False) -> "TrainedModel":
    """Load a model like `load_model`, but without importing torch and scikit-learn."""
    from sensorseq.prediction.loading import load_classifier

    try:
        return load_classifier(path, strict=strict)
    except ModelFileError:
        from sensorseq.io.prepared import refuse_prepared

        refuse_prepared(path, "give a model here. MODEL comes first, before all other arguments.")
        raise


def with_scale(arguments: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Add the prepared file's kind of scaling to the arguments, unless they already have one."""
    from sensorseq.io.prepared import PreparedFile, sensors_in
    from sensorseq.preprocessing.scale import KINDS, PHYSICAL

    if "scale" in arguments:
        return dict(arguments)
    sensor = next(iter(sensors_in(path)), None)
    with PreparedFile(path, sensor=sensor) as file:
        scale = PreparationOptions.recorded(file.stored.provenance).scale
    return {**arguments, **({"scale": scale} if scale in (*KINDS, PHYSICAL) else {})}


def read_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Parse ``name=value`` pairs of TOML values; a bare word is a string, and ``none`` is None."""
    from sensorseq.estimator import SensorLSTMClassifier

    parameters = SensorLSTMClassifier().get_params()
    read: dict[str, Any] = {}
    for setting in settings or ():
        name, text = read_pair("--set", setting, "NAME=VALUE, such as dropout=0.3")
        if name not in parameters:
            hint = did_you_mean(name, parameters, "{}")
            raise ArgumentError(
                f"--set {setting}: SensorLSTMClassifier has no argument {name}.{hint}"
            )
        try:
            read[name] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            read[name] = None if text.lower() == "none" else text
    return read


def read_motors(text: str) -> list[tuple[str, str]]:
    """Parse the currents and speeds of motors, ``curL:velL,curR:velR``."""
    pairs = [tuple(name.strip() for name in part.split(":")) for part in text.split(",")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ArgumentError(
            f"--motors {text}: give CURRENT:SPEED for each motor, such as curL:velL,curR:velR. If a"
            ' name contains a colon or comma, use --set \'motors=[["CURRENT", "SPEED"]]\'.'
        )
    return [(current, speed) for current, speed in pairs]


def read_pair(option: str, text: str, form: str) -> tuple[str, str]:
    """Split ``name=value``."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not (name and value):
        raise ArgumentError(f"{option} {text}: give {form}.")
    return name, value


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to errors about the windows in that file."""
    try:
        yield
    except SensorseqError as error:
        if printable(str(path)) not in str(error) and not isinstance(error, ArgumentError):
            error.add_note(f"windows from {path}")
        raise


def write_page(
    path: Path,
    model: "SensorLSTMClassifier",
    windows: Path,
    part: str | None,
    with_baselines: bool,
    **more: Any,
) -> None:
    """Write the page about a model and, if `part` is given, about this part of the windows."""
    from sensorseq.evaluation.fit_page import PagePart, compare_on_validation, make_page
    from sensorseq.io.prepared import read_windows

    shown = None
    if part is not None:
        read = read_windows(windows)
        shown = PagePart.of(model, read, part)
        if with_baselines and shown is not None:
            try:
                more["comparison"] = compare_on_validation(model, shown, read)
            except KeyboardInterrupt:
                warn("The comparison with baselines was stopped, so the page does not contain it.")
    write_whole(path, make_page(model, shown, **more).encode())


def changed_settings(model: "AnyClassifier") -> dict[str, Any]:
    """Return the settings of a model that differ from the defaults and change its fit."""
    usual = type(model)().get_params()
    left = {"checkpoint", "device", "verbose"}
    return {k: v for k, v in model.get_params().items() if k not in left and v != usual[k]}


def rerun_command(
    settings: Mapping[str, Any], windows: str = "H5", model: str = "MODEL", more: str = ""
) -> "Command":
    """Return a function from changed arguments to the command of a fit with these changes.

    H5 and MODEL stand for paths that are not known. The fit with the default settings (None) writes
    another model; it only keeps the names of the motors.
    """
    from sensorseq.diagnosis.report_text import settings_as_options

    def command(changes: Mapping[str, Any] | None) -> str:
        if changes is None:
            motors = {name: settings[name] for name in ("motors",) if name in settings}
            return f"sensorseq train {windows} -o defaults.safetensors{settings_as_options(motors)}"
        options = settings_as_options({**settings, **changes})
        return f"sensorseq train {windows} -o {model}{options}{more}"

    return command


def page_command(path: Path) -> str:
    """Return the command line that writes the report of a run."""
    return f"sensorseq diagnose {shlex.quote(str(path))} --html report.html"
