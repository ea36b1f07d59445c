"""The CUDA kernels without a GPU: their bodies run in an emulator of a cluster of CTAs."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cuda_mutants import MUTANTS

pytestmark = pytest.mark.native

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "native" / "cuda"
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
UNDEFINED = ["-fsanitize=undefined", "-fno-sanitize-recover=undefined"]
CHECKED = ["-fsanitize=address", *UNDEFINED]
PROGRAMS = ("variants", "bits", "schedules", "bad_values")
# programs, with arguments, that are run on a mutant until one fails; the hidden sizes include one
# that uses a single CTA and one that uses a cluster
SHORT = (
    ("arithmetic",),
    ("bits", "5"),
    ("variants", "1", "5", "100"),
    ("schedules", "3", "64", "128"),
    ("bad_values", "5", "128"),
    ("bits", "100"),
)
SHORT_SIZES = 64 + 128


def compile_all(jobs):
    """Compile all jobs (source, object, flags), as many at a time as there are cores."""

    def compile_one(job):
        source, target, flags = job
        command = [COMPILER, *FLAGS, *flags, f"-I{ROOT / 'csrc'}", f"-I{ROOT / 'tests' / 'native'}"]
        command += [f"-I{HERE}", "-c", str(source), "-o", str(target)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(compile_one, jobs))


def calls(folder, *flags, csrc=None):
    """Return jobs that compile the kernels' bodies, from the folder `csrc` if it is given."""
    flags = [*([f"-I{csrc}"] if csrc else []), *flags]
    return [
        (HERE / "emulated_calls.cpp", folder / "calls.o", flags),
        (HERE / "emulated_portable.cpp", folder / "portable.o", flags),
        (HERE / "test_emulated_arithmetic.cpp", folder / "arithmetic.o", flags),
        *(
            (
                HERE / "emulated_calls_in.cpp",
                folder / f"calls_{n}.o",
                [*flags, f"-DEMULATED_PLANES={n}"],
            )
            for n in (1, 2)
        ),
    ]


def link(target, objects, *flags):
    subprocess.run([COMPILER, *flags, *map(str, objects), "-o", str(target)], check=True)


CALLS = ("calls.o", "calls_1.o", "calls_2.o", "portable.o")


@pytest.fixture(scope="module")
def compiler():
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no C++ compiler {COMPILER!r}")


@pytest.fixture(scope="module")
def fast(compiler, built_once):
    """Build optimized programs, with their objects in the same folder."""
    return built_once("emulated", build_fast)


def build_fast(folder):
    compile_all(
        [
            (HERE / "emulator.cpp", folder / "emulator.o", ["-O2"]),
            # faults are thrown on the stacks of fibers, which AddressSanitizer does not know
            (HERE / "test_emulator.cpp", folder / "test_emulator.o", ["-O1", *UNDEFINED]),
            *((HERE / f"test_emulated_{p}.cpp", folder / f"{p}.o", ["-O1"]) for p in PROGRAMS),
            *calls(folder, "-O1"),
        ]
    )
    for p in (*PROGRAMS, "arithmetic"):
        link(folder / p, [folder / f"{p}.o", folder / "emulator.o", *(folder / o for o in CALLS)])
    link(folder / "emulator", [folder / "test_emulator.o", folder / "emulator.o"], *UNDEFINED)


@pytest.fixture(scope="module")
def checked(compiler, built_once):
    """Build programs under AddressSanitizer and UBSan.

    Only the emulated machine accesses memory, so it is compiled with both sanitizers. The bodies,
    which are large, are compiled with UBSan only.
    """
    return built_once("emulated-checked", build_checked)


