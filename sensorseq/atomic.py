"""Write files atomically: a file appears under its name only when it is complete."""

import os
import uuid
from pathlib import Path

from sensorseq.errors import writing


def write_whole(path: str | os.PathLike[str], content: bytes, *, force: bool = False) -> None:
    """Write a temporary file next to the target, then rename it, so no reader sees half of it.

    Parameters
    ----------
    path : str or path
        Name of the file; an existing file is replaced.
    content : bytes
        The whole content.
    force : bool, default=False
        Flush to disk before renaming, so the file survives a power failure.

    Raises
    ------
    OutputError
        If the file cannot be written; no partial file remains.
    """
    target = Path(path)
    with writing(target):
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")
        try:
            part.write_bytes(content)
            if force:
                with part.open("rb+") as file:
                    os.fsync(file.fileno())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
