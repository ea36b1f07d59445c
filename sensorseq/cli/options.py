"""Options and arguments shared by several commands."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from sensorseq.cli.app import closing


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
    Option(metavar="HOW", help="Smooth over time: marginals, viterbi, lag, filter or none."),
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
