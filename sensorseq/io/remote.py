"""Download and upload files at URLs (``s3://bucket/folder``) with fsspec."""

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
    """Test whether a path is a URL."""
    return "://" in os.fspath(path)


@contextmanager
def listing(url: str, contents: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """Yield a local folder with an empty file for each file at a URL, and the folder's URL.

    `url` may also be the URL of a single file, whose local path is then yielded. A single CSV file,
    and CSV files with the given names, are downloaded with their contents.
    """
    with _temporary_folder() as temporary:
        with _file_system(url, RecordingError) as (files, remote_path):
            is_file = files.isfile(remote_path)
            root = files._parent(remote_path) if is_file else remote_path.rstrip("/")
            wanted = {f"{root}/{name}" for name in contents} | ({remote_path} if is_file else set())
            folder = temporary / (Path(root).name or "root")
            is_table = is_file and remote_path.lower().endswith(".csv")  # may be a manifest
            names = files.find(root) if is_table or not is_file else [remote_path]
            # Object stores may represent a folder as an empty object with the folder's name.
            folders = {root, *(str(parent) for name in names for parent in Path(name).parents)}
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
            yield folder / Path(remote_path).name if is_file else folder, root_url


@contextmanager
def fetched(url: str, names: Iterable[str]) -> Iterator[Path]:
    """Yield a folder with copies of the named files below a URL; remove the folder at the end."""
    with _temporary_folder() as folder:
        for name in names:
            local = folder / name
            local.parent.mkdir(parents=True, exist_ok=True)
            with _file_system(f"{url}/{name}", RecordingError) as (files, remote_path):
                files.get_file(remote_path, str(local))
        with _naming(folder, url):
            yield folder


@contextmanager
def local_copy(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield `path` or, for a URL, the path of a local copy, downloaded if the file exists."""
    if not is_url(path):
        yield Path(path)
        return
    url = os.fspath(path)
    with _temporary_folder() as folder, _naming(folder, url.rpartition("/")[0]):
        copy = folder / url.rpartition("/")[2]
        with _file_system(url, PreparedFileError) as (files, remote_path):
            if files.isfile(remote_path):
                files.get_file(remote_path, str(copy))
        yield copy


def upload(copy: Path, path: str | os.PathLike[str]) -> None:
    """Upload the copy that `local_copy` yielded; do nothing for a local path."""
    if not is_url(path):
        return
    with _file_system(os.fspath(path), PreparedFileError) as (files, remote_path):
        files.put_file(str(copy), remote_path)


def make_folder(url: str) -> None:
    """Create a folder, but not its parents; object stores do not need folders."""
    with _file_system(url, PreparedFileError) as (files, remote_path), suppress(FileExistsError):
        files.mkdir(remote_path, create_parents=False)


def list_folder(url: str) -> list[str]:
    """Return the paths of the files in a folder; the list is empty if the folder does not exist."""
    with _file_system(url, PreparedFileError) as (files, remote_path):
        return list(files.find(remote_path))


def remove(url: str) -> None:
    """Remove a folder and its files if it exists."""
    with _file_system(url, PreparedFileError) as (files, remote_path):
        if files.exists(remote_path):
            files.rm(remote_path, recursive=True)


@contextmanager
def _file_system(url: str, kind: type[InputError]) -> Iterator[tuple[Any, str]]:
    """Yield the file system and the path of a URL; convert errors so that they name the URL."""
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
        raise ArgumentError(f"{url}: is not a URL that fsspec can open ({error}).") from error
    except Exception as error:  # each kind of store has its own library with its own errors
        raise EnvironmentProblemError(
            f"{url}: the store cannot be used ({type(error).__name__}:"
            f" {reason_of(error) if isinstance(error, OSError) else error})."
        ) from error


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sensorseq-") as folder:
        yield Path(folder)


@contextmanager
def _naming(folder: Path, url: str) -> Iterator[None]:
    """Replace the local folder with the URL in error messages."""
    try:
        yield
    except SensorseqError as error:
        error.args = (str(error).replace(str(folder), url),)
        raise
