"""Models, prepared windows and settings, as commands name them."""

import shlex
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensorseq.cli.output import warn
from sensorseq.errors import ArgumentError, InputError, SensorseqError, did_you_mean, printable
from sensorseq.io.atomic import write_whole
from sensorseq.preprocessing.options import PreparationOptions

if TYPE_CHECKING:
    from sensorseq.estimator import SensorLSTMClassifier
    from sensorseq.prediction.outside import OutsideWindows


def load_model(path: Path, *, strict: bool = False) -> "SensorLSTMClassifier":
    """Load a model; if `strict`, one that knows what it was trained on."""
    from sensorseq.estimator import SensorLSTMClassifier
    from sensorseq.evaluation.inspect import refuse_prepared
    from sensorseq.prediction.predictor import NO_RANGES

    refuse_prepared(path, "give a model here. The order is MODEL first, then the rest.")
    model = SensorLSTMClassifier.load(path, device="auto")  # trained on a GPU, used anywhere
    if strict and model._ranges is None:
        raise InputError(f"{path}: {NO_RANGES}")
    return model


def with_scale(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return arguments with the kind of scaling that a prepared file was made for."""
    from sensorseq.io.prepared import PreparedFile

    if "scale" in given:
        return dict(given)
    with PreparedFile(path) as file:
        scale = PreparationOptions.recorded(file.columns.provenance).scale
    return {**given, **({} if scale is None else {"scale": scale})}


def read_settings(settings: Sequence[str] | None) -> dict[str, Any]:
    """Read ``name=value`` with values as in TOML; a bare word is text, none is None."""
    from sensorseq.estimator import SensorLSTMClassifier

    known = SensorLSTMClassifier().get_params()
    read: dict[str, Any] = {}
    for setting in settings or ():
        name, text = read_pair("--set", setting, "NAME=VALUE, such as dropout=0.3")
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


def read_pair(option: str, text: str, form: str) -> tuple[str, str]:
    """Read ``name=value``."""
    name, _, value = (part.strip() for part in text.partition("="))
    if not (name and value):
        raise ArgumentError(f"{option} {text}: give {form}.")
    return name, value


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add the file's name to an error about its windows."""
    try:
        yield
    except SensorseqError as error:
        if printable(str(path)) not in str(error) and not isinstance(error, ArgumentError):
            error.add_note(f"windows from {path}")
        raise


def tell_outside(found: "OutsideWindows | None", *, strict: bool) -> None:
    """Report windows unlike those a model was trained on; with --strict, refuse them."""
    if found is not None and found.n_outside:
        if strict:
            raise InputError(f"{found} Leave out --strict to use them all the same.")
        warn(f"warning: {found}")


def write_page(
    path: Path,
    model: "SensorLSTMClassifier",
    windows: Path,
    part: str | None,
    with_baselines: bool,
    **more: Any,
) -> None:
    """Write the page about a model and a part of these windows, if one is given."""
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
                warn("The comparison with baselines was stopped; the page is without it.")
    write_whole(path, make_page(model, shown, **more).encode())


def page_command(path: Path) -> str:
    """Return the command that writes the page about a run."""
    return f"sensorseq diagnose {shlex.quote(str(path))} --html report.html"
