"""The command run."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import command
from sensorseq.cli.output import print_result, progress
from sensorseq.cli.words import in_options
from sensorseq.options import ReadOptions
from sensorseq.preprocessing.options import READING_OPTIONS


@command(
    "sensorseq run logs -o first",
    "sensorseq run logs --files 'pro_*.csv' --window-s 5 -o first",
)
@opt.takes_preparation_options(READING_OPTIONS, after="output")
def run(
    context: typer.Context,
    logs: Annotated[
        str, Argument(metavar="PATH", help="Folder with one folder per class, or a manifest.")
    ],
    output: Annotated[Path, Option("--output", "-o", metavar="FOLDER", help="Folder to write.")],
    window_s: Annotated[
        float | None, Option(metavar="S", help="Length of a window [default: chosen by folds].")
    ] = None,
    as_json: opt.Json = False,
    quiet: opt.Quiet = False,
    **given: Any,
) -> None:
    """Turn recordings into a first model, and write a page about it.

    The command inspects the recordings, chooses the length of windows, prepares, trains and
    evaluates. It writes windows.h5, model.safetensors, page.html and commands.txt, which lists the
    single steps. If a question is open, the command says so before it begins, with a command that
    gives the likely answer. Called again, it does only what changed.
    """
    from sensorseq.base.layout import wrapped
    from sensorseq.first_model import run as make_first_model
    from sensorseq.first_model.run_page import describe_worth

    with progress("run", quiet=quiet) as advance:
        made = make_first_model(
            logs,
            output,
            ReadOptions(**given),
            window_s=window_s,
            progress=lambda stage, done, total: advance(done, total, stage),
        )
    worth = describe_worth(made.comparison, made.model)
    result = {
        "folder": str(output),
        "window_s": made.length.window_s,
        "is_new": made.is_new,
        "decisions": list(made.decisions),
        "irregularities": list(made.irregularities),
        "evaluation": made.comparison.to_dict(),
        "on_the_robot": made.on_the_robot,
    }
    lines = [] if made.is_new else [f"{output} is up to date; nothing was trained."]
    lines += [*map(wrapped, made.irregularities), "", *map(wrapped, made.decisions), ""]
    lines += [*map(wrapped, worth), ""]
    lines += [f"to test on every recording: {made.on_every_recording}"]
    lines += [f"page: {output / 'page.html'}", f"on the robot: {made.on_the_robot}"]
    text = in_options("\n".join(lines), context.command.params, (), ())
    print_result(result, text, as_json)
