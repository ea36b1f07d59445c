"""A file that appears under its name when it is whole."""

import os
import uuid
from pathlib import Path

from sensorseq.errors import writing


def write_whole(path: str | os.PathLike[str], content: bytes, *, force: bool = False) -> None:
    """Write a file beside its place, then rename it: a reader never sees half of it.

    Parameters
    ----------
    path : str or path
        Its name; a file of that name is replaced.
    content : bytes
        All of it.
    force : bool, default=False
        Force it to the disk first: it outlives a power failure.

    Raises
    ------
    OutputError
        If the system does not let it be written; nothing is left behind then.
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
