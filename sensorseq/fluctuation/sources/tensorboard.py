"""Event files of TensorBoard, of one run, to rows."""

from itertools import chain
from pathlib import Path

from sensorseq.errors import InputError
from sensorseq.fluctuation.sources.event_file import read_scalars
from sensorseq.fluctuation.sources.names import STEP, listed
from sensorseq.fluctuation.sources.tables import Table

_PATTERN = "*.tfevents.*"


def read_event_files(path: Path) -> Table:
    """Read an event file, or the folder of one run; folders in it name the part, as train/.

    A tag in a folder is called ``folder/tag``. Files of one folder are read in the order of their
    names, which hold the time; where a step comes again, the later one and what follows counts.

    Raises
    ------
    InputError
        If a file is damaged, or a folder has no event files.
    """
    if path.is_dir():
        files = {"": sorted(path.glob(_PATTERN))}
        for folder in sorted(path.iterdir()):
            if folder.is_dir():
                files[f"{folder.name}/"] = sorted(folder.glob(_PATTERN))
        if not any(files.values()):
            levels = (path.glob(f"{above}/{_PATTERN}") for above in ("*/*", "*/*/*"))
            deeper = next(chain.from_iterable(levels), None)
            hint = f" Give the folder of one run, such as {deeper.parent}." if deeper else ""
            raise InputError(f"{path} has no event files of TensorBoard.{hint}")
    else:
        files = {"": [path]}
    series: dict[str, dict[int, float]] = {}
    again: set[str] = set()
    for prefix, paths in files.items():
        for file in paths:
            for tag, step, value in read_scalars(file):
                name = prefix + tag
                points = series.setdefault(name, {})
                if points.get(step, value) != value:
                    again.add(name)
                    for later in [s for s in points if s >= step]:
                        del points[later]
                points[step] = value
    rows: dict[int, dict[str, float]] = {}
    for name, points in series.items():
        for step, value in points.items():
            rows.setdefault(step, {STEP: step})[name] = value
    if not rows:
        raise InputError(f"{path} has no scalars.")
    table = Table([rows[step] for step in sorted(rows)], [f"step {step}" for step in sorted(rows)])
    if again:
        table.notes.append(
            f"{path}: there more than once, as where a run is resumed, so that the later counts:"
            f" steps of {listed(sorted(again), most=4)}."
        )
    return table
