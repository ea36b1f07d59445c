"""Options and arguments shared by several commands."""

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from sensorseq.cli.app import closing
from sensorseq.options import Option as PreparationOption
from sensorseq.preprocessing.options import OPTIONS


def _skip_checksums(given: bool) -> None:
    if given:
        from sensorseq.io.checksums import unverified

        closing.enter_context(unverified())


Json = Annotated[bool, Option("--json", help="Print one JSON object to stdout.")]
Quiet = Annotated[bool, Option("--quiet", "-q", help="Show no progress on stderr.")]
NoVerify = Annotated[
    bool,
    Option(
        "--no-verify",
        callback=_skip_checksums,
        help="Skip the checksums of prepared files: damage may cause a crash or wrong results.",
    ),
]
Smooth = Annotated[
    str,
    Option(metavar="HOW", help="Smooth over time: marginals, lag, filter or none."),
]
StreamSmooth = Annotated[str, Option(metavar="HOW", help="Smooth over time: none, filter or lag.")]
Lag = Annotated[int | None, Option(min=0, help="Delay for --smooth lag, in windows [default: 3].")]
MeanDwell = Annotated[
    float | None,
    Option(metavar="S", help="How long a class lasts on average [default: as in training, or 60]."),
]
Strict = Annotated[
    bool, Option("--strict", help="Refuse windows outside the range of the training data.")
]
ModelFile = Annotated[Path, Argument(metavar="MODEL", help="Model file written by train.")]
NewModel = Annotated[Path, Option("--output", "-o", metavar="MODEL", help="File to write.")]
Prepared = Annotated[Path, Argument(metavar="H5", help="File written by prepare.")]
Settings = Annotated[
    list[str] | None,
    Option(
        "--set",
        metavar="NAME=VALUE",
        help="Any argument of SensorLSTMClassifier, with a value as in TOML; repeatable.",
    ),
]
Seed = Annotated[
    int, Option("--seed", min=0, max=2**32 - 1, help="The same seed gives the same result.")
]
Report = Annotated[
    Path | None, Option(metavar="HTML", help="Also write an HTML report, readable offline.")
]


def takes_preparation_options(
    names: Iterable[str], *, after: str
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take options of preparation; its help lists them behind the parameter `after`.

    The command receives the values as further keyword arguments.
    """
    options = [OPTIONS[name] for name in names if OPTIONS[name].help]
    added = [_parameter(option) for option in options]

    def with_options(function: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(function)
        def called(**values: Any) -> None:
            for option in options:
                if option.read is not None:
                    values[option.name] = option.read(values[option.name])
            function(**values)

        *own, _ = inspect.signature(function).parameters.values()  # without the last, `**given`
        at = [parameter.name for parameter in own].index(after) + 1
        own[at:at] = added
        called.__signature__ = inspect.Signature(own)  # type: ignore[attr-defined]  # for typer
        return called

    return with_options


def _parameter(option: PreparationOption) -> inspect.Parameter:
    flag = f"{option.flag}/{option.off}" if option.off else option.flag
    return inspect.Parameter(
        option.name,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=Option(None, flag, metavar=option.metavar, help=option.help),
        annotation=(option.typed or option.toml) | None,
    )
