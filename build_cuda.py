"""Compile csrc/cuda with nvcc, for any torch and without a GPU; setup.py links the objects.

Run as a script, this module compiles the changed files; with --plan it only prints what a build
would do.
"""

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCES = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
FOLDER = ROOT / "build" / "cuda"
# The architectures of the kernels, and the sources that are compiled for the portable ones; the
# other sources have kernels for compute capability 9.0 alone, or none. Machine code serves GPUs of
# the same major and a later minor number, and the PTX of the newest architecture those to come.
HOPPER = "sm_90a"
PORTABLE = ("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120")
PORTABLE_SOURCES = ("portable", "tasks")
OLDEST = (12, 8)  # for fence.acquire.sync_restrict (PTX 8.6) and sm_120
FLAGS = [
    "-std=c++17",
    "-O3",
    f"-I{ROOT / 'csrc'}",
    "-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra",
    "-Xptxas=-v",
    "-Xfatbin=-compress-all",
]
WARNINGS_ARE_ERRORS = ["-Werror=all-warnings", "-Xcompiler=-Werror", "-Xptxas=-Werror"]
FOR_ALL = "SENSORSEQ_CUDA=1 builds it for all GPUs"
# Prints the compute capabilities of the driver's GPUs, in its own process, because a broken driver
# may crash.
ASK_DRIVER = """
from ctypes import CDLL, byref, c_int
def call(name, *arguments):
    if getattr(driver, name)(*arguments):
        raise SystemExit(1)
driver, number, gpu, found = CDLL("libcuda.so.1"), c_int(), c_int(), []
call("cuInit", 0)
call("cuDeviceGetCount", byref(number))
for index in range(number.value):
    call("cuDeviceGet", byref(gpu), index)
    major, minor = c_int(), c_int()
    call("cuDeviceGetAttribute", byref(major), 75, gpu)
    call("cuDeviceGetAttribute", byref(minor), 76, gpu)
    found.append(f"{major.value}.{minor.value}")
print("\\n".join(found))
"""


class LeftOutError(Exception):
    """The reason why a build leaves CUDA out."""


@dataclasses.dataclass(frozen=True)
class Toolkit:
    """An nvcc, its version, its runtime library, and the architectures that it compiles for."""

    nvcc: str
    version: str
    runtime: Path
    codes: tuple[str, ...] = (*PORTABLE, HOPPER)

    @property
    def define(self) -> list[str]:
        """Macros that describe the linked CUDA part to the C++ files."""
        return [
            "-DSENSORSEQ_HAS_CUDA",
            f'-DSENSORSEQ_NVCC="{self.version}"',
            f'-DSENSORSEQ_CUDA_ARCH="{",".join(self.codes)}"',
        ]

    @property
    def link(self) -> list[str]:
        """Flags that link the runtime into a library.

        The runtime's symbols are hidden, because a CUDA torch brings a second runtime.
        """
        return [str(self.runtime), "-ldl", "-lrt", "-lpthread"]


