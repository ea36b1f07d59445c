"""The kinds of members that a model file can contain."""

import importlib
import pkgutil
from functools import cache
from types import ModuleType
from typing import Any

from sensorseq.prediction import members
from sensorseq.prediction.members.member import Kinds


@cache
def all_kinds() -> Kinds:
    """Return the functions that restore members, by the member's name."""
    return tables_in(members, "KINDS")


def tables_in(package: ModuleType, name: str) -> dict[str, Any]:
    """Return the tables of this name in the files of a package as one table."""
    found: dict[str, Any] = {}
    for file in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{file.name}")
        found |= getattr(module, name, {})
    return found
