"""SensorseqError and its subclasses; errors for bad input are also ValueErrors."""

import difflib
import errno
import os
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

__all__ = [
    "ArgumentError",
    "ConfigurationError",
    "DivergedError",
    "EnvironmentProblemError",
    "InputError",
    "LeakWarning",
    "ModelFileError",
    "OpenQuestionsError",
    "OutOfMemoryError",
    "OutputError",
    "PreparedFileError",
    "RecordingError",
    "SensorseqError",
    "SignalError",
    "SplitError",
    "WindowError",
]

_PACKAGE = f"{Path(__file__).parent}{os.sep}"
_WRAPPER = f"{os.sep}sklearn{os.sep}callback{os.sep}"  # in the path of sklearn's wrapper around fit


def printable(text: str, keep: str = "") -> str:
    """Escape control, text-direction and invisible characters, except those in `keep`."""
    checked = text
    for c in keep:
        checked = checked.replace(c, "")
    if checked.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


class SensorseqError(Exception):
    """Base class of all errors that this package raises on purpose.

    Control and text-direction characters in messages, for example in file names, are escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())

    def add_note(self, note: str, /) -> None:
        """Add a line to the error.

        Parameters
        ----------
        note : str
            The line. Control characters are escaped.
        """
        self.__notes__: list[str] = [*getattr(self, "__notes__", ()), printable(note)]


class InputError(SensorseqError, ValueError):
    """Data or an argument from the user cannot be used."""


class ArgumentError(InputError):
    """An argument has a value that is not accepted."""


class OpenQuestionsError(ArgumentError):
    """Recordings leave questions open; the message lists them, with a command that answers them."""

    def __str__(self) -> str:
        return printable(Exception.__str__(self), "\n")


class RecordingError(InputError):
    """A recording contradicts itself or cannot be read."""


class MissingChannelError(RecordingError):
    """A recording lacks a channel that was asked for."""


class SignalError(InputError):
    """Samples cannot be processed because of NaN, a clock that goes back, or an impossible rate."""


class WindowError(InputError):
    """A set of windows is inconsistent, or no window can be cut."""


class SplitError(InputError):
    """Groups cannot be assigned to parts so that every part meets its requirements."""


class ModelFileError(InputError):
    """A file is not a readable model: it is truncated, or in a different or newer format."""


class PreparedFileError(InputError):
    """A prepared file cannot be written (disk full) or read (truncated, or a different format)."""


class OutputError(InputError, OSError):
    """A file cannot be written: disk full, folder missing, no permission, or in use."""


class MisplacedOutputError(OutputError):
    """An output path cannot be a file: it is a folder, or its parent folder is missing."""


class PreparedOutputError(PreparedFileError, OutputError):
    """A prepared file cannot be written."""


class ConfigurationError(InputError):
    """A configuration file has an unknown key or an invalid value."""


class Report(Protocol):
    """The report of a fit; see `FluctuationReport`."""

    @property
    def verdict(self) -> str:
        """The verdict on the curve, or the reason why it cannot be judged."""


class DivergedError(SensorseqError, ArithmeticError):
    """The training loss became non-finite before the first epoch was complete.

    `fluctuation` is the report of the fit, which did not change the estimator.
    """

    fluctuation: "Report | None" = None


class EnvironmentProblemError(SensorseqError, RuntimeError):
    """The installation lacks something, such as the compiled library, an extra or a GPU."""


class OutOfMemoryError(EnvironmentProblemError, MemoryError):
    """There is not enough memory."""


class LeakWarning(UserWarning):
    """Validation or test windows share data with training windows."""


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """Issue a warning that points to the calling line outside this package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None:
        file = frame.f_code.co_filename
        if not (file.startswith(_PACKAGE) or _WRAPPER in file):
            break
        level, frame = level + 1, frame.f_back
    warnings.warn(printable(message), category, stacklevel=level)


@contextmanager
def noting(note: str, kind: type[SensorseqError] = SensorseqError) -> Iterator[None]:
    """Add a note to errors of the given kind that are raised in this block."""
    try:
        yield
    except kind as error:
        error.add_note(note)
        raise


