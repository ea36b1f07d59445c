"""Run tasks in this process, in other processes, or on dask workers."""

import logging
import multiprocessing
import os
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sensorseq.errors import EnvironmentProblemError, writing
from sensorseq.preprocessing.preparation import versions

if TYPE_CHECKING:
    from concurrent.futures import Future

    from distributed import Client

ENGINES = ("process", "dask")
"""Ways to read recordings in parallel."""

_TIMEOUT_S = 30
# Tasks are sent in batches, because sending one task takes as long as reading a small recording.
_MOST_IN_BATCH, _FEWEST_BATCHES = 16, 64
_ended: set[str] = set()  # in a worker: the runs that have ended
_Task = TypeVar("_Task")
_Result = TypeVar("_Result")


@contextmanager
def worker_pool(
    engine: str, jobs: int, scheduler: str | None, reads: Path, writes: Path
) -> Iterator[Executor | None]:
    """Yield an executor for tasks, or None to run them in this process.

    All dask workers must be able to access the paths `reads` and `writes`.
    """
    if scheduler is not None or engine == "dask":
        with _dask_pool(jobs, scheduler, reads, writes) as pool:
            yield pool
        return
    if jobs == 1:
        yield None
        return
    # Processes are spawned, because forked ones would inherit the state of this process's threads.
    spawn = multiprocessing.get_context("spawn")
    processes = ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_end_with_parent)
    try:
        yield processes
    finally:
        processes.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """End this worker process when its parent is gone, because a killed parent cannot end it."""
    parent = multiprocessing.parent_process()

    def wait() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True, name="end with parent").start()


def outcomes(
    pool: Executor | None, function: Callable[[_Task], _Result], tasks: Sequence[_Task]
) -> Iterator[_Result | Exception]:
    """Yield the result or the error of each task, in order."""
    if pool is None:
        yield from _run_each(function, tasks)
        return
    size = max(1, min(_MOST_IN_BATCH, len(tasks) // _FEWEST_BATCHES))
    batches = [tasks[at : at + size] for at in range(0, len(tasks), size)]
    way_out = "Use resume=True to keep the finished recordings."
    try:
        for done in pool.map(partial(_run_batch, function), batches):
            yield from done
    except BrokenProcessPool as error:
        raise EnvironmentProblemError(
            "a process that was reading recordings was killed, perhaps because memory ran out;"
            f" reduce `jobs`. {way_out}"
        ) from error
    except CancelledError as error:
        raise EnvironmentProblemError(
            f"the connection to the dask scheduler was lost. {way_out}"
        ) from error
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise EnvironmentProblemError(
            "every dask worker that read one of the recordings was killed, perhaps because memory"
            f" ran out; give the workers more memory. {way_out}"
        ) from error


def _run_each(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task]
) -> Iterator[_Result | Exception]:
    for task in tasks:
        try:
            yield function(task)
        except Exception as error:
            yield error


def _run_batch(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task]
) -> list[_Result | Exception]:
    return list(_run_each(function, tasks))


@contextmanager
def _dask_pool(jobs: int, scheduler: str | None, reads: Path, writes: Path) -> Iterator[Executor]:
    try:
        from distributed import LocalCluster
    except ImportError as error:
        raise EnvironmentProblemError(
            f'engine="dask" needs more packages: pip install "sensorseq[dask]" ({error}).'
        ) from error
    with ExitStack() as stack:
        where: Any = scheduler
        if scheduler is None:
            where = stack.enter_context(
                LocalCluster(
                    n_workers=jobs,
                    threads_per_worker=1,
                    dashboard_address="127.0.0.1:0",
                    silence_logs=logging.CRITICAL,  # killed workers are replaced without a message
                )
            )
        try:
            client = stack.enter_context(_connect(where))
        except (OSError, ValueError) as error:
            raise EnvironmentProblemError(
                f"scheduler={scheduler!r}: no dask scheduler can be reached at this address"
                f" ({error})."
            ) from error
        with (
            writing(writes, folder=True),
            tempfile.NamedTemporaryFile(dir=writes, suffix=".tmp") as probe,
        ):
            # The same path may refer to a different folder on another machine.
            _check_workers(client, str(scheduler), {str(reads): reads, probe.name: writes})
        pool = _DaskPool(client)
        try:
            yield pool
        finally:
            pool.shutdown()


def _connect(where: Any) -> "Client":
    """Connect to a cluster with a client that does not become dask's default client."""
    from distributed import Client
    from distributed.comm.addressing import resolve_address

    if isinstance(where, str):
        # Raise an error for a malformed address, because `Client` would leave a client half open.
        # If this client were garbage-collected while another client starts, the process would hang.
        resolve_address(where)
    try:
        return Client(where, timeout=_TIMEOUT_S, set_as_default=False)
    except AssertionError:  # on a busy machine, the client's thread may not start within 10 s
        return Client(where, timeout=_TIMEOUT_S, set_as_default=False)


def _check_workers(client: "Client", scheduler: str, paths: dict[str, Path]) -> None:
    """Raise an error if no worker exists, or if a worker has wrong versions or lacks a path."""
    try:
        replies = client.run(_describe_worker, list(paths))
    except Exception as error:  # such as an ImportError in a worker
        raise EnvironmentProblemError(
            f"a dask worker cannot run sensorseq ({error}); install it on every worker."
        ) from error
    if not replies:
        raise EnvironmentProblemError(
            f"the dask scheduler at {scheduler} has no workers; start some with"
            f" `dask worker {scheduler}`."
        )
    local_versions = versions()
    for worker, (worker_versions, missing) in replies.items():
        for name, version in local_versions.items():
            if worker_versions[name] != version:
                raise EnvironmentProblemError(
                    f"dask worker {worker} has {name} {worker_versions[name]}, but this process has"
                    f" {version}; install the same version on every worker."
                )
        if missing:
            raise EnvironmentProblemError(
                f"dask worker {worker} cannot access {paths[missing[0]]}; use paths that all"
                " workers share."
            )


def _describe_worker(needed: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the versions on which samples depend, and the required paths that do not exist."""
    return versions(), [path for path in needed if not Path(path).exists()]


class _DaskPool(Executor):
    """The workers of a dask scheduler, as an executor."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._executor = client.get_executor()
        self._run = f"prepare-{uuid.uuid4().hex}"
        self._number = count()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        key = f"{self._run}-{next(self._number)}"
        future: Future[Any] = self._executor.submit(
            _run_unless_ended, self._run, fn, *args, key=key, **kwargs
        )
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        """Cancel tasks that have not started, and wait for running ones, like a process pool."""
        self._executor.shutdown(wait=False)
        self._client.run(_await_end, self._run, on_error="ignore")


def _run_unless_ended(run: str, function: Callable[..., Any], *args: Any) -> Any:
    if run in _ended:  # dask may still start a cancelled task
        raise CancelledError
    return function(*args)


async def _await_end(run: str, dask_worker: Any) -> None:
    import asyncio

    _ended.add(run)
    while any(str(key).startswith(run) for key in dask_worker.active_keys):
        await asyncio.sleep(0.02)
