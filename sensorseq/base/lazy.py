"""Load the names of a package on first use, so that importing the package stays light."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return a package's `__getattr__` and `__dir__`, which load its names on first use.

    Parameters
    ----------
    namespace : dict
        The ``globals()`` of the package.
    homes : mapping
        The module of each public name, relative to the package unless it begins with
        ``sensorseq.``.
    """
    package = namespace["__name__"]

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        home = homes[name]
        home = home if home.startswith("sensorseq.") else f"{package}.{home}"
        value = getattr(importlib.import_module(home), name)
        namespace[name] = value
        return value

    return load, lambda: sorted({*namespace, *homes})
