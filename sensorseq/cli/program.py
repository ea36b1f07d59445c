"""Run a command, print an error as one message, and set the exit code."""

import importlib
import io
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import typer

from sensorseq.cli.app import BAD_INPUT, ENVIRONMENT, INTERRUPTED, OK, USAGE, app, closing
from sensorseq.cli.output import drop_buffer, warn
from sensorseq.cli.words import in_options
from sensorseq.errors import (
    UNWRITABLE,
    ArgumentError,
    ConfigurationError,
    EnvironmentProblemError,
    MisplacedOutputError,
    OutputError,
    SensorseqError,
    printable,
    reason_of,
    ways_out,
    within_memory,
)

# The help lists the commands in this order.
for _name in ("first_model", "data", "train", "predict", "export", "diagnose", "doctor"):
    importlib.import_module(f"sensorseq.cli.{_name}")

# Depending on its version, typer uses click's exceptions or its own copy of them.
_UsageError: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)
_CODES: tuple[tuple[type[Exception], int], ...] = (  # the first matching type applies
    (ArgumentError, USAGE),
    (ConfigurationError, USAGE),
    (MisplacedOutputError, BAD_INPUT),
    (OutputError, ENVIRONMENT),
    (EnvironmentProblemError, ENVIRONMENT),
    (SensorseqError, BAD_INPUT),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command, and end the process with the command's exit code."""
    # Escape characters that the encoding of stdout lacks.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


@cache
def _all_commands() -> Any:
    """Return the click commands, which are created once per process."""
    return typer.main.get_command(app)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; an error becomes one message on stderr."""
    command = _all_commands()
    words = _words_of(command, arguments)
    with warnings.catch_warnings():
        warnings.showwarning = partial(_show_warning, words)
        try:
            with closing, within_memory("use less data, or a machine with more memory"):
                code = command.main(list(arguments), prog_name="sensorseq", standalone_mode=False)
                sys.stdout.flush()
        except _UsageError as error:
            # A message about the command line may have several lines.
            message = printable(getattr(error, "message", ""), "\n")
            error.message = message  # type: ignore[attr-defined]
            error.show()  # type: ignore[attr-defined]  # as click does, with the usage line
            return USAGE
        except (typer.Abort, KeyboardInterrupt) as error:
            notes = getattr(error.__cause__ or error, "__notes__", ())
            warn(" ".join(["interrupted.", *(f"({note})" for note in notes)]))
            return INTERRUPTED
        except SensorseqError as error:
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            return _fail(error, code, words)
        except BrokenPipeError:  # the reader closed stdout, as `| head` does
            drop_buffer(sys.stdout)
            return OK
        except OSError as error:
            return _fail_by_system(error, words)
    return code if isinstance(code, int) else OK


def _fail_by_system(error: OSError, words: Callable[[str], str]) -> int:
    message, code = f"{error.filename}: {reason_of(error)}.", BAD_INPUT
    if error.errno is not None and error.filename is None:  # such as a missing temporary folder
        message, code = f"{reason_of(error)}.", ENVIRONMENT
    if error.errno in UNWRITABLE:
        if error.filename is None:
            drop_buffer(sys.stdout)
        why, code = f"cannot be written ({reason_of(error)}). {ways_out(error)}.", ENVIRONMENT
        message = f"{error.filename or 'the output'} {why}"
    return _fail(error if error.errno is None else OSError(message), code, words)


def _fail(error: BaseException, code: int, words: Callable[[str], str]) -> int:
    notes = "".join(f" ({note})" for note in getattr(error, "__notes__", ()))
    warn(f"error: {words(f'{error}{notes}')}")
    return code


def _words_of(command: Any, arguments: Sequence[str]) -> Callable[[str], str]:
    """Return a function that replaces argument names in messages with the command's options."""
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
    # Deprecation warnings of libraries are for developers; other warnings are for every user.
    if not issubclass(category, DeprecationWarning | FutureWarning):
        warn(f"warning: {words(str(message))}")
