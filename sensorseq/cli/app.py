"""The typer application, its exit codes, and the registration of commands."""

import importlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Annotated, Any

import typer
from typer import Option
from typer.core import TyperGroup

CODES = {
    0: "success",
    1: "a check of `doctor` failed",
    2: "wrong arguments",
    3: "bad input, or an unusable output path",
    4: "an output cannot be written, or the environment lacks a resource",
    10: "a check that an option asked for found a problem",
    130: "interrupted by Ctrl-C",
}
"""The exit codes and their meanings, in the order of the help."""
OK, FAILED, USAGE, BAD_INPUT, ENVIRONMENT, GATE, INTERRUPTED = CODES
closing = ExitStack()
"""Cleanup when the command ends, such as unlocking its outputs and turning on checksums again."""

GROUPS = {
    "Start": ("run", "fetch", "doctor"),
    "Prepare and train": ("inspect", "prepare", "train", "adapt"),
    "Judge": ("evaluate", "diagnose", "info"),
    "Deploy": ("predict", "stream", "export"),
}
"""The commands by what one wants, in the order of the help."""


class _Commands(TyperGroup):
    """The list of commands, with a heading for each group and whole first sentences."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:  # typer would end without a message
            raise typer.Abort from stopped

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for heading, names in GROUPS.items():
            with formatter.section(heading):
                rows = [(name, self.commands[name].get_short_help_str(200)) for name in names]
                formatter.write_dl([(f"{name:8}", sentence) for name, sentence in rows])
        with formatter.section("Exit codes"):
            formatter.write_dl([(f"{code:<8}", meaning) for code, meaning in CODES.items()])


# Plain text, because rich is slow and formats the help differently when the output is a file.
app = typer.Typer(
    name="sensorseq",
    cls=_Commands,
    help="Classify robot sensor sequences: `sensorseq run logs -o first` makes a first model.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)


@app.callback()
def _sensorseq(
    version: Annotated[
        bool, Option("--version", "-V", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if version:
        print(f"sensorseq {importlib.import_module('sensorseq').__version__}")
        raise typer.Exit


def is_given(context: typer.Context, name: str) -> bool:
    """Return whether the user gave this parameter on the command line."""
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def command(*example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command whose help ends with an example."""
    # \b makes click keep the line breaks.
    return app.command(epilog="\n".join(("\b", "Example:", *(f"  {line}" for line in example))))
