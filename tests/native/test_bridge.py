"""The bridge test of benchmarks/cuda, with the emulator in place of a GPU."""

import json
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import bridge_mutants
import pytest

pytestmark = pytest.mark.native

COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-ffp-contract=off", "-O0", "-Wall", "-Wextra", "-Werror"]
# flag of the emulator that replaces the GPU; the original emulator is linked, too
AS_DEVICE = "-Demulator=device"
EMULATOR, PROGRAM = bridge_mutants.EMULATOR, bridge_mutants.PROGRAM


def compile_one(source, target, *flags, first=()):
    includes = [f"-I{folder}" for folder in (*first, *bridge_mutants.INCLUDES)]
    command = [COMPILER, *FLAGS, *flags, *includes, "-c", source, "-o", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def link(target, *objects):
    subprocess.run([COMPILER, *objects, "-o", target], check=True)
    return target


def run(program, *arguments):
    return subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, timeout=60
    )


@pytest.fixture(scope="module")
def objects(built_once):
    """Compile the host's half, and an emulator without a fault as the device."""
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")
    return built_once("bridge", build)


def build(folder):
    jobs = [
        (PROGRAM / "bridge_host.cpp", folder / "host.o"),
        (EMULATOR / "emulator.cpp", folder / "emulator.o"),
        (EMULATOR / "bridge_on_host.cpp", folder / "main.o"),
        (EMULATOR / "bridge_device.cpp", folder / "device.o", AS_DEVICE),
        (EMULATOR / "emulator.cpp", folder / "device_emulator.o", AS_DEVICE),
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda job: compile_one(*job), jobs))


HOST = ("host.o", "emulator.o", "main.o")


def test_the_emulator_agrees_with_the_manual(objects, tmp_path):
    program = link(tmp_path / "bridge", *objects.glob("*.o"))
    done = run(program, "6")
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) > 50
    assert all(row["right"] and row["beside_manual"] <= row["allowed"] for row in rows)


def wrong_rows(mutants, objects, folder):
    """Return the rows that are wrong if a faulty emulator serves as the device."""
    changed = folder / "changed"
    bridge_mutants.plant(mutants, EMULATOR, changed)
    flags = [AS_DEVICE, "-Wno-unused", "-Wno-sign-compare"]
    emulator, device = folder / "emulator.o", objects / "device.o"
    compile_one(changed / "emulator.cpp", emulator, *flags)
    if any(mutant.file.endswith(".h") for mutant in mutants):  # recompile the probe, too
        device = folder / "device.o"
        compile_one(EMULATOR / "bridge_device.cpp", device, *flags, first=[changed])
    done = run(link(folder / "bridge", emulator, device, *(objects / name for name in HOST)), "1")
    assert done.returncode == 1, done.stderr
    return [row["what"] for row in json.loads(done.stdout) if not row["right"]]


def test_a_row_is_wrong_for_every_fault_of_the_device(objects, tmp_path):
    groups = bridge_mutants.OF_EMULATOR

    def of_one(number):
        folder = tmp_path / str(number)
        folder.mkdir()
        return wrong_rows(groups[number], objects, folder)

    with ThreadPoolExecutor(2) as pool:
        for group, rows in zip(groups, pool.map(of_one, range(len(groups))), strict=True):
            for mutant in group:
                assert any(mutant.row in row for row in rows), (mutant, rows)


def test_the_probe_calls_every_function_of_the_device():
    # IsLast is called through IsLastOfCtas
    files = ("portable_machine.cuh", "device_machine.cuh")
    texts = [(bridge_mutants.MACHINE / name).read_text() for name in files]
    common = texts[0].split("class PortableMachine")[0].split(" protected:")[0]
    public = common + texts[1].split(" private:")[0]
    functions = set(re.findall(r"SENSORSEQ_BODY (?:static )?[\w ]+ (\w+)\(", public))
    probe = (PROGRAM / "bridge_probe.h").read_text()
    called = set(re.findall(r"\bm_?\.(?:template )?(\w+)[(<]", probe))
    assert {"Mma", "IsLastOfCtas", "Lane", "PerLane"} <= functions
    assert functions <= called, sorted(functions - called)


def test_it_compiles_for_a_gpu(tmp_path):
    if shutil.which("nvcc") is None:
        pytest.skip("no nvcc")
    device = bridge_mutants.SOURCES[:1]
    bridge_mutants.compile_bridge(tmp_path / "bridge.ptx", "-ptx", sources=device)
