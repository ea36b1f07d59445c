"""The native core without torch and Python: under sanitizers, and on another processor."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aarch64 import find_emulator

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "native"  # a program is in the folder of the same name as what it tests
COMPILER = os.environ.get("CXX", "g++")
FLAGS = ["-std=c++17", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
SANITIZED = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
PROGRAMS = (
    "test_lstm",
    "test_bits",
    "test_lstm_linear_loss",
    "test_train_epoch",
    "test_thread_pool",
    "test_resample",
)
SIGNAL_PROGRAMS = (
    "test_moving",
    "test_window",
    "test_random_convolutions",
    "test_augment",
)
# test_lstm is left out because test_bits covers its threads, the others because they use one thread
THREADED = (*PROGRAMS[1:], *SIGNAL_PROGRAMS[2:])
# arguments of test_emulated_epoch; the seeds cover every size, pooling, optimizer and precision
FEW_STEPS = ("2", "4", "6", "9", "11", "poison")


def build(folder, compiler, *flags, programs=(*PROGRAMS, *SIGNAL_PROGRAMS), of="**/*.cpp"):
    """Compile the files of the core that match `of`, and link every program with their objects."""
    if shutil.which(compiler) is None:
        pytest.skip(f"no C++ compiler {compiler!r}")
    core = [p for p in sorted((ROOT / "csrc").glob(of)) if p.parent.name != "bind"]
    sources = [*core, *(path for path in HERE.glob("*/test_*.cpp") if path.stem in programs)]
    command = [compiler, *FLAGS, *flags, f"-I{ROOT / 'csrc'}", f"-I{HERE}"]
    jobs = [
        [*command, "-c", str(source), "-o", str(folder / f"{source.stem}.o")] for source in sources
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert list(pool.map(subprocess.call, jobs)) == [0] * len(jobs)
    objects = [str(folder / f"{source.stem}.o") for source in core]
    for program in programs:
        link = [str(folder / f"{program}.o"), *objects, "-pthread", "-o", str(folder / program)]
        subprocess.run([compiler, *flags, *link], check=True)


def run(*command):
    # one race causes thousands of reports
    environment = {**os.environ, "TSAN_OPTIONS": "halt_on_error=1"}
    for _ in range(10):  # each start uses new random addresses
        finished = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment
        )
        has_no_place = "ThreadSanitizer: unexpected memory mapping" in finished.stderr
        if not has_no_place:
            break
    print(finished.stdout)
    if has_no_place:
        pytest.skip("this ThreadSanitizer fails with this kernel's address randomization")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "all passed" in finished.stdout
    return finished.stdout


@pytest.fixture(scope="module")
def checked(built_once):
    """Build programs under AddressSanitizer and UBSan."""
    return built_once("checked", lambda folder: build(folder, COMPILER, *SANITIZED))


@pytest.fixture(scope="module")
def threaded(built_once):
    """Build programs under ThreadSanitizer."""
    flags = ["-O1", "-g1", "-fsanitize=thread"]
    return built_once("threaded", lambda folder: build(folder, COMPILER, *flags, programs=THREADED))


@pytest.fixture(scope="module")
def aarch64(built_once):
    """Build programs for ARM with the flags of setup.py; return the emulator and their folder."""
    emulator = find_emulator()
    compiler = os.environ.get("CXX_AARCH64", "aarch64-linux-gnu-g++")
    flags = ["-O3", "-fno-math-errno", "-static"]
    return emulator, built_once("aarch64", lambda folder: build(folder, compiler, *flags))


@pytest.mark.native
def test_the_kernels_agree_with_a_double_reference_and_touch_nothing_else(checked):
    run(checked / "test_lstm")


@pytest.mark.native
def test_an_output_has_the_same_bits_whatever_else_the_call_computes(checked):
    run(checked / "test_bits")


@pytest.mark.native
def test_the_loss_and_its_gradients_agree_with_a_double_reference(checked):
    run(checked / "test_lstm_linear_loss")


@pytest.mark.native
def test_the_epoch_engine_descends_along_the_slope_of_its_loss_and_touches_nothing_else(checked):
    run(checked / "test_train_epoch")


def build_emulated_steps(folder, *flags):
    """Compile the emulated GPU's steps with `flags`, and the CPU's steps without optimization."""
    cuda = HERE / "cuda"
    core = [p for folder in ("base", "cpu") for p in (ROOT / "csrc" / folder).glob("*.cpp")]
    sources = {
        cuda / "test_emulated_epoch.cpp": flags or ["-O1"],
        cuda / "emulator.cpp": flags or ["-O2"],
        **{p: ["-O0"] for p in core},
    }
    # GCC warns about vectors passed by value, and mistakes fibers for longjmp
    command = [COMPILER, *FLAGS, "-Wno-psabi", "-Wno-clobbered"]
    command += [f"-I{path}" for path in (ROOT / "csrc", HERE, cuda)]
    jobs = [
        [*command, *of, "-c", str(path), "-o", str(folder / f"{path.stem}.o")]
        for path, of in sources.items()
    ]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        assert list(pool.map(subprocess.call, jobs)) == [0] * len(jobs)
    objects = map(str, folder.glob("*.o"))
    link = [COMPILER, *flags, *objects, "-pthread", "-o", str(folder / "steps")]
    subprocess.run(link, check=True)
    return folder / "steps"


@pytest.mark.native
def test_training_steps_of_the_emulated_gpu_agree_with_the_cpu(tmp_path):
    run(build_emulated_steps(tmp_path))


@pytest.fixture(scope="module")
def checked_steps(built_once):
    """Build training steps on the emulated GPU with sanitizers, which make them 8 times as slow."""
    return built_once("steps", lambda folder: build_emulated_steps(folder, *SANITIZED)) / "steps"


@pytest.mark.native
def test_training_steps_of_the_emulated_gpu_touch_nothing_else(checked_steps):
    run(checked_steps, *FEW_STEPS)


@pytest.mark.native
@pytest.mark.slow
def test_all_training_steps_of_the_emulated_gpu_touch_nothing_else(checked_steps):
    run(checked_steps)


@pytest.mark.native
def test_the_thread_pool_runs_every_task_once_and_touches_nothing_else(checked):
    run(checked / "test_thread_pool", "threads")


@pytest.mark.native
def test_the_thread_pool_survives_a_fork(tmp_path):
    program = "test_thread_pool"
    build(tmp_path, COMPILER, "-O1", programs=[program], of="base/thread_pool.cpp")
    run(tmp_path / program)


@pytest.mark.native
def test_filtered_streams_follow_their_definition_and_touch_nothing_else(checked):
    run(checked / "test_resample")


@pytest.mark.native
def test_windows_are_gathered_within_their_arrays(checked):
    run(checked / "test_window")


@pytest.mark.native
def test_random_convolutions_follow_their_definition_and_touch_nothing_else(checked):
    run(checked / "test_random_convolutions")


@pytest.mark.native
def test_changed_windows_keep_their_bits_and_touch_nothing_else(checked):
    run(checked / "test_augment")


@pytest.mark.native
def test_moving_statistics_keep_their_contract_and_touch_nothing_else(checked):
    run(checked / "test_moving")


@pytest.mark.native
@pytest.mark.parametrize("program", THREADED)
def test_no_two_threads_touch_one_place(threaded, program):
    run(threaded / program, "threads")


@pytest.mark.native
@pytest.mark.slow
@pytest.mark.parametrize("isa", ["neon", "baseline"])
@pytest.mark.parametrize("program", [name for name in PROGRAMS if name != "test_thread_pool"])
def test_on_arm_an_instruction_set_keeps_the_same_laws(aarch64, program, isa):
    emulator, folder = aarch64
    output = run(emulator, "-E", f"SENSORSEQ_CPU_ISA={isa}", folder / program)
    assert f"{isa}: checked" in output


@pytest.mark.native
@pytest.mark.slow
@pytest.mark.parametrize("program", ["test_thread_pool", *SIGNAL_PROGRAMS])
def test_on_arm_the_preprocessing_loops_and_threads_keep_their_contract(aarch64, program):
    emulator, folder = aarch64
    # qemu terminates a child that starts a thread if the child's parent had threads
    run(emulator, folder / program, "threads")
