"""The code that a benchmark measures: its files, their digest, and the commit that has them.

A benchmark measures the package, the native core with its flags, the runtime, and its own files:
its script, its folder, `common`, and what these import from `benchmarks/`.
"""

import datetime
import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

KINDS = (".py", ".pyi", ".h", ".c", ".cpp", ".cu", ".cuh", ".in", ".html", ".css", ".js")
DIRTY = "-dirty"  # ends the commit of code with changes
_IMPORT = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)
_ONLY_PRINTED = frozenset({"readme_table"})


@dataclass(frozen=True)
class MeasuredCode:
    """The code at the start of a measurement; `commit` ends in "-dirty" if `changed` has files."""

    script: Path
    digest: str
    commit: str
    changed: tuple[str, ...]

    @classmethod
    def of(cls, script: str | Path) -> "MeasuredCode":
        """Return the code that a benchmark would measure now."""
        path = Path(script).resolve()
        root = root_of(path)
        commit, changed = commit_and_changes(root, places_of(path))
        return cls(path, digest_of(path), commit + (DIRTY if changed else ""), changed)

    def stamp(self) -> dict[str, str]:
        """Return what a row or a results file says about the measurement."""
        is_same = self.changed or digest_of(self.script) == self.digest
        return {
            "benchmark": self.script.relative_to(root_of(self.script)).as_posix(),
            "digest": self.digest,
            "commit": self.commit if is_same else self.commit + DIRTY,
            "date": datetime.date.today().isoformat(),
            "processor": processor(),
        }

    def check(self, folder: Path, stamps: Iterable[Mapping[str, str]] = ()) -> None:
        """Exit if benchmarks/results would get results of changed or uncommitted code.

        `stamps` belong to rows measured by earlier runs; those before 30 November had no digest.
        """
        root = root_of(self.script)
        if folder.resolve() != root / "benchmarks" / "results":
            return
        now = MeasuredCode.of(self.script)
        if now.changed:
            raise SystemExit(
                "error: benchmarks/results takes only results of committed code, but these files"
                f" have changes: {', '.join(now.changed)}. Commit them first, or choose another"
                " folder for the results with SENSORSEQ_RESULTS=FOLDER."
            )
        if self.changed or now.digest != self.digest:
            raise SystemExit(
                "error: the code changed during the measurement, so its results are not written;"
                " measure again."
            )
        if any("digest" in stamp and stamp["commit"].endswith(DIRTY) for stamp in stamps):
            raise SystemExit(
                "error: some rows were measured on code with changes; measure them again on"
                " committed code."
            )


def root_of(script: Path) -> Path:
    """Return the checkout that contains a benchmark."""
    return next(folder.parent for folder in script.parents if folder.name == "benchmarks")


def places_of(script: Path) -> list[Path]:
    """Return the files and folders whose contents a benchmark measures."""
    root = root_of(script)
    benchmarks = root / "benchmarks"
    todo = [benchmarks / "common", benchmarks / script.stem.removeprefix("bench_")]
    todo.append(script if script.parent == benchmarks else script.parent)
    own: set[Path] = set()
    while todo:
        place = todo.pop()
        if place in own or not place.exists():
            continue
        own.add(place)
        for file in _files(place):
            for name in set(_IMPORT.findall(file.read_text())) - _ONLY_PRINTED:
                todo += [benchmarks / name, benchmarks / f"{name}.py"]
    always = ("sensorseq", "csrc", "runtime", "setup.py", "build_cuda.py")
    return [*(root / name for name in always if (root / name).exists()), *sorted(own)]


def _files(place: Path) -> Iterable[Path]:
    files = place.rglob("*") if place.is_dir() else [place]
    return (file for file in files if _counts(file.name) and file.is_file())


def _counts(name: str) -> bool:
    return Path(name).suffix in KINDS and not Path(name).name.startswith("test_")


def digest_of(script: Path) -> str:
    """Return a digest of the names and contents of all files that a benchmark measures."""
    root, digest = root_of(script), hashlib.sha256()
    files = {file for place in places_of(script) for file in _files(place)}
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in files):
        digest.update(f"{name}\0".encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def commit_and_changes(root: Path, places: Iterable[Path]) -> tuple[str, tuple[str, ...]]:
    """Return the commit and the files in some places that differ from it.

    Without git, the commit is SENSORSEQ_COMMIT or "unknown", and the digest says what was
    measured.
    """
    known = _git(root, "rev-parse", "--show-toplevel", "--short", "HEAD")
    top, _, commit = (known or "").partition("\n")
    if not commit or Path(top).resolve() != root:
        return os.environ.get("SENSORSEQ_COMMIT") or "unknown", ()
    status = ("status", "--porcelain", "--no-renames", "--untracked-files=all", "-z", "--")
    changes = _git(root, *status, *(str(place.relative_to(root)) for place in places))
    if changes is None:
        raise SystemExit(f"error: git cannot tell which files of {root} have changes.")
    names = sorted(change[3:] for change in changes.split("\0") if change)
    return commit, tuple(name for name in names if _counts(name))


def _git(root: Path, *words: str) -> str | None:
    """Return what a git command prints; None if it fails."""
    command = ["git", "--no-optional-locks", *words]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.rstrip("\n") if done.returncode == 0 else None


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()
