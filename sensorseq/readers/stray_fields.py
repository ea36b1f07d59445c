"""Errors about fields of a text that no logger meant: a header again, and NUL bytes."""

from pathlib import Path

from sensorseq.errors import RecordingError


def refuse_stray(path: Path, row: int, name: str, text: str) -> None:
    """Raise if a field is its column's name or has NUL bytes; rows count from 1."""
    if "\0" in text:
        raise RecordingError(f"{path}, row {row}, column {name!r}: holds {nul_bytes(path)}")
    if text.strip() == name:
        raise RecordingError(
            f"{path}, row {row}: the header stands again, with {name!r} in column {name!r}: logs"
            " were appended. Cut the file there into two; or remove the row, if the time goes on."
        )


def nul_bytes(path: Path) -> str:
    """Return the end of an error about NUL bytes in a file."""
    remove = "tr -d '\\000'"
    shell = f"gzip -dc FILE | {remove} > NEW" if path.suffix == ".gz" else f"{remove} < FILE > NEW"
    return f"NUL bytes, as after a loss of power. Remove them; in a shell: {shell}."
