"""Fetch BorealTC: REAL recordings of a robot on five terrains, from its authors' repository."""

import hashlib
import http.client
import importlib.resources
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sensorseq.errors import EnvironmentProblemError, InputError, reason_of, writing
from sensorseq.io.atomic import locking

REPOSITORY = "https://github.com/norlab-ulaval/BorealTC"
COMMIT = "fe64e386694528899db299e78a859dcab82f6b01"
# Files are read from this address only; redirects to other addresses are refused.
_ADDRESS = f"https://raw.githubusercontent.com/norlab-ulaval/BorealTC/{COMMIT}/data/borealtc/"
_TIMEOUT_S = 30.0
_BLOCK = 2**18  # bytes


class _RefusedError(Exception):
    """An answer of the server that cannot be the file."""


_FAILURES = (
    _RefusedError,
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
)


class _File(NamedTuple):
    sha256: str
    size: int
    name: str


def fetch_borealtc(
    folder: str | os.PathLike[str] | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Download BorealTC, REAL recordings of a Husky robot on five terrains, and return its folder.

    The set has 72 recordings of motor currents and wheel speeds (``pro_*.csv``, 6.5 Hz) and 68 of
    an inertial unit (``imu_*.csv``, 100 Hz), 61 MB in all. The folders ``ASPHALT``, ``FLOORING``,
    ``ICE``, ``SANDY_LOAM`` and ``SNOW`` are the labels; the recording in ``MIXED`` has several
    terrains. Four further files of the inertial unit, which are in the authors' repository, are
    not part of this list. The license is CC0 1.0. Please cite LaRocque et al., *Proprioception Is
    All You Need: Terrain Classification for Boreal Forests* (2024) [1]_.

    The files come from a fixed commit of the authors' repository [2]_ over https, and each is
    checked by its SHA-256. Files that are there already are checked, not downloaded again; an
    interrupted download continues where it stopped.

    Parameters
    ----------
    folder : path, optional
        The folder for the files, which is created; by default ``sensorseq/borealtc`` in
        ``$XDG_CACHE_HOME`` or ``~/.cache``.
    progress : callable, optional
        Called with the numbers of bytes that are there and of all bytes.

    Raises
    ------
    EnvironmentProblemError
        If a file cannot be downloaded, or has another content than the authors'.
    InputError
        If the folder contains a file of the same name with another content.
    OutputError
        If a file cannot be written, or another run is downloading to the same folder.

    References
    ----------
    .. [1] https://doi.org/10.1109/IROS58592.2024.10801407
    .. [2] https://github.com/norlab-ulaval/BorealTC
    """
    if folder is None:
        cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(cache) / "sensorseq" / "borealtc"
    folder, files, done = Path(folder), _files(), 0
    total = sum(file.size for file in files)
    with writing(folder, folder=True):
        folder.mkdir(parents=True, exist_ok=True)
        with locking(folder / "borealtc", run=True):
            for file in files:
                if progress is not None:
                    progress(done, total)
                _fetch(file, folder)
                done += file.size
    if progress is not None:
        progress(done, total)
    return folder


def _files() -> list[_File]:
    text = (importlib.resources.files(__package__) / "borealtc.txt").read_text(encoding="utf-8")
    rows = [line.split("  ") for line in text.splitlines() if not line.startswith("#")]
    return [_File(digest, int(size), name) for digest, size, name in rows]


def _fetch(file: _File, folder: Path) -> None:
    """Download a file unless it is there; its temporary file is renamed after its check."""
    path = folder / file.name
    if path.exists():
        if _digest(path) != file.sha256:
            raise InputError(
                f"{path}: is another file than the one of BorealTC; move it away, or give another"
                " folder."
            )
        return
    path.parent.mkdir(exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _download(file, part)
    except _FAILURES as error:
        raise EnvironmentProblemError(
            f"{file.name} of BorealTC cannot be downloaded ({_why(error)}). Try again later; files"
            f" that are complete are kept. Without a network, copy the folders of data/borealtc in"
            f" {REPOSITORY} (commit {COMMIT[:8]}) to {folder}."
        ) from error
    if _digest(part) != file.sha256:
        part.unlink()
        raise EnvironmentProblemError(
            f"the download of {file.name} has another content than the authors' file, so it was"
            " removed. Try again; a proxy in your network may change downloads."
        )
    part.replace(path)


def _download(file: _File, part: Path) -> None:
    """Append the rest of a file to `part`; never more than its known size."""
    have = part.stat().st_size if part.exists() else 0
    if have >= file.size:
        return
    request = urllib.request.Request(_ADDRESS + file.name)
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_SameAddress).open(request, timeout=_TIMEOUT_S) as answer:
        continues = have and answer.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if continues else "wb") as out:
            left = file.size - (have if continues else 0)
            while block := answer.read(min(_BLOCK, left + 1)):
                if len(block) > left:
                    raise _RefusedError(f"it is larger than {file.size} bytes")
                out.write(block)
                left -= len(block)
    if left:
        raise _RefusedError(f"the connection ended {left} bytes too early")


class _SameAddress(urllib.request.HTTPRedirectHandler):
    """Refuses redirects to other hosts, and to addresses without https."""

    def redirect_request(self, *given: Any) -> Any:
        of_set, new = (urllib.parse.urlsplit(url)[:2] for url in (_ADDRESS, given[-1]))
        if new != of_set:
            raise _RefusedError(f"redirected to {given[-1]}, which is refused")
        return super().redirect_request(*given)


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP {error.code}"
    if isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        return reason_of(error.reason)
    return reason_of(error) if isinstance(error, OSError) else str(error)
