"""Print the requirements of an environment with the oldest or the newest versions that we allow.

The versions come from the bounds in `pyproject.toml`: its dependencies, its extras (except `docs`,
which has an environment of its own) and what the build requires. torch has the version in
`requirements/core.txt`, and so has each package without a lower bound, such as pytest, or an older
one if the others require that.

    python scripts/neighbors.py oldest   # every package at its lower bound
    python scripts/neighbors.py newest   # the newest versions that pip finds for this Python
"""

import argparse
import tomllib
from collections.abc import Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PINNED = ("torch",)  # `make test-all` has other versions of torch
OTHER_ENVIRONMENT = ("docs",)  # extras
NOT_OLDEST = ("asammdf",)  # needs numpy 2; its tests are skipped without it


def read_bounds(project: Path = ROOT / "pyproject.toml") -> dict[str, SpecifierSet]:
    """Return the bounds of every package that a `pyproject.toml` names, by normalized name."""
    settings = tomllib.loads(project.read_text("utf-8"))
    extras = settings["project"]["optional-dependencies"]
    lines = [*settings["project"]["dependencies"], *settings["build-system"]["requires"]]
    lines += [line for extra in extras if extra not in OTHER_ENVIRONMENT for line in extras[extra]]
    bounds: dict[str, SpecifierSet] = {}
    for requirement in map(Requirement, lines):
        name = canonicalize_name(requirement.name)
        bounds[name] = bounds.get(name, SpecifierSet()) & requirement.specifier
    return bounds


def read_pins(file: Path = ROOT / "requirements" / "core.txt") -> dict[str, str]:
    """Return the lines with pinned versions, by normalized name."""
    lines = [line.partition("#")[0].strip() for line in file.read_text("utf-8").splitlines()]
    return {canonicalize_name(Requirement(line).name): line for line in lines if line}


def iter_requirements(age: str) -> Iterable[str]:
    """Yield one requirement for each package, with the versions of an age (oldest or newest)."""
    pins = read_pins()
    for name, bounds in sorted(read_bounds().items()):
        lower = {bound.version for bound in bounds if bound.operator == ">="}
        if name in PINNED:
            yield pins[name]
        elif not lower:
            yield pins[name].replace("==", "<=", 1)
        elif age == "newest":
            yield f"{name}{bounds}"
        elif name not in NOT_OLDEST:
            (version,) = lower  # if a package is named twice, its bounds are equal
            yield f"{name}=={version}"


def main() -> None:
    """Print the requirements of the age that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("age", choices=("oldest", "newest"))
    print("\n".join(iter_requirements(parser.parse_args().age)))


if __name__ == "__main__":
    main()
