"""The core compiles for other systems, with the headers that zig has for these systems."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from checkout import ROOT

FLAGS = ["-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
FLAGS += ["-c", f"-I{ROOT / 'csrc'}"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "system", ["aarch64-macos.13.0", "x86_64-windows-gnu", "aarch64-windows-gnu"]
)
def test_the_core_compiles_without_a_warning(tmp_path, system):
    python = ROOT / ".venv-wheels" / "bin" / "python"
    if not python.exists():
        pytest.skip("no zig: make wheels installs it")
    files = [p for p in (ROOT / "csrc").rglob("*.cpp") if not p.name.startswith("bindings")]
    assert len(files) > 10

    def compile_file(path):
        command = [python, "-m", "ziglang", "c++", "-target", system, *FLAGS, path]
        command += ["-o", tmp_path / f"{path.stem}.o"]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(compile_file, files))
    assert "".join(result.stderr for result in done if result.returncode) == ""
