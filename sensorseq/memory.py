"""How much memory is available, and the refusal of what certainly needs more."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sensorseq.errors import ArgumentError, InputError

__all__ = ["available_bytes", "check_memory", "check_sizes"]

_SMALL = 1 << 24  # bytes that are not worth the tenth of a millisecond that asking takes
_WAYS_OUT = {
    "input_size": "fewer channels",
    "num_classes": "fewer classes",
    "n_windows": "fewer windows",
    "n_timesteps": "shorter windows",
}


def available_bytes() -> int | None:
    """Return how much memory this process can still get; None where that is unknown.

    The least of what the system can give, with what it can swap out, and what the limits of a
    container (control groups of both versions) and of the process (``ulimit -v``) leave. Pages of
    files that the system would give up count as available.
    """
    system = _table(Path("/proc/meminfo"))
    if "MemAvailable:" not in system:
        try:
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):  # not on every system
            return None
    swap = 1024 * system.get("SwapFree:", 0)
    limits = [1024 * system["MemAvailable:"] + swap]
    limits += [left + swap for left in _left_in_groups()]
    return max(0, min(limits + _left_of_address_space()))


def _table(path: Path) -> dict[str, int]:
    """Return a file of names and whole numbers; an empty one if it cannot be read."""
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
        return {row[0]: int(row[1]) for row in rows if len(row) > 1 and row[1].isdigit()}
    except OSError:
        return {}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # "max" is no limit
        return None


def _left_in_groups(proc: Path = Path("/proc/self"), root: Path = Path("/sys/fs/cgroup")) -> Any:
    """Yield what is left in each control group of this process that limits memory."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        number, controllers, name = line.split(":", 2)
        if number == "0":
            base, limit, usage, kind = root, "memory.max", "memory.current", ""
        elif "memory" in controllers.split(","):
            base, kind = root / "memory", "total_"
            limit, usage = "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        folder = base / name.lstrip("/")
        while True:  # within a container the name may be that of the host: then the root's count
            most, used = _number(folder / limit), _number(folder / usage)
            if most is not None and used is not None:
                of_files = _table(folder / "memory.stat")
                kept = sum(of_files.get(f"{kind}{use}_file", 0) for use in ("inactive", "active"))
                yield most - used + kept
            if folder == base:
                break
            folder = folder.parent


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
    available: Callable[[], int | None] | None = None,
    error: type[InputError] = ArgumentError,
    folder: Path | None = None,
) -> None:
    """Raise an error if `parts`, bytes by what they are for, are more than is available.

    Only what is certain to be allocated belongs in `parts`. The sentence begins with `subject`,
    such as ``"hidden_size=64"``, and ends with `way_out`, such as ``"a smaller hidden_size"``.
    With `folder`, they go on its disk.
    """
    total = sum(parts.values())
    if total <= _SMALL:
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
        f"{subject} needs {_human(total)} of {place} for {listed}, {_human(there)} are available:"
        f" choose {way_out}."
    )


def check_sizes(
    needs: Callable[..., Mapping[str, int]],
    sizes: Mapping[str, int],
    available: Callable[[], int | None] | None = None,
) -> None:
    """Check ``needs(**sizes)``; the error names the size whose reduction would help most."""
    parts = needs(**sizes)
    if sum(parts.values()) <= _SMALL:
        return
    most = min(sizes, key=lambda name: sum(needs(**{**sizes, name: 1}).values()))
    way_out = _WAYS_OUT.get(most, f"a smaller {most}")
    check_memory(f"{most}={sizes[most]}", parts, way_out, available=available)


def _human(n_bytes: int) -> str:
    """Return a size in the unit that leaves at most three digits before the point."""
    value, units = n_bytes / 1, ["bytes", "kB", "MB", "GB", "TB", "PB", "EB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.1f} {units[0]}" if value < 1e6 else f"{value:.0e} {units[0]}"
