"""Supervision of workers (here, stand-ins) that give right or wrong results, hang or die."""

import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from sensorseq.ops.cuda_kernels import ALL_KERNELS, kernels_on
from sensorseq.ops.gpu_check import Case, check_kernels, make_cases
from sensorseq.ops.kernel_cases import compare_results, expected

CASES = [Case("fp16", 64, 5), Case("fp16x3", 64, 5), Case("fp16", 128, 5)]
FAKE = Path(__file__).with_name("fake_worker.py")


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    for case in CASES:
        results = {name: value.astype(np.float32) for name, value in expected(case).items()}
        np.savez(
            folder / f"{case.precision}-{case.padded_hidden}-{case.n_timesteps}.npz", **results
        )
        if case == CASES[1]:
            gates = "gradient gates"
            changed = results[gates].copy()
            changed.flat[0] += 0.1
            np.savez(folder / "wrong.npz", **results | {gates: changed})
            changed.flat[0] = np.nan
            np.savez(folder / "nan.npz", **results | {gates: changed})
            np.savez(folder / "shape.npz", **results | {gates: changed[..., :1]})
    return folder


def check(values, mischief="none", cases=CASES, **options):
    command = [sys.executable, str(FAKE), str(values), mischief, "fp16x3-64-5"]
    return list(check_kernels(cases, command=command, **options))


def test_correct_results_pass(values):
    results = check(values)
    assert [(r.case, r.outcome) for r in results] == [(case, "passed") for case in CASES]
    assert all(re.fullmatch(r".* is off by \de-\d+, allowed \de-\d+", r.detail) for r in results)


MISCHIEF = [
    ("wrong digits", "wrong", "gradient gates is off by"),
    ("not a number", "wrong", "gradient gates is off by nan, allowed"),
    ("another shape", "wrong", "gradient gates has shape"),
    ("half a file", "wrong", "cannot be read"),
    ("no file", "wrong", "cannot be read"),
    ("other bits", "wrong", "two runs gave different bits"),
    ("raises", "died", "clusters of 8 blocks"),
    ("dies", "died", "SIGABRT: CUDA error: an illegal memory access"),
    ("prints garbage and dies", "died", "exit code 3"),
    ("hangs", "hung", "no answer for 1 s"),
    ("hangs with a child", "hung", "no answer for 1 s"),
    ("prints garbage for ever", "hung", "no answer for 1 s"),
    ("prints garbage, then goes on", "passed", ""),
]


LONG = [case._replace(n_timesteps=6) for case in CASES]


@pytest.fixture(scope="module")
def results(values):
    """Return the results of each mischief; the checks run in parallel, because they mostly wait."""
    for case in LONG:
        name = f"{case.precision}-{case.padded_hidden}"
        (values / f"{name}-6.npz").write_bytes((values / f"{name}-5.npz").read_bytes())
    calls = {"hangs, and long cases follow": partial(check, values, "hangs", cases=[*CASES, *LONG])}
    calls |= {mischief: partial(check, values, mischief) for mischief, _, _ in MISCHIEF}
    with ThreadPoolExecutor(6) as pool:
        running = {name: pool.submit(call, silence_s=1.0) for name, call in calls.items()}
    return {name: done.result() for name, done in running.items()}


@pytest.mark.parametrize(("mischief", "outcome", "detail"), MISCHIEF)
def test_what_goes_wrong_is_named_and_the_next_kernel_is_tried(results, mischief, outcome, detail):
    first, second, third = results[mischief]
    assert (first.outcome, third.outcome) == ("passed", "passed")
    assert (second.case, second.outcome) == (CASES[1], outcome)
    assert detail in second.detail
    assert [r.case for r in (first, second, third)] == CASES


def test_a_kernel_that_hung_is_not_called_again(results):
    of_cases = results["hangs, and long cases follow"]
    outcomes = {r.case: (r.outcome, r.detail) for r in of_cases}
    assert outcomes[CASES[1]][0] == "hung"
    assert outcomes[LONG[1]] == ("not run", "its kernel hung")
    assert {outcomes[case][0] for case in (CASES[0], CASES[2])} == {"passed"}
    assert {outcomes[case][0] for case in (LONG[0], LONG[2])} <= {
        "passed",
        "wrong",
    }  # although it ran


@pytest.mark.parametrize("mischief", ["hangs", "never ready"])
def test_the_time_limit_is_kept_and_the_rest_is_not_run(values, mischief):
    began = time.monotonic()
    results = check(values, mischief, silence_s=60.0, limit_s=0.3)
    assert time.monotonic() - began < 10.0
    assert [r.case for r in results] == CASES
    assert results[-1].outcome == "not run"
    assert {r.outcome for r in results} <= {"passed", "hung", "not run"}


def test_a_missing_command_is_reported_as_a_result(values):
    results = list(check_kernels(CASES, command=["/nowhere/worker"]))
    assert [r.outcome for r in results] == ["died"] * 3


def test_every_kernel_has_a_case_and_short_and_narrow_ones_come_first():
    cases = make_cases()
    assert {case.kernel for case in cases} == ALL_KERNELS
    order = [(case.n_timesteps, case.padded_hidden, case.precision) for case in cases]
    assert order == sorted(order)  # fp16 comes before fp16x3, which needs more CTAs
    sizes = {(case.padded_hidden, case.hidden_size) for case in cases}
    assert {(256, 253), (256, 256), (64, 61), (64, 64)} <= sizes
    of_ampere = make_cases(kernels=kernels_on((8, 6)))
    assert {case.kernel for case in of_ampere} == {("fp32", 32), ("fp32", 64), ("fp32", 96)}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_float32_passes_and_a_small_fault_anywhere_does_not(case):
    exact = expected(case)
    assert compare_results(case, exact, exact)[0]
    for name, value in exact.items():
        faulty = value.copy()
        faulty.flat[-1] += 0.1 * np.linalg.norm(value)
        is_right, detail = compare_results(case, {**exact, name: faulty}, exact)
        assert not is_right
        assert name in detail
    missing = dict(exact)
    del missing["output hidden"]
    assert not compare_results(case, missing, exact)[0]
