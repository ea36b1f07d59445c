"""The installation contains every package and file, and works without a compiler on old systems."""

import os
import platform
import re
import runpy
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path

import pytest
from page_links import leads_somewhere, links_of

import sensorseq

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
NOT_SHIPPED = ("*.so", "*.pyc", "*.o")
LINKED = ("gcc", "zig", "numpy", "pybind11")  # the runtime's wheel has only the first two
# The newest glibc that a wheel may need: for x86_64, that of torch's wheels since 2.11 (there is no
# torch for older systems); for aarch64, that of Ubuntu 20.04.
NEWEST_SYSTEM = {"x86_64": (2, 28), "aarch64": (2, 31)}


def package_of(folder):
    return ".".join(folder.relative_to(ROOT).parts)


def fits(path, folder, pattern):
    return path.is_relative_to(folder) and fnmatch(str(path.relative_to(folder)), pattern)


def test_every_package_is_installed():
    on_disk = {package_of(path.parent) for path in (ROOT / "sensorseq").rglob("__init__.py")}
    assert set(SETTINGS["packages"]) == on_disk | {"sensorseq.data"}


def test_every_file_of_a_package_is_installed():
    listed = [
        (ROOT / package.replace(".", "/"), pattern)
        for package, patterns in SETTINGS["package-data"].items()
        for pattern in patterns
    ]
    files = [path for path in (ROOT / "sensorseq").rglob("*") if path.is_file()]
    shipped = {path for folder, pattern in listed for path in files if fits(path, folder, pattern)}
    made = {path for path in files if any(fnmatch(path.name, name) for name in NOT_SHIPPED)}
    assert {path for path in files if path.suffix != ".py"} - shipped - made == set()


def test_the_image_copies_a_wheel_and_checks_it():
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    instructions = [line.split()[0] for line in lines if re.match(r"[A-Z]+ ", line)]
    assert instructions == ["FROM", "ARG", "COPY", "RUN", "RUN", "USER", "WORKDIR", "ENTRYPOINT"]
    text = "\n".join(lines)
    image, wheel = re.search(r"python:3\.(\d+)", text), re.search(r"-cp3(\d+)-\S*\.whl", text)
    assert image[1] == wheel[1]
    assert "sensorseq doctor --self" in text
    assert (ROOT / ".dockerignore").read_text().split() == ["*", "!dist"]


def set_up(platform):
    """Run setup.py as on another platform."""
    environment = {**os.environ, "_PYTHON_HOST_PLATFORM": platform}
    command = [sys.executable, "-W", "ignore", "setup.py", "--version"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_an_unsupported_system_is_refused_in_one_sentence():
    done = set_up("win-amd64")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("sensorseq: win-amd64 is not supported, only Linux and macOS")
    assert done.stderr.count("\n") == 1


def test_on_macos_one_line_warns_and_names_the_check():
    done = set_up("macosx-13.0-arm64")
    assert done.returncode == 0, done.stderr
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("sensorseq:"))
    assert "nobody has run it on macOS" in line
    assert "sensorseq doctor --self" in line


def test_every_page_and_the_changelog_have_the_version_of_the_package():
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    named = {
        version
        for page in pages
        for version in re.findall(r"sensorseq(?:_runtime)?-(\d[\d.]*\d)", page.read_text("utf-8"))
    }
    assert named == {sensorseq.__version__}
    changes = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"^## (\S+)", changes, re.MULTILINE)[1] == sensorseq.__version__
    assert metadata.version("sensorseq") == sensorseq.__version__


def test_the_changelog_describes_the_first_release_in_a_thousand_words():
    page = ROOT / "CHANGELOG.md"
    text = page.read_text("utf-8")
    assert len(text.split()) <= 1000
    assert re.findall(r"^## .*", text, re.MULTILINE) == ["## 0.1.0 (not released yet)"]
    earlier = "formerly|no longer|earlier|previous(ly)?|renamed|removed?|replace[ds]?|anymore|now"
    assert re.search(rf"\b({earlier}|(is|are) new|used to)\b", text, re.IGNORECASE) is None
    assert [target for target in links_of(page) if not leads_somewhere(page, target)] == []


def neighbors(age):
    """Return what `make test-oldest` or `make test-newest` installs, without torch, and torch."""
    script = runpy.run_path(ROOT / "scripts" / "neighbors.py")
    lines = [line.partition(" ;")[0] for line in script["iter_requirements"](age)]
    (torch,) = (line for line in lines if line.startswith("torch"))
    return [line for line in lines if line != torch], torch


