"""JSON Lines files with the measurements of runs that may be interrupted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def read_lines(path: Path) -> Iterator[Any]:
    """Yield the value of each line, or nothing if there is no file; ignore a truncated line."""
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            yield json.loads(line)
        except ValueError:
            continue


def append_line(path: Path, value: Any) -> None:
    """Append a value on its own line, even after a truncated line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        is_cut_off = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            is_cut_off = file.read(1) != b"\n"
        line = json.dumps(value, default=float).encode()
        file.write((b"\n" if is_cut_off else b"") + line + b"\n")
        file.flush()
        os.fsync(file.fileno())