def plan(environ: Mapping[str, str] = os.environ) -> Toolkit | None:
    """Print on one line whether CUDA is built; return the toolkit that builds it, or None."""
    wanted = environ.get("SENSORSEQ_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"sensorseq: SENSORSEQ_CUDA is {wanted!r}; expected 0, 1 or nothing.")
    named = environ.get("SENSORSEQ_CUDA_ARCHS", "")
    if wanted and named:
        sys.exit(
            f"sensorseq: SENSORSEQ_CUDA={wanted} and SENSORSEQ_CUDA_ARCHS={named} contradict each"
            " other; set one of them."
        )
    try:
        if wanted == "0":
            raise LeftOutError("SENSORSEQ_CUDA=0")
        toolkit = find_toolkit(environ)
        if named:
            toolkit = dataclasses.replace(toolkit, codes=_codes_named(named))
        elif not wanted:
            toolkit = dataclasses.replace(toolkit, codes=_codes_here(environ))
    except LeftOutError as reason:
        if wanted == "1" or named:
            setting = f"SENSORSEQ_CUDA_ARCHS={named}" if named else "SENSORSEQ_CUDA=1"
            sys.exit(f"sensorseq: CUDA is wanted ({setting}) but cannot be built: {reason}.")
        print(f"sensorseq: CUDA is left out: {reason}.", flush=True)
        return None
    is_whole = toolkit.codes == Toolkit.codes
    print(
        f"sensorseq: CUDA for {','.join(toolkit.codes)} by nvcc {toolkit.version}"
        f"{'' if is_whole else f'; {FOR_ALL}'}",
        flush=True,
    )
    return toolkit


def codes_for(capability: tuple[int, int]) -> tuple[str, ...]:
    """Return the architectures that serve GPUs of a compute capability, or an empty tuple."""
    major, minor = capability
    served = range(10 * major, 10 * major + minor + 1)
    machine_code = [code for code in PORTABLE if code[:3] == "sm_" and int(code[3:]) in served]
    if not machine_code and 10 * major > int(PORTABLE[-1].removeprefix("compute_")):
        return PORTABLE[-1:]
    return (*machine_code[-1:], *([HOPPER] if capability == (9, 0) else []))


def _codes_of(capabilities: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    needed = {code for capability in capabilities for code in codes_for(capability)}
    return tuple(code for code in Toolkit.codes if code in needed)


def _capability(text: str) -> tuple[int, int] | None:
    match = re.fullmatch(r"(\d+)\.(\d)", text)
    return (int(match[1]), int(match[2])) if match else None


def _codes_named(named: str) -> tuple[str, ...]:
    capabilities = []
    for name in re.split(r"[\s,]+", named.strip()):
        capability = _capability(name)
        if capability is None or not codes_for(capability):
            sys.exit(
                f"sensorseq: SENSORSEQ_CUDA_ARCHS has {name!r}; expected compute capabilities that"
                f" {', '.join(Toolkit.codes)} serve, such as 8.6,9.0."
            )
        capabilities.append(capability)
    return _codes_of(capabilities)


def _codes_here(environ: Mapping[str, str]) -> tuple[str, ...]:
    visible = {k: v for k, v in environ.items() if k != "CUDA_VISIBLE_DEVICES"}  # all are there
    said = _say([sys.executable, "-I", "-c", ASK_DRIVER], visible)
    here = [found for line in said.splitlines() if (found := _capability(line))]
    if not here:
        raise LeftOutError(f"no driver reports a GPU; {FOR_ALL}")
    codes = _codes_of(here)
    if not codes:
        names = ", ".join(f"{major}.{minor}" for major, minor in sorted(set(here)))
        raise LeftOutError(f"no kernel serves compute capability {names}")
    return codes


def _gencode(code: str) -> str:
    return f"-gencode=arch=compute_{code.rpartition('_')[2]},code={code}"


def find_toolkit(environ: Mapping[str, str]) -> Toolkit:
    """Find nvcc in CUDA_HOME or on PATH, and query its version and libraries."""
    home = environ.get("CUDA_HOME")
    path = environ.get("PATH", "")
    nvcc = shutil.which("nvcc", path=f"{home}/bin" if home else "")
    nvcc = nvcc or shutil.which("nvcc", path=path)
    if nvcc is None:
        raise LeftOutError("there is no nvcc on PATH or in CUDA_HOME")
    version = re.search(r"V(\d+)\.(\d+)\.\d+", _say([nvcc, "--version"], environ))
    if version is None:
        raise LeftOutError(f"{nvcc} --version names no version")
    if (int(version[1]), int(version[2])) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise LeftOutError(f"{nvcc} is {version[0][1:]}, and {needed} is needed")
    # nvcc may be a script in another folder; its dry run prints where its libraries are
    told = _say([nvcc, "--dryrun", "-x", "cu", "-c", "/dev/null"], environ)
    folders = [Path(folder) for folder in re.findall(r'"-L([^"]+)"', told)]
    for top in re.findall(r"^#\$ TOP=(.+)$", told, re.MULTILINE):
        folders += [Path(top.strip()) / "lib64", Path(top.strip()) / "lib"]
    for folder in folders:
        if (folder / "libcudart_static.a").exists():
            return Toolkit(nvcc, version[0][1:], (folder / "libcudart_static.a").resolve())
    raise LeftOutError(f"libcudart_static.a is not beside {nvcc}")


def is_current(toolkit: Toolkit) -> bool:
    """Return whether the objects are those that this toolkit would make of today's sources."""
    return not any(_File(toolkit, source, FOLDER, False).is_stale() for source in SOURCES)


def compile_changed(
    toolkit: Toolkit,
    sources: Sequence[Path] = SOURCES,
    folder: Path = FOLDER,
    *,
    warnings_are_errors: bool = False,
) -> list[Path]:
    """Compile the files that changed or whose headers changed; return all objects.

    Beside each ``<name>.o`` is ``<name>.ptxas``, the output of the compilers: registers and memory
    of every kernel.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [_File(toolkit, source, folder, warnings_are_errors) for source in sources]
    stale = [file for file in files if file.is_stale()]
    stale.sort(key=lambda file: file.source.stat().st_size, reverse=True)  # the longest first
    n_jobs = int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)
    with ThreadPoolExecutor(n_jobs) as pool:
        failed = [name for name in pool.map(_File.compile, stale) if name]
    if failed:
        sys.exit(f"sensorseq: nvcc failed on {', '.join(failed)}; what it said is above.")
    return [file.object for file in files]


class _File:
    """A source and its outputs. The command file is written last, so its presence means success."""

    def __init__(self, toolkit: Toolkit, source: Path, folder: Path, strict: bool) -> None:
        self.source, self.strict = source, strict
        self.object, self.depends, self.said, self.done = (
            folder / f"{source.stem}.{suffix}" for suffix in ("o", "d", "ptxas", "command")
        )
        wanted = PORTABLE if source.stem in PORTABLE_SOURCES else (HOPPER,)
        codes = [code for code in wanted if code in toolkit.codes]
        flags = [] if codes else ["-DSENSORSEQ_NO_HOPPER"]  # launches return an error
        self.command = [toolkit.nvcc, *FLAGS, *map(_gencode, codes or toolkit.codes[:1]), *flags]
        self.command += ["-MMD", "-MF", str(self.depends)]
        self.command += ["-c", str(source), "-o", str(self.object)]
        self.fingerprint = f"{toolkit.version}\n{shlex.join(self.command)}\n"

    def is_stale(self) -> bool:
        try:
            if self.done.read_text() != self.fingerprint:
                return True
            said = self.said.read_text()
            if self.strict and "warning" in said:
                return True
            made = self.object.stat().st_mtime_ns
            _, _, headers = self.depends.read_text().replace("\\\n", " ").partition(" : ")
            return any(Path(name).stat().st_mtime_ns >= made for name in shlex.split(headers))
        except FileNotFoundError:
            return True

    def compile(self) -> str:
        """Compile; return the file's name after a failure, otherwise an empty string."""
        self.done.unlink(missing_ok=True)
        started = time.time_ns()
        strict = WARNINGS_ARE_ERRORS if self.strict else []
        finished = subprocess.run(
            [*self.command, *strict],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        seconds = (time.time_ns() - started) / 1e9
        failed = finished.returncode != 0
        print(f"nvcc {self.source.name}: {'failed' if failed else f'{seconds:.0f} s'}", flush=True)
        if failed or "warning" in finished.stdout:
            print(finished.stdout, flush=True)
        if failed:
            return self.source.name
        self.said.write_text(finished.stdout)
        # a file that changes during the compilation is then newer than the object
        os.utime(self.object, ns=(started, started))
        self.done.write_text(self.fingerprint)
        return ""


def _say(command: list[str], environ: Mapping[str, str]) -> str:
    try:
        finished = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            env=dict(environ),
            timeout=60,
        )
    except subprocess.TimeoutExpired:  # a broken driver may hang
        return ""
    return finished.stdout


def main(arguments: list[str]) -> None:
    """Compile, or with --plan only print what would be compiled."""
    if arguments not in ([], ["--plan"]):
        sys.exit("usage: python build_cuda.py [--plan]")
    toolkit = plan()
    if toolkit is not None and not arguments:
        strict = os.environ.get("SENSORSEQ_WERROR") == "1"
        compile_changed(toolkit, warnings_are_errors=strict)


if __name__ == "__main__":
    main(sys.argv[1:])