def test_the_oldest_packages_have_the_lower_bounds_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    text = text[: text.index("\ndocs = [")] + text[text.index("\ndev = [") :]
    bounds = dict(re.findall(r'"([\w-]+)>=([\d.]+)[",]', text))
    assert set(bounds) >= {"h5py", "numpy", "pandas", "scikit-learn"}
    del bounds["torch"], bounds["asammdf"]  # torch stays pinned, and asammdf needs a newer numpy
    oldest, _ = neighbors("oldest")
    assert dict(line.split("==") for line in oldest if "==" in line) == bounds


def test_the_newest_packages_have_the_bounds_of_pyproject():
    text = (ROOT / "pyproject.toml").read_text("utf-8")
    newest, _ = neighbors("newest")
    assert [line for line in newest if "==" in line] == []
    for name in ("h5py", "numpy", "pandas", "scikit-learn"):
        (line,) = (line for line in newest if line.startswith(f"{name}>"))
        assert f'"{line}"' in text


@pytest.mark.parametrize("age", ["oldest", "newest"])
def test_beside_the_pins_torch_stays_and_no_tool_is_newer(age):
    lines = (ROOT / "requirements" / "core.txt").read_text("utf-8").splitlines()
    pinned = {line.partition(" ;")[0] for line in lines}
    others, torch = neighbors(age)
    assert torch in pinned
    tools = {line.replace("<=", "==") for line in others if re.fullmatch(r"[\w-]+<=.*", line)}
    assert "pytest" in {tool.split("==")[0] for tool in tools}
    assert tools <= pinned


@pytest.mark.slow
def test_a_wheel_installs_without_a_compiler_and_checks_itself(tmp_path):
    tools, output = tmp_path / "tools", tmp_path / "dist"
    subprocess.run([sys.executable, "-m", "venv", tools], check=True)
    python = tools / "bin" / "python"
    pip = [python, "-m", "pip", "--quiet", "install", "--requirement"]
    requirements = ROOT / "requirements" / "wheels.txt"
    tried = subprocess.run([*pip, requirements], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"the tools cannot be installed here: {tried.stderr.strip()[-200:]}")
    script = [python, ROOT / "scripts" / "build_wheels.py", "--torch-python", sys.executable]
    done = subprocess.run(
        [*script, "--pythons", sys.executable, "--output", output],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The script has installed the wheel and run `sensorseq doctor --self`.
    results = [line for line in done.stdout.splitlines() if not line.startswith("sensorseq")]
    assert [line[:6] for line in results[:6]] == ["passed"] * 6
    for machine, newest in NEWEST_SYSTEM.items():
        if results[6:] == [f"no wheels for {machine}: there is no {machine}-linux-gnu-g++"]:
            continue
        (wheel,) = output.glob(f"sensorseq-*_{machine}.whl")
        (runtime,) = output.glob(f"sensorseq_runtime-*-py3-none-manylinux_*_{machine}.whl")
        assert runtime.stat().st_size < 5e6
        version = re.search(rf"manylinux_(\d+)_(\d+)_{machine}", wheel.name).groups()
        assert tuple(map(int, version)) <= newest
        assert wheel.stat().st_size < 8e6
        libraries = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
        suffix = sysconfig.get_config_var("EXT_SUFFIX").replace(platform.machine(), machine)
        names = {"_core.abi3.so", "_ops.abi3.so", f"_signal{suffix}"}
        assert {Path(name).name for name in libraries} == names
        for parts, file in ((LINKED, wheel), (LINKED[:2], runtime)):
            licenses = zipfile.ZipFile(file).namelist()
            own = {Path(name).name for name in licenses if "/licenses/LICENSE" in name}
            assert own == {"LICENSE", *(f"LICENSE.{part}.txt" for part in parts)}
        for name in libraries:
            header = zipfile.ZipFile(wheel).read(name)[:20]
            assert header[18] == {"x86_64": 62, "aarch64": 183}[machine]  # e_machine of ELF
    with tarfile.open(*output.glob("*.tar.gz")) as archive:
        names = {Path(name).relative_to(Path(name).parts[0]) for name in archive.getnames()}
    assert {Path("setup.py"), Path("csrc/cpu/train_epoch.cpp"), Path("LICENSE")} <= names
