"""How much memory is available, and the refusal of what certainly needs more."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sensorseq.errors import ArgumentError, InputError, RecordingError

Available = Callable[[], int | None]
_MOST_SHRUNK, _HARMLESS_BYTES = 100, 1 << 27  # of recordings that are compressed
SMALL_BYTES = 1 << 24  # bytes that are not worth the tenth of a millisecond that asking takes


def available_bytes() -> int | None:
    """Return how much memory this process can still get; None where that is unknown.

    The least of what the system can give, with what it can swap out, and what the limits of its
    control groups (of both versions) and of the process (``ulimit -v``) leave. Files that the
    system keeps in memory count as available.
    """
    system = _table(Path("/proc/meminfo"))
    if "MemAvailable:" not in system:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # not on every system
            return None
    left = [1024 * system["MemAvailable:"], *_left_in_groups()]
    return min([min(left) + 1024 * system.get("SwapFree:", 0), *_left_of_address_space()])


def _table(path: Path) -> dict[str, int]:
    """Return the names and whole numbers in a file; a number alone has the name ""."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    rows = [["", *line.removesuffix(" kB").split()][-2:] for line in lines if line.strip()]
    return {name: int(number) for name, number in rows if number.isdigit()}


def _left_in_groups(
    proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")
) -> Iterator[int]:
    """Yield what is left in each control group of this process that limits memory."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, name = line.split(":", 2)
        base, kind, files = root, "", ("memory.max", "memory.current")
        if "memory" in controllers.split(","):  # version 1
            base, kind = root / "memory", "total_"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        elif number != "0":
            continue
        here = base / name.lstrip("/")
        for folder in (here, *here.parents):  # of those, a container has the last alone
            if not folder.is_relative_to(base):
                break
            most, used = (_table(folder / file).get("") for file in files)
            if most is not None and used is not None:
                of_files = _table(folder / "memory.stat")
                kept = (of_files.get(f"{kind}{use}_file", 0) for use in ("inactive", "active"))
                yield most - used + sum(kept)


def _left_of_address_space() -> list[int]:
    try:
        import resource  # not on every system

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (ImportError, OSError, ValueError):
        return []
    return [] if limit == resource.RLIM_INFINITY else [limit - pages * resource.getpagesize()]


def check_memory(
    subject: str,
    parts: Mapping[str, int],
    way_out: str,
    *,
    available: Available | None = None,
    error: type[InputError] = ArgumentError,
    folder: Path | None = None,
) -> None:
    """Raise an error if `parts`, bytes by what they are for, are more than is available.

    Only what is certain to be allocated belongs in `parts`. The sentence begins with `subject`,
    such as ``"hidden_size=64"``, and ends with `way_out`, such as ``"a smaller hidden_size"``.
    With `folder`, they go on its disk.
    """
    total = sum(parts.values())
    if total <= SMALL_BYTES:
        return
    if folder is None:
        there, place = (available or available_bytes)(), "memory"
    else:
        there, place = shutil.disk_usage(folder).free, f"disk space in {folder}"
    if there is None or total <= there:
        return
    named = [name for name, n_bytes in parts.items() if 10 * n_bytes >= total]
    listed = " and ".join(filter(None, [", ".join(named[:-1]), named[-1]]))
    raise error(
        f"{subject} needs {_human(total)} of {place} for {listed}, {_human(max(0, there))} are"
        f" available: choose {way_out}."
    )


def check_unpacked(path: Path, n_bytes: int, stored_bytes: int) -> None:
    """Raise if what a file unpacks to is larger than any measurement of its size would be."""
    if n_bytes > max(_HARMLESS_BYTES, _MOST_SHRUNK * stored_bytes):
        raise RecordingError(
            f"{path}: unpacks to {_human(n_bytes)} or more, which no measurement does: it is"
            " damaged, or made to fill the memory. If it is right, store it without compression."
        )


def check_array_size(name: str, array: NDArray[Any], of_value: int = 1) -> None:
    """Refuse an array whose dense copy as floats, and `of_value` bytes a value, are too much.

    A view that repeats its values, and a file mapped into memory, may be of any size.
    """
    if array.size < SMALL_BYTES // 32:  # as in most calls, some of which take microseconds
        return
    is_dense = array.flags.c_contiguous and array.dtype in (np.float32, np.float64)
    copied = 0 if is_dense else array.itemsize if array.dtype.kind == "f" else 8
    parts = {"a dense copy": copied * array.size, "the check of its values": of_value * array.size}
    ways = "fewer or shorter windows, or fewer channels; a prepared file is read in parts"
    check_memory(f"{name} of shape {array.shape}", parts, ways)


def _human(n_bytes: int) -> str:
    """Return a size in the unit that leaves at most three digits before the point."""
    value, units = n_bytes / 1, ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.1f} {units[0]}" if value < 1e6 else f"{value:.0e} {units[0]}"
