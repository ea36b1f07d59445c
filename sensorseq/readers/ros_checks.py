"""Checks of message types and databases of ROS before rosbags reads them."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

_BASE, _ARRAY, _SEQUENCE = 1, 3, 4  # kinds of fields in rosbags
_FILLER = "structure_needs_at_least_one_member"  # in types without fields; not stored in ROS 1
_DEEPEST = 16  # maximum nesting depth of message types
_MOST_VALUES = 1 << 16  # maximum number of values in a message, except in arrays of numbers
_MOST_DEFINITION_BYTES = 1 << 16  # maximum size of the definition of a type


def check_definition(name: str, definition: bytes) -> None:
    """Raise a ValueError if the definition of a message type is implausibly long."""
    if len(definition) > _MOST_DEFINITION_BYTES:
        raise ValueError(f"the definition of {name} has {len(definition)} bytes")


def check_type(fields_of: Any, name: str) -> None:
    """Raise a ValueError if messages of a type have an implausible number of values.

    rosbags creates as many values as the definitions demand, even if the values need no bytes.
    `fields_of` contains the definitions in the form of rosbags.
    """
    sizes: dict[str, tuple[int, int]] = {}

    def size_of(name: str, depth: int) -> tuple[int, int]:
        """Return the smallest numbers of values and of bytes in a message."""
        if depth > _DEEPEST:
            raise ValueError(f"the type {name} contains itself, or is nested too deeply")
        if name not in sizes:
            n_values = n_bytes = 0
            for field, (kind, inner) in fields_of[name][1]:
                if field == _FILLER:
                    continue
                outer, n_elements = kind, 1
                if outer in (_ARRAY, _SEQUENCE):
                    (kind, inner), n_elements = inner
                values, size = (1, 1) if kind == _BASE else size_of(inner, depth + 1)
                if outer == _SEQUENCE:
                    if not size:
                        raise ValueError(f"the type {name} has a list of {inner}, which is empty")
                    n_elements = 0
                if outer == _ARRAY and kind == _BASE and inner[0] != "string":
                    n_elements = 1
                n_values += n_elements * max(values, 1)
                n_bytes += n_elements * size
            if n_values > _MOST_VALUES:
                raise ValueError(f"messages of type {name} would have {n_values} values")
            sizes[name] = n_values, n_bytes
        return sizes[name]

    size_of(name, 0)


def check_database(path: Path) -> None:
    """Raise a ValueError if a table has computed columns, which could have any size."""
    computed = "SELECT 1 FROM sqlite_master m, pragma_table_xinfo(m.name) c WHERE c.hidden"
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with suppress(sqlite3.Error), closing(sqlite3.connect(uri, uri=True)) as database:
        if database.execute(computed).fetchone():
            raise ValueError("its tables have computed columns, unlike those of a recorder")
