"""Check the CUDA kernels on the user's own GPU, and store the verdict.

A worker process runs every kernel, because a kernel that hangs can only be stopped by ending its
process. The parent process compares the worker's results with results computed in float64. Only
torch and numpy are needed. `sensorseq doctor --gpu` and the first fit on a GPU start a check.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch

from sensorseq.errors import EnvironmentProblemError, OutputError, warn_caller
from sensorseq.io.atomic import locking, make_folder
from sensorseq.ops import cuda_kernels
from sensorseq.ops.kernel_cases import Case, Values, compare_results, expected, make_cases

__all__ = [
    "Case",
    "Result",
    "check_before_fit",
    "check_gpu",
    "check_kernels",
    "format_result",
    "make_cases",
]

PASSED, WRONG, HUNG, DIED, NOT_RUN = "passed", "wrong", "hung", "died", "not run"
WORKER = (sys.executable, "-W", "ignore", "-m", "sensorseq.ops.kernel_cases")
_START_S = 40.0  # time allowed for loading torch and CUDA from a cold disk
_LONGEST_LINE = 1 << 16


class Result(NamedTuple):
    """The outcome of a case."""

    case: Case
    outcome: str
    """``"passed"``, ``"wrong"``, ``"hung"``, ``"died"`` or ``"not run"``."""
    detail: str
    """The error closest to its tolerance, or a description of the failure."""
    seconds: float


def check_kernels(
    cases: Sequence[Case],
    *,
    repeats: int = 2,
    limit_s: float = 60.0,
    silence_s: float = 10.0,
    device: str = "cuda",
    command: Sequence[str] | None = None,
) -> Iterator[Result]:
    """Run cases in a separate process and yield the outcome of each.

    A case that gives no answer for `silence_s` seconds or kills its process is abandoned, and a new
    process continues with the next case. A kernel that hung is not called again. Cases that have
    not finished after a total of `limit_s` seconds are reported as not run.

    Parameters
    ----------
    cases : sequence of Case
        The cases, for example from `make_cases`.
    repeats : int
        Number of runs of each case; all runs must give the same bits.
    limit_s, silence_s : float
        Maximum number of seconds for all cases together, and for one case without an answer.
    device : str
        Name of the device in torch.
    command : sequence of str, optional
        The worker's command line; by default `sensorseq.ops.kernel_cases` with this Python.
    """
    end = time.monotonic() + limit_s
    left = list(cases)
    while left:
        with tempfile.TemporaryDirectory(prefix="sensorseq-gpu-") as folder:
            job = {"cases": left, "runs": repeats, "folder": folder, "device": device}
            try:
                worker = _Worker(command or WORKER, job, folder)
            except OSError as error:
                yield from (Result(case, DIED, str(error), 0.0) for case in left)
                return
            n_known, hung = 0, None
            with worker:
                for result in _follow(worker, left, end, silence_s):
                    n_known += 1
                    yield result
                    if result.outcome == HUNG:
                        hung = result.case.kernel
        del left[:n_known]
        for case in [case for case in left if case.kernel == hung]:
            left.remove(case)
            yield Result(case, NOT_RUN, "its kernel hung", 0.0)
        if time.monotonic() >= end:
            yield from (Result(case, NOT_RUN, f"{limit_s:g} s had passed", 0.0) for case in left)
            return


def _follow(
    worker: "_Worker", cases: Sequence[Case], end: float, silence_s: float
) -> Iterator[Result]:
    """Yield the results from one process, until all cases are done or a case hangs or crashes."""
    number, began = 0, time.monotonic()
    wait_s = max(_START_S, silence_s)
    while number < len(cases):
        case, until = cases[number], min(began + wait_s, end)
        message = worker.next_message(until - time.monotonic())
        seconds = time.monotonic() - began
        if message is None and not worker.is_dead():
            if until == end and number:
                return  # this case has no outcome yet
            yield Result(case, HUNG, f"no answer for {seconds:.0f} s", seconds)
            return
        if message is None or "error" in message:
            cause = str(message["error"]) if message else worker.describe_end()
            yield Result(case, DIED, cause, seconds)
            return
        if message.get("begin") == number:
            began, wait_s = time.monotonic(), silence_s
        elif message.get("done") == number:
            is_right, detail = _compare(case, message.get("file"))
            if message.get("same") is not True:
                is_right, detail = False, f"two runs gave different bits; {detail}"
            yield Result(case, PASSED if is_right else WRONG, detail, seconds)
            number, began = number + 1, time.monotonic()


def _compare(case: Case, file: Any) -> tuple[bool, str]:
    """Compare the results in a file with the expected results."""
    try:
        with Path(str(file)).open("rb") as stream, np.load(stream, allow_pickle=False) as read:
            values: Values = {name: read[name].astype(np.float64) for name in read.files}
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        return False, f"the results cannot be read: {error}"
    return compare_results(case, values, expected(case))


class _Worker:
    """A process that gets a job and prints JSON lines; it is killed when the `with` block ends."""

    def __init__(self, command: Sequence[str], job: dict[str, Any], folder: str) -> None:
        package = Path(__file__).resolve().parents[2]
        path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
        # Force the use of the kernels, regardless of the parent's setting.
        environment = {**os.environ, "PYTHONPATH": path, cuda_kernels.SWITCH: cuda_kernels.FORCED}
        self._stderr = Path(folder) / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=environment,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        # The process may already have ended.
        with contextlib.suppress(OSError), self._process.stdin as stdin:
            stdin.write(json.dumps(job).encode() + b"\n")
        self._messages: queue.Queue[dict[str, Any] | None] = queue.Queue(maxsize=1000)
        self._reader = threading.Thread(
            target=self._read, args=(self._process.stdout,), daemon=True
        )
        self._reader.start()

    def _read(self, stdout: IO[bytes]) -> None:
        """Queue the lines that are JSON objects; other output does not count as a sign of life."""
        with stdout:
            for line in iter(lambda: stdout.readline(_LONGEST_LINE), b""):
                with contextlib.suppress(ValueError, RecursionError):
                    message = json.loads(line)
                    if isinstance(message, dict):
                        self._messages.put(message)
        self._messages.put(None)

    def next_message(self, wait_s: float) -> dict[str, Any] | None:
        """Return the next message; None at the end of the output, or if `wait_s` has passed."""
        try:
            return self._messages.get(timeout=max(0.0, wait_s))
        except queue.Empty:
            return None

    def is_dead(self) -> bool:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.0 if self._reader.is_alive() else 5.0)
        return self._process.returncode is not None

    def describe_end(self) -> str:
        """Describe how the process ended, with the last line of its stderr."""
        code = self._process.returncode
        end = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        text = self._stderr.read_text("utf-8", "replace")[-2000:]
        lines = [line.strip() for line in text.split("\n") if line.strip()]
        return f"{end}: {lines[-1][:300]}" if lines else end

    def __enter__(self) -> "_Worker":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        # Limit the wait, because the process may be stuck in the driver.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        until = time.monotonic() + 5.0
        while self._reader.is_alive() and time.monotonic() < until:
            with contextlib.suppress(queue.Empty):
                self._messages.get(timeout=0.1)  # empty the queue so that the reader can finish


def check_gpu(*, on_result: Callable[[Result], object] | None = None) -> list[Result]:
    """Check every kernel on the current GPU and store the verdict in the user's cache folder.

    Parameters
    ----------
    on_result : callable, optional
        Function that is called with each result as soon as it is available.

    Raises
    ------
    EnvironmentProblemError
        If there are no kernels, or no GPU that supports them.
    OutputError
        If the cache folder cannot be written, or another process is running the check.
    """
    if gap := _gap(None):
        raise EnvironmentProblemError(f"there are no CUDA kernels to check: {gap}.")
    index = torch.cuda.current_device()
    with _verdict_of(index) as keep:
        results = []
        for result in check_kernels(_cases_on(index), device=f"cuda:{index}"):
            results.append(result)
            if on_result is not None:
                on_result(result)
        keep(results)
    return results


def check_before_fit(device: str) -> None:
    """Check the kernels before the first fit on a GPU; failures cause a warning, never an error.

    This function does nothing unless SENSORSEQ_CUDA_KERNELS is ``auto`` and there is no verdict for
    this GPU yet.
    """
    if device == "cpu" or cuda_kernels.switch() != cuda_kernels.AUTO:
        return
    index = torch.device("cuda" if device == "auto" else device).index
    if _gap(index) or cuda_kernels.read_verdict(index) is not None:
        return
    index = torch.cuda.current_device() if index is None else index
    try:
        with _verdict_of(index) as keep:
            results = list(check_kernels(_cases_on(index), device=f"cuda:{index}"))
            keep(results)
    except (OutputError, OSError, RuntimeError) as error:  # RuntimeError: no home directory
        warn_caller(f"The CUDA kernels could not be checked, so torch's LSTM is used. {error}")
        return
    if failures := failed(results):
        listed = "; ".join(f"{name}: {reason}" for name, reason in failures.items())
        warn_caller(
            "These CUDA kernels failed their check on this GPU, so torch's LSTM is used instead:"
            f" {listed}. To check again, run `sensorseq doctor --gpu`."
        )


def _cases_on(index: int) -> list[Case]:
    """Return the cases of the kernels that run on a GPU."""
    return make_cases(kernels=cuda_kernels.kernels_on(torch.cuda.get_device_capability(index)))


def _gap(index: int | None) -> str:
    """Return why a GPU (by default, the current one) cannot be checked, or an empty string."""
    has_gpu = torch.cuda.is_available() and (index or 0) < torch.cuda.device_count()
    capability = torch.cuda.get_device_capability(index) if has_gpu else None
    is_built = cuda_kernels.is_built_for(capability)
    return cuda_kernels.driver_gap() or cuda_kernels.machine_gap(capability, is_built)


@contextlib.contextmanager
def _verdict_of(index: int) -> Iterator[Callable[[list[Result]], None]]:
    """Lock the verdict file of a GPU and yield the function that writes it."""
    file = cuda_kernels.verdict_file(index)
    make_folder(file.parent)
    with locking(file, run=True):

        def keep(results: list[Result]) -> None:
            cuda_kernels.keep_verdict(file, kernels_passed(results), failed(results))

        yield keep


def keep_results(results: list[Result]) -> None:
    """Store the verdict on the current GPU, given these results; `check_gpu` does this itself."""
    with _verdict_of(torch.cuda.current_device()) as keep:
        keep(results)


def kernels_passed(results: Sequence[Result]) -> frozenset[cuda_kernels.Kernel]:
    """Return the kernels that passed all their cases."""
    failing = {result.case.kernel for result in results if result.outcome != PASSED}
    return frozenset(result.case.kernel for result in results) - failing


def failed(results: Sequence[Result]) -> dict[str, str]:
    """Return a description of each case that did not pass, by the name of the case."""
    return {
        result.case.name: f"{result.outcome}, {result.detail}" if result.detail else result.outcome
        for result in results
        if result.outcome != PASSED
    }


def format_result(result: Result) -> str:
    """Format the result as one line."""
    line = f"{result.outcome:<7}  {result.case.name:<18}  {result.seconds:5.1f} s"
    return f"{line}  {result.detail}" if result.detail else line
