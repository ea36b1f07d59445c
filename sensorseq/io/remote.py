"""Files at URLs (``s3://bucket/folder``), through fsspec: downloaded, used, uploaded whole."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sensorseq.errors import (
    ArgumentError,
    EnvironmentProblemError,
    InputError,
    PreparedFileError,
    RecordingError,
    SensorseqError,
    reason_of,
)


def is_url(path: str | os.PathLike[str]) -> bool:
    """Tell whether this is a URL rather than a path on this machine."""
    return "://" in os.fspath(path)


@contextmanager
def listing(url: str, contents: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Give a folder of empty files that are named as those at a URL, and the folder's URL.

    `url` may also be one file; the path given is then that file. CSV files with these names, or the
    one file, have their contents.
    """
    with _scratch() as scratch:
        with _file_system(url, RecordingError) as (files, there):
            is_file = files.isfile(there)
            root = files._parent(there) if is_file else there.rstrip("/")
            wanted = {f"{root}/{name}" for name in contents} | ({there} if is_file else set())
            folder = scratch / (Path(root).name or "root")
            is_table = is_file and there.lower().endswith(".csv")  # perhaps a manifest
            names = files.find(root) if is_table or not is_file else [there]
            # Consoles of object stores mark a folder by an empty object of its name.
            folders = {root, *(str(above) for name in names for above in Path(name).parents)}
            for name in (name for name in names if name.rstrip("/") not in folders):
                local = folder / name[len(root) :].lstrip("/")
                if ".." in local.parts:
                    raise RecordingError(f"{url}: file {name!r} is outside the folder; rename it.")
                local.parent.mkdir(parents=True, exist_ok=True)
                local.touch()
                if name in wanted and name.lower().endswith(".csv"):
                    files.get_file(name, str(local))
        root_url = url.rstrip("/").rpartition("/")[0] if is_file else url.rstrip("/")
        with _naming(folder, root_url):
            yield folder / Path(there).name if is_file else folder, root_url


@contextmanager
def fetched(url: str, names: Iterable[str]) -> Iterator[Path]:
    """Give a folder with these files below a URL, for as long as the block runs."""
    with _scratch() as folder:
        for name in names:
            local = folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            with _file_system(f"{url}/{name}", RecordingError) as (files, there):
                files.get_file(there, str(local))
        with _naming(folder, url):
            yield folder


@contextmanager
def here(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a local path: the path itself, or that of a copy of what is at a URL, if anything."""
    if not is_url(path):
        yield Path(path)
        return
    url = os.fspath(path)
    with _scratch() as folder, _naming(folder, url.rpartition("/")[0]):
        copy = folder / url.rpartition("/")[2]
        with _file_system(url, PreparedFileError) as (files, there):
            if files.isfile(there):
                files.get_file(there, str(copy))
        yield copy


def upload(copy: Path, path: str | os.PathLike[str]) -> None:
    """Put the copy that `here` gave in its place, whole; a path has it already."""
    if not is_url(path):
        return
    with _file_system(os.fspath(path), PreparedFileError) as (files, there):
        files.put_file(str(copy), there)


def make_folder(url: str) -> None:
    """Make a folder in one that exists, or in a bucket that does, which need no folders."""
    with _file_system(url, PreparedFileError) as (files, there), suppress(FileExistsError):
        files.mkdir(there, create_parents=False)


def list_folder(url: str) -> list[str]:
    """Return the paths of the files in a folder; none if it is not there."""
    with _file_system(url, PreparedFileError) as (files, there):
        return list(files.find(there))


def remove(url: str) -> None:
    """Remove a folder and all files in it, if it is there."""
    with _file_system(url, PreparedFileError) as (files, there):
        if files.exists(there):
            files.rm(there, recursive=True)


@contextmanager
def _file_system(url: str, kind: type[InputError]) -> Iterator[tuple[Any, str]]:
    """Give the file system of a URL and the path in it; its errors become ours and name the URL."""
    try:
        from fsspec.core import url_to_fs

        yield url_to_fs(url, use_listings_cache=False)
    except SensorseqError:
        raise
    except ImportError as error:
        raise EnvironmentProblemError(f"{url}: needs a package ({error}).") from error
    except (FileNotFoundError, PermissionError) as error:
        raise kind(f"{url}: cannot be read or written ({error}).") from error
    except ValueError as error:
        raise ArgumentError(f"{url}: is no URL that fsspec can open ({error}).") from error
    except Exception as error:  # any library may speak to this store
        raise EnvironmentProblemError(
            f"{url}: the store cannot be used ({type(error).__name__}:"
            f" {reason_of(error) if isinstance(error, OSError) else error})."
        ) from error


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sensorseq-") as folder:
        yield Path(folder)


@contextmanager
def _naming(folder: Path, url: str) -> Iterator[None]:
    """Name the URL instead of the local folder in errors."""
    try:
        yield
    except SensorseqError as error:
        error.args = (str(error).replace(str(folder), url),)
        raise
