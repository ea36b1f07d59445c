"""Check the kernels for `sensorseq doctor --gpu` or the first fit on a GPU; cache the verdict."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from sensorseq.errors import EnvironmentProblemError, OutputError, warn_caller
from sensorseq.gpu_check.cases import make_cases
from sensorseq.gpu_check.supervise import PASSED, Result, check_kernels
from sensorseq.io.atomic import locking, make_folder
from sensorseq.ops import _extension, cuda_kernels


def check_gpu(*, on_result: Callable[[Result], object] | None = None) -> list[Result]:
    """Check every kernel on the current GPU and keep the verdict in the user's cache folder.

    Parameters
    ----------
    on_result : callable, optional
        Called with each result as it is known.

    Raises
    ------
    EnvironmentProblemError
        If there are no kernels, or no GPU that they are for.
    OutputError
        If the cache folder cannot be written, or another process is just checking.
    """
    if gap := _gap(None):
        raise EnvironmentProblemError(f"there are no CUDA kernels to check: {gap}.")
    index = torch.cuda.current_device()
    with _verdict_of(index) as keep:
        results = []
        for result in check_kernels(make_cases(), device=f"cuda:{index}"):
            results.append(result)
            if on_result is not None:
                on_result(result)
        keep(results)
    return results


def check_before_fit(device: str) -> None:
    """Check the kernels before the first fit on a GPU; warn about failures, but never raise.

    It does nothing unless SENSORSEQ_CUDA_KERNELS is ``auto`` and this GPU has no verdict.
    """
    if device == "cpu" or cuda_kernels.switch() != cuda_kernels.AUTO:
        return
    index = torch.device("cuda" if device == "auto" else device).index
    if _gap(index) or cuda_kernels.read_verdict(index) is not None:
        return
    index = torch.cuda.current_device() if index is None else index
    try:
        with _verdict_of(index) as keep:
            results = list(check_kernels(make_cases(), device=f"cuda:{index}"))
            keep(results)
    except (OutputError, OSError, RuntimeError) as error:  # RuntimeError: no home directory
        warn_caller(f"The CUDA kernels could not be checked, so torch's LSTM serves. {error}")
        return
    if bad := failed(results):
        said = "; ".join(f"{name}: {why}" for name, why in bad.items())
        warn_caller(
            "These CUDA kernels failed their check on this GPU, so torch's LSTM serves instead:"
            f" {said}. To check again, run `sensorseq doctor --gpu`."
        )


def _gap(index: int | None) -> str:
    """Return why GPU `index` (None: the current one) cannot be checked; empty if it can."""
    is_there = torch.cuda.is_available() and (index or 0) < torch.cuda.device_count()
    capability = torch.cuda.get_device_capability(index) if is_there else None
    is_built = bool(_extension.cuda_facts()["built"])
    return cuda_kernels.driver_gap() or cuda_kernels.machine_gap(capability, is_built)


@contextmanager
def _verdict_of(index: int) -> Iterator[Callable[[list[Result]], None]]:
    """Lock the verdict file of a GPU and yield the function that writes it."""
    file = cuda_kernels.verdict_file(index)
    make_folder(file.parent)
    with locking(file, run=True):

        def keep(results: list[Result]) -> None:
            cuda_kernels.keep_verdict(file, kernels_passed(results), failed(results))

        yield keep


def keep_results(results: list[Result]) -> None:
    """Keep the verdict of results on the current GPU, as `check_gpu` does of its own."""
    with _verdict_of(torch.cuda.current_device()) as keep:
        keep(results)


def kernels_passed(results: Sequence[Result]) -> frozenset[cuda_kernels.Kernel]:
    """Return the kernels of which every result passed."""
    bad = {result.case.kernel for result in results if result.outcome != PASSED}
    return frozenset(result.case.kernel for result in results) - bad


def failed(results: Sequence[Result]) -> dict[str, str]:
    """Describe the cases that did not pass, by name."""
    return {
        result.case.name: f"{result.outcome}, {result.detail}" if result.detail else result.outcome
        for result in results
        if result.outcome != PASSED
    }


def format_result(result: Result) -> str:
    """Format the result as one line."""
    said = f"{result.outcome:<7}  {result.case.name:<18}  {result.seconds:5.1f} s"
    return f"{said}  {result.detail}" if result.detail else said
