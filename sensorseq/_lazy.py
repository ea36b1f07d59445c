"""Names of a package that are imported when first used, so that importing it stays light."""

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from types import ModuleType
from typing import Any


def lazy_names(
    namespace: dict[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for the package whose globals are given.

    Parameters
    ----------
    namespace : dict
        ``globals()`` of the package.
    homes : mapping
        The module, relative to the package, that each public name comes from.
    """
    package = namespace["__name__"]

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{package}.{homes[name]}"), name)
        namespace[name] = value
        return value

    return load, lambda: sorted({*namespace, *homes})


class _MovedModules(MetaPathFinder, Loader):
    def __init__(self, homes: Mapping[str, Sequence[str]]) -> None:
        self._homes = homes

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        return spec_from_loader(fullname, self) if fullname in self._homes else None

    def exec_module(self, module: ModuleType) -> None:
        homes = self._homes[module.__name__]
        warnings.warn(
            f"the content of {module.__name__} is now in {' and '.join(homes)}; the old name will"
            " be removed.",
            FutureWarning,
            stacklevel=2,
        )
        for home in homes:
            content = vars(importlib.import_module(home))
            vars(module).update({n: v for n, v in content.items() if not n.startswith("__")})


def moved_modules(package: str, homes: Mapping[str, str]) -> None:
    """Let modules that moved be imported by their old names, with a warning that names the new.

    Parameters
    ----------
    package : str
        Name of the package.
    homes : mapping of str to str
        For each old name, the modules of the package with its content, separated by spaces.
    """
    full = {
        f"{package}.{old}": [f"{package}.{home}" for home in new.split()]
        for old, new in homes.items()
    }
    sys.meta_path.append(_MovedModules(full))
