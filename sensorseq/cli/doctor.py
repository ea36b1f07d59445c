"""The commands that check an installation or describe a file: doctor and info."""

from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from sensorseq.cli import options as opt
from sensorseq.cli.app import FAILED, command
from sensorseq.cli.output import print_result
from sensorseq.errors import ArgumentError


@command("sensorseq doctor --self", "sensorseq doctor --gpu --json")
def doctor(
    installation: Annotated[bool, Option("--self", help="Check the installed package.")] = False,
    gpu: Annotated[bool, Option("--gpu", help="Check the CUDA kernels.")] = False,
    as_json: opt.Json = False,
) -> None:
    """Check the installation; the exit code is 1 if a check fails.

    With --self, the command compares the compiled kernels with float64, trains a small model, and
    saves it. With --gpu, the command runs every CUDA kernel on this GPU and compares the results
    with float64, which takes at most a minute. Kernels that pass are used from then on, unless
    SENSORSEQ_CUDA_KERNELS=0.
    """
    if installation == gpu:
        raise ArgumentError("give either --self or --gpu; to check windows, use `inspect FILE`.")
    if gpu:
        _check_gpu(as_json)
    else:
        _check_installation(as_json)


def _check_gpu(as_json: bool) -> None:
    from sensorseq.ops import cuda_kernels, gpu_check

    mode = cuda_kernels.switch()

    def show(result: gpu_check.Result) -> None:
        if not as_json:
            print(gpu_check.format_result(result), flush=True)

    results = gpu_check.check_gpu(on_result=show)
    n_passed = sum(result.outcome == "passed" for result in results)
    serves = {
        cuda_kernels.OFF: f"torch's LSTM is used; to use the kernels that passed, set"
        f" {cuda_kernels.SWITCH}={cuda_kernels.AUTO}",
        cuda_kernels.AUTO: "the kernels that passed every run are used from now on",
        cuda_kernels.FORCED: "all kernels are used, because"
        f" {cuda_kernels.SWITCH}={cuda_kernels.FORCED}",
    }[mode]
    result_of_all = {
        "passed": n_passed == len(results),
        "checks": [result._asdict() | {"case": result.case.name} for result in results],
        "serves": serves,
    }
    print_result(result_of_all, f"\n{n_passed} of {len(results)} runs passed; {serves}", as_json)
    if n_passed < len(results):
        raise typer.Exit(FAILED)


def _check_installation(as_json: bool) -> None:
    from sensorseq.cli import self_check

    results = self_check.check_installation()
    passed = all(result.status == "passed" for result in results)
    result_of_all = {"passed": passed, "checks": [result._asdict() for result in results]}
    print_result(result_of_all, self_check.format_results(results), as_json)
    if not passed:
        raise typer.Exit(FAILED)


@command("sensorseq info terrain.safetensors", "sensorseq info")
def info(
    path: Annotated[
        Path | None,
        Argument(metavar="[FILE]", help="Model or prepared file [default: this installation]."),
    ] = None,
    as_json: opt.Json = False,
    no_verify: opt.NoVerify = False,
) -> None:
    """Describe a model, a prepared file, or this installation."""
    from sensorseq.evaluation import inspect as described

    description = (
        described.describe_installation() if path is None else described.describe_file(path)
    )
    show = described.format_installation if path is None else described.format_file
    print_result(description, show(description), as_json)