def build_checked(folder):
    programs = ("variants", "bad_values")
    compile_all(
        [
            *calls(folder, "-O1", *UNDEFINED),
            (HERE / "emulator.cpp", folder / "emulator.o", ["-O2", "-g1", *CHECKED]),
            *(
                (HERE / f"test_emulated_{p}.cpp", folder / f"{p}.o", ["-O1", "-g1", *CHECKED])
                for p in programs
            ),
        ]
    )
    for p in programs:
        objects = [folder / f"{p}.o", folder / "emulator.o", *(folder / o for o in CALLS)]
        link(folder / p, objects, *CHECKED)


def run(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all passed" in done.stdout


def test_calls_queue_the_kernels_of_their_size_or_return_an_error(compiler, tmp_path):
    compile_all([(HERE / "test_calls.cpp", tmp_path / "calls.o", ["-O0", *CHECKED])])
    link(tmp_path / "calls", [tmp_path / "calls.o"], *CHECKED)
    run(tmp_path / "calls")


def test_undefined_behavior_of_hardware_is_a_fault_and_its_ordered_variant_is_not(fast):
    run(fast / "emulator")


def test_functions_of_a_lane_are_accurate_to_a_few_units_in_the_last_place(fast):
    run(fast / "arithmetic")


def test_every_variant_has_the_error_of_its_precision(fast):
    run(fast / "variants")


def test_every_variant_stays_within_its_arrays(checked):
    run(checked / "variants", 1, 60, 129)


@pytest.mark.slow
def test_every_variant_of_other_sizes_stays_within_its_arrays(checked):
    run(checked / "variants", 5, 100)


def test_a_row_has_the_same_bits_whatever_its_batch_its_chunks_and_the_models_beside_it(fast):
    run(fast / "bits")


def test_every_schedule_gives_the_same_bits(fast):
    run(fast / "schedules", 12)


@pytest.mark.slow
def test_many_schedules_give_the_same_bits(fast):
    run(fast / "schedules", 400)


@pytest.mark.slow
def test_many_cases_have_the_error_of_their_precision(fast):
    run(fast / "variants", 5)


def test_bad_values_become_nan(fast):
    run(fast / "bad_values")


def test_bad_values_touch_nothing_else(checked):
    run(checked / "bad_values", 5)


@pytest.mark.slow
def test_bad_values_of_clusters_touch_nothing_else(checked):
    run(checked / "bad_values", 128, 256)


def fault_of(mutant, fast, folder):
    """Return the first failure of a program on a mutant (None: the unchanged sources)."""
    csrc = folder / "csrc"
    shutil.copytree(ROOT / "csrc", csrc, ignore=shutil.ignore_patterns("*.cpp", "*.cu", "cpu"))
    shutil.copytree(ROOT / "csrc" / "cpu", csrc / "cpu", ignore=shutil.ignore_patterns("*.cpp"))
    if mutant is not None:
        header = csrc / "cuda" / mutant.header
        text = header.read_text()
        assert mutant.old in text, f"{mutant.header} has no {mutant.old!r}"
        header.write_text(text.replace(mutant.old, mutant.new, 1))
    flags = ["-O0", f"-DEMULATED_HIDDEN={SHORT_SIZES}", "-Wno-unused"]
    compile_all(calls(folder, *flags, csrc=csrc))
    for program, *arguments in SHORT:
        target = folder / program
        if not target.exists():
            at = folder if program == "arithmetic" else fast
            objects = [at / f"{program}.o", fast / "emulator.o", *(folder / o for o in CALLS)]
            link(target, objects)
        command = [str(target), *arguments]
        limit_s = 1800 if mutant is None else 120  # a fault may cause an endless loop
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=limit_s, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{program} does not end"
        if done.returncode != 0:
            return f"{program}: {done.stdout[:200]}"
    return None


@pytest.mark.slow
def test_the_sources_without_a_fault_pass_the_same_programs(fast, tmp_path):
    assert fault_of(None, fast, tmp_path) is None


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_every_planted_fault_is_seen(mutant, fast, tmp_path):
    assert fault_of(mutant, fast, tmp_path) is not None
