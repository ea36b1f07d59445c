"""The core compiles for other systems, and links for macOS, with the headers that zig has."""

import importlib.util
import os
import re
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from checkout import ROOT

FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-c", f"-I{ROOT / 'csrc'}"]
# a compiler for macOS without the libraries of this system
WRAPPER = """#!{python}
import os, sys
gone = ("-L", "-lc10", "-ltorch")
words = [w for w in sys.argv[1:] if not w.startswith(gone) and not w.endswith(".a")]
zig = [{python!r}, "-m", "ziglang", "c++", "-target", "aarch64-macos.13.0", *words, "-O1"]
os.execv(zig[0], zig)
"""
OF_OTHERS = re.compile(r"_(aoti_torch|torch|Py|_Py|random)_?\w+")  # of torch, Python and numpy


@pytest.fixture(scope="module")
def zig():
    """Return a Python that has zig."""
    python = ROOT / ".venv-wheels" / "bin" / "python"
    if importlib.util.find_spec("ziglang"):
        return sys.executable
    if not python.exists():
        pytest.skip("no zig: make wheels installs it")
    return str(python)


@pytest.mark.slow
@pytest.mark.parametrize("system", ["x86_64-windows-gnu", "aarch64-windows-gnu"])
def test_the_core_compiles_without_a_warning(zig, tmp_path, system):
    files = [p for p in (ROOT / "csrc").rglob("*.cpp") if p.parent.name != "bind"]
    assert len(files) > 10

    def compile_file(path):
        command = [zig, "-m", "ziglang", "c++", "-target", system, *FLAGS, path]
        command += ["-o", tmp_path / f"{path.stem}.o"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(compile_file, files))
    assert "".join(result.stderr for result in done if result.returncode) == ""


def open_symbols(path):
    """Return the names that a library for macOS expects from other libraries than the system's."""
    data = path.read_bytes()
    magic, *_, n_commands, _, _, _ = struct.unpack_from("<8I", data)
    assert magic == 0xFEEDFACF
    at, names = 32, set()
    for _ in range(n_commands):
        kind, size, *table = struct.unpack_from("<6I", data, at)
        at += size
        if kind == 2:  # LC_SYMTAB
            first, n_symbols, texts, _ = table
    for row in range(n_symbols):
        text, kind, _, description, _ = struct.unpack_from("<IBBHQ", data, first + 16 * row)
        is_from_system = description >> 8 == 1  # the number of the only library that is linked
        if not kind & 0xEE and kind & 1 and not is_from_system:
            names.add(data[texts + text : data.index(b"\0", texts + text)].decode())
    return names


@pytest.mark.slow
def test_setup_builds_for_macos_and_nothing_of_ours_is_left_open(zig, tmp_path):
    compiler = tmp_path / "compiler"
    compiler.write_text(WRAPPER.format(python=zig))
    compiler.chmod(0o755)
    link = f"{compiler} -dynamiclib -undefined dynamic_lookup"  # zig crashes with -bundle
    environment = {
        **os.environ,
        **dict.fromkeys(("CC", "CXX"), str(compiler)),
        **dict.fromkeys(("LDSHARED", "LDCXXSHARED"), link),
        "_PYTHON_HOST_PLATFORM": "macosx-13.0-arm64",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SENSORSEQ_CUDA": "0",
        "SENSORSEQ_WERROR": "1",
        "MAX_JOBS": "2",
    }
    places = ["--build-lib", tmp_path / "lib", "--build-temp", tmp_path / "objects"]
    command = [sys.executable, "setup.py", "-q", "build_ext", *places]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    libraries = {path.name.partition(".")[0]: path for path in (tmp_path / "lib").rglob("*.so")}
    assert sorted(libraries) == ["_core", "_ops", "_signal"]
    left = {name: open_symbols(path) for name, path in libraries.items()}
    assert left["_core"] == set()
    assert all(any(n.startswith(of) for n in left["_ops"]) for of in ("_torch_", "_aoti_torch_"))
    assert [n for names in left.values() for n in names if not OF_OTHERS.fullmatch(n)] == []
