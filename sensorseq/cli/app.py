"""The typer application, its exit codes, and options shared by several commands."""

import importlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any

import typer
from typer import Option

from sensorseq.options import Option as CommandOption

OK, USAGE, BAD_INPUT, ENVIRONMENT, GATE = 0, 2, 3, 4, 10
closing = ExitStack()
"""Released when the command ends: locks of its outputs, reading without verification."""

# Plain help: rich would delay it, and would format it differently in a file.
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


@app.callback()
def _sensorseq(
    version: Annotated[
        bool, Option("--version", is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    if version:
        print(f"sensorseq {importlib.import_module('sensorseq').__version__}")
        raise typer.Exit


def with_options(
    options: Iterable[CommandOption],
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace the ``**options`` of a command with those of `options` that have a help text.

    The command receives the ones the user gave, converted to Python arguments.
    """
    shown = [option for option in options if option.help]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run_command(**given: Any) -> None:
            for option in shown:
                value = given.pop(option.name)
                if value is not None:  # 0 is a value, too
                    given[option.name] = value if option.read is None else option.read(value)
            command(**given)

        own = [p for p in signature(command).parameters.values() if p.kind is not p.VAR_KEYWORD]
        first = next(i for i, p in enumerate(own) if p.default is not p.empty)
        for at, option in enumerate(shown, first):
            flag = f"{option.flag}/{option.off}" if option.off else option.flag
            typed = Option(flag, metavar=option.metavar, help=option.help)
            kind: Any = Annotated[option.command_type, typed]
            own.insert(at, Parameter(option.name, own[0].kind, default=None, annotation=kind))
        run_command.__signature__ = Signature(own)  # type: ignore[attr-defined]
        return run_command

    return decorate


def command(*example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a command whose help ends with an example."""
    # \b tells click not to rejoin the lines.
    return app.command(epilog="\n".join(("\b", "Example:", *(f"  {line}" for line in example))))