@contextmanager
def refusing(
    kind: type[SensorseqError],
    subject: str,
    way_out: str = "",
    *,
    but: type[Exception] = SensorseqError,
) -> Iterator[None]:
    """Convert errors that parsers raise for malformed content to errors of the given kind.

    Errors of the environment, such as a library that does not load, are not converted.
    """
    try:
        yield
    except (but, EnvironmentProblemError):
        raise
    except Exception as error:
        raise kind(f"{subject}: {str(error) or type(error).__name__}.{way_out}") from error


_FULL = re.compile("allocate memory|not enough memory|out of memory|bad_alloc")
_REQUESTED = re.compile(r"allocate ([\d.]*\d)\.? (\w+)")


@contextmanager
def within_memory(way_out: str) -> Iterator[None]:
    """Convert a failed allocation of numpy or torch to an `OutOfMemoryError`."""
    try:
        yield
    except OutOfMemoryError:
        raise
    except (MemoryError, OSError, RuntimeError) as error:
        text = str(error)
        if not (isinstance(error, MemoryError) or _FULL.search(text)):
            raise
        place = "on the GPU " if "CUDA" in text else ""
        size = "more"
        if requested := _REQUESTED.search(text):
            size = f"another {requested[1]} {requested[2]}"
            if requested[2] == "bytes":
                size = f"another {int(requested[1]) / 2**30:.2f} GiB"
        raise OutOfMemoryError(f"there is no memory {place}for {size}: {way_out}.") from error


@contextmanager
def writing(path: str | os.PathLike[str], *, folder: bool = False) -> Iterator[None]:
    """Convert an OSError in this block to an `OutputError` that names the file."""
    path = Path(path)
    try:
        if path.is_dir() and not folder:
            raise MisplacedOutputError(f"{path}: is a folder; give a file name.")
        if folder and path.exists() and not path.is_dir():
            raise MisplacedOutputError(f"{path}: is a file, not a folder; give a folder.")
        yield
    except SensorseqError:
        raise
    except OSError as error:
        kind, hint = OutputError, f"{ways_out(error)}."
        parent = path.absolute().parent
        with suppress(OSError):  # the name may be too long
            parent = Path(os.path.realpath(path)).parent if path.is_symlink() else parent
            if not parent.is_dir():
                kind, hint = MisplacedOutputError, f"The folder {parent} is missing; create it."
                if parent.exists():
                    hint = f"{parent} is a file, not a folder."
        raise kind(f"{path}: cannot be written ({reason_of(error)}). {hint}") from error


LACKS_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNWRITABLE = (*LACKS_SPACE, errno.EROFS, errno.EIO)
"""Errors caused by the machine, not by arguments."""


def reason_of(error: OSError) -> str:
    """Return the system's error message without its number."""
    return (error.strerror or str(error)).lower()


def ways_out(error: OSError) -> str:
    """Suggest a remedy for a file that cannot be written."""
    lacks_space = error.errno in LACKS_SPACE
    return (
        "Free disk space, or choose another location" if lacks_space else "Choose another location"
    )


def repeated(names: Iterable[str]) -> str | None:
    """Return the first name that occurs more than once, or None."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def nearest_known(value: object, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to `value`; None if none is similar.

    A name is similar if two thirds of the letters match, or if it begins with `value`.
    """
    by_lower, wanted = {name.lower(): name for name in known}, str(value).lower()
    matches = difflib.get_close_matches(wanted, by_lower, n=1, cutoff=0.65)
    matches += [name for name in by_lower if wanted and name.startswith(wanted)]
    return by_lower[matches[0]] if matches else None


def did_you_mean(value: object, known: Iterable[str], shown: str = "{!r}") -> str:
    """Return " Did you mean ...?" with the most similar known name; "" if none is similar."""
    nearest = nearest_known(value, known)
    return f" Did you mean {shown.format(nearest)}?" if nearest else ""


def check_choice(argument: str, value: object, known: Iterable[str]) -> str:
    """Return `value` if it is one of `known`; otherwise raise an error with suggestions."""
    names = list(known)
    if isinstance(value, str) and value in names:
        return value
    hint = did_you_mean(value, names)
    shown = f"{argument} {value}" if argument.startswith("--") else f"{argument}={value!r}"
    raise ArgumentError(f"{shown} is not known.{hint} Known: {', '.join(names)}.")
