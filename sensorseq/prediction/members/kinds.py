"""The kinds of members that a model file can contain."""

import importlib
import pkgutil
from functools import cache
from typing import Any

from sensorseq.prediction import members
from sensorseq.prediction.members.member import Kinds


@cache
def all_kinds() -> Kinds:
    """Return the tables `KINDS` of this package's files as one table."""
    found: dict[str, Any] = {}
    for file in pkgutil.iter_modules(members.__path__):
        module = importlib.import_module(f"{members.__name__}.{file.name}")
        found |= getattr(module, "KINDS", {})
    return found
