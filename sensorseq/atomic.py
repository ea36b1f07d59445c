"""Write files atomically: a file appears under its name only when it is complete."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sensorseq.errors import writing


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name next to the target, which takes its place if nothing is raised."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield part
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_whole(path: str | os.PathLike[str], content: bytes, *, force: bool = False) -> None:
    """Write a temporary file next to the target, then rename it, so no reader sees half of it.

    `force` flushes it to disk first, so that it survives a power failure. Raises an `OutputError`
    and leaves no partial file.
    """
    target = Path(path)
    with writing(target), replacing(target) as part:
        part.write_bytes(content)
        if force:
            with part.open("rb+") as file:
                os.fsync(file.fileno())
