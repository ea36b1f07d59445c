"""Print the results, warnings and progress of commands, and lock their output files."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sensorseq.base.text import plain
from sensorseq.cli.app import closing
from sensorseq.errors import ArgumentError, InputError, printable, writing
from sensorseq.io.atomic import locking, real_file


def warn(message: str) -> None:
    """Print a line to stderr."""
    try:
        print(printable(message, "\n"), file=sys.stderr)
    except OSError:  # the work continues if the disk is full
        drop_buffer(sys.stderr)


def drop_buffer(stream: TextIO) -> None:
    """Discard a stream's buffer, because flushing it at exit would fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def print_result(result: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print the result as text or as one JSON object."""
    if as_json:
        is_utf = (sys.stdout.encoding or "utf-8").lower().startswith("utf")
        shown = json.dumps(plain(result), allow_nan=False, ensure_ascii=not is_utf, indent=1)
        print("\n".join(map(_visible_json, shown.split("\n"))))
    else:
        print(printable(text, "\n"))


def _visible_json(line: str) -> str:
    """Escape characters that would control a terminal; the JSON values stay the same."""
    if line.isprintable():
        return line
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in line)


def print_part(text: str, as_json: bool) -> None:
    """Print a part of the result immediately, unless the result is printed as JSON at the end."""
    if not as_json:
        print(printable(text, "\n"), flush=True)


@contextmanager
def progress(what: str, *, quiet: bool) -> Iterator[Callable[..., None]]:
    """Show a progress bar, but only on a terminal, so that logs stay short."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total, stage="": None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        bar.add_task(what, total=None)
        (task,) = bar.tasks

        def advance(done: int, total: int, stage: str = "") -> None:
            words = f"{what}: {stage}" if stage else what
            if words != task.description:
                bar.reset(task.id)  # the time left depends on the speed of this stage alone
            task.total = total or None  # `update` would keep the total of the last stage
            bar.update(task.id, completed=done, description=words)

        yield advance


def check_output(path: Path | None, *others: Path) -> str:
    """Check before a long run that the output can be written, and lock its file.

    Return a note for the final message if the file already exists, otherwise "".
    """
    if path is None:
        return ""
    for other in others:
        if path == other or (path.exists() and other.exists() and path.samefile(other)):
            raise ArgumentError(
                f"{path} is already used by this command and would be overwritten; give another"
                " output."
            )
    if path.is_dir():
        raise InputError(f"{path}: is a folder; give a file name.")
    check_parent(path)
    already_exists = path.exists()
    with writing(path):
        closing.enter_context(locking(path, run=True))
    return ", replacing the earlier file" if already_exists else ""


def check_parent(path: Path) -> None:
    """Raise an error if the parent folder of an output is missing."""
    if not (parent := real_file(path).absolute().parent).is_dir():
        if parent.exists():
            raise InputError(f"{path}: {parent} is a file, not a folder.")
        raise InputError(f"{path}: the folder {parent} is missing; create it.")
