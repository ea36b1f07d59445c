"""A root folder for aarch64 with Python and numpy, and an emulator that runs programs in it."""

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

PYTHON = "3.11"  # Debian 12's version
PACKAGES = """libc6 libgcc-s1 libstdc++6 zlib1g libexpat1 libffi8 libbz2-1.0 liblzma5 libuuid1
              libssl3 python3.11-minimal libpython3.11-minimal libpython3.11-stdlib"""
NUMPY = "2.3.5"


def attempt(command, **more):
    """Run a command; skip the test if it fails, for example without a network."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    if done.returncode:
        pytest.skip(f"{command[0]} {command[1]} failed: {(done.stderr or done.stdout)[-300:]}")


def find_emulator():
    """Return the command that runs programs for aarch64, or skip the test."""
    emulator = next(filter(shutil.which, ("qemu-aarch64", "qemu-aarch64-static")), None)
    if emulator is None:
        pytest.skip("no qemu-aarch64: on Debian, apt-get install qemu-user")
    return emulator


def make_root(folder):
    """Unpack Debian's Python and numpy's wheel for aarch64 into a folder that lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another worker of pytest may be making the root
        return _made(folder, folder / "root")


def _made(folder, root):
    if (root / "complete").exists():
        return root
    shutil.rmtree(root, ignore_errors=True)
    for subfolder in ("lists/partial", "cache/archives/partial", "debs", "root"):
        (folder / subfolder).mkdir(parents=True, exist_ok=True)
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State::Lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": 1,
        "APT::Update::Error-Mode": "any",  # fail if a package list is missing
    }
    apt = [
        "apt-get",
        *(word for name, value in settings.items() for word in ("-o", f"{name}={value}")),
    ]
    attempt([*apt, "update"])
    attempt([*apt, "download", *PACKAGES.split()], cwd=folder / "debs")
    for package in sorted((folder / "debs").glob("*.deb")):
        attempt(["dpkg-deb", "-x", str(package), str(root)])
    wheels = ["--platform=manylinux_2_27_aarch64", f"--python-version={PYTHON}"]
    wheels += ["--only-binary=:all:", "--no-deps", "--quiet", f"--dest={folder}"]
    attempt([sys.executable, "-m", "pip", "download", *wheels, f"numpy=={NUMPY}"])
    (numpy,) = folder.glob(f"numpy-{NUMPY}-*.whl")
    zipfile.ZipFile(numpy).extractall(root / "site")
    (root / "complete").touch()
    return root


class Aarch64:
    """Runs Python programs for aarch64 with access to a wheel and numpy."""

    def __init__(self, folder, wheel):
        self._emulator = find_emulator()
        if not all(map(shutil.which, ("apt-get", "dpkg-deb"))):
            pytest.skip("no Debian, whose packages make the root")
        self._root = make_root(folder)
        self._site = Path(self._root / wheel.name.partition("-")[0])
        shutil.rmtree(self._site, ignore_errors=True)
        zipfile.ZipFile(wheel).extractall(self._site)

    def run(self, *arguments):
        """Run Python with these arguments and return its output."""
        python = self._root / "usr" / "bin" / f"python{PYTHON}"
        paths = [self._site, self._root / "site"]
        environment = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "2"}
        # a Raspberry Pi 4: on qemu's default processor, OpenBLAS computes wrong float32 products
        command = [self._emulator, "-cpu", "cortex-a72", "-L", str(self._root)]
        command += [str(python), *map(str, arguments)]
        done = subprocess.run(
            command,
            env=environment,
            cwd=self._root,  # a checkout's files would be imported first
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
