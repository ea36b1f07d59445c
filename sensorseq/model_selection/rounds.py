"""A joblib backend that runs fits as threads and trains their networks side by side.

scikit-learn's searches and cross-validations pass their fits to joblib. This backend runs each as a
thread, one at a time, until its estimator has a network to train. Once all are there, their
networks are trained together, and each thread continues with its result. Everything before and
after the training is up to scikit-learn.
"""

import contextvars
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from joblib import parallel_config  # type: ignore[import-untyped]
from joblib.parallel import (  # type: ignore[import-untyped]
    ParallelBackendBase,
    get_active_backend,
)

from sensorseq.training.engine import TrainingJob, TrainingResult
from sensorseq.training.side_by_side import share_equal, train_side_by_side

WAITING_BYTES = 1024**3  # limit on the training windows of waiting fits
WAITING_FITS = 256  # limit on waiting threads
_MANY = 400_000  # number of jobs; joblib allows at most a million


@contextmanager
def side_by_side() -> Iterator[None]:
    """Train the fits of scikit-learn's own tools side by side within a `with` block.

    It works with everything that sends fits of `SensorLSTMClassifier` or `SensorLSTMRegressor` to
    joblib, alone or in a pipeline: `GridSearchCV`, `HalvingGridSearchCV`, `cross_val_score`, ...
    Their networks train as the models of one native call, on all threads of torch, with the same
    bits as training one after another. Leave ``n_jobs=None``. Fits of other estimators run one
    after another.

    `fit_time` in the results is the fit's own time plus its share of the joint training.

    Inside ``joblib.parallel_config("dask")`` each fit is a task of a dask worker instead, with the
    same results.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import cross_val_score
    >>> from sensorseq import SensorLSTMClassifier
    >>> from sensorseq.model_selection import side_by_side
    >>> y = np.arange(60) % 2
    >>> X = np.sin(np.arange(20) * (0.3 + 0.6 * y[:, None]) + np.arange(60)[:, None])
    >>> clf = SensorLSTMClassifier(hidden_size=8, max_epochs=5, random_state=0)
    >>> with side_by_side():
    ...     scores = cross_val_score(clf, X, y, cv=3)
    >>> len(scores)
    3
    """
    if is_distributed():
        yield
        return
    backend = SideBySideBackend()
    # threads change the process's warning filters in any order; restore them at the end
    with warnings.catch_warnings(), parallel_config(backend=backend, n_jobs=_MANY):
        try:
            yield
        finally:
            backend.cancel(None)


def is_distributed() -> bool:
    """Test whether joblib uses a backend on other machines, such as dask."""
    backend, _ = get_active_backend()
    return type(backend).__name__ == "DaskDistributedBackend"


class _Cancelled(BaseException):
    """Ends a thread whose result is no longer needed; `except Exception` does not catch it."""


class _Task:
    """A call submitted by joblib, which acts as its future."""

    def __init__(
        self,
        backend: "SideBySideBackend",
        function: Callable[[], Any],
        parent: "_Task | None",
        callback: Callable[..., Any] | None,
    ) -> None:
        self.parent = parent
        self.is_new = True
        self.is_done = False
        self.is_cancelled = False
        self.jobs: Sequence[TrainingJob] | None = None  # networks waiting to be trained
        self.trained: list[Any] = []
        self.awaited: _Task | None = None  # the task it waits for
        self._backend = backend
        self._function = function
        self._callback = callback
        self._context = contextvars.copy_context()
        self._may_run = threading.Semaphore(0)
        self._result: Any = None
        self._error: BaseException | None = None
        self._paused_s = 0.0
        self._trained_s = 0.0

    def get(self, timeout: float | None = None) -> Any:
        """Wait for the result and return it, or raise the error that ended the call."""
        self._backend.finish(self)
        if self._callback is not None:
            self._callback(self)  # joblib counts finished tasks
        result, error = self._result, self._error
        self._result = self._error = None
        if error is not None:
            raise error
        return result

    @property
    def can_run(self) -> bool:
        """Whether its next step does not have to wait."""
        if self.is_new or self.is_done or self.jobs is not None:
            return False
        return self.awaited is None or self.awaited.is_done

    @property
    def n_bytes(self) -> int:
        """The size of the training windows that wait."""
        return sum(job.train.resident_bytes for job in self.jobs or ())

    def resume(self) -> None:
        """Run until the call ends or waits."""
        if self.is_new:
            self.is_new = False
            threading.Thread(target=self._run, daemon=True).start()
        self._may_run.release()

    def _run(self) -> None:
        self._may_run.acquire()
        try:
            self._context.run(self._call)
        except BaseException as error:
            self._error = error
        finally:
            del self._function, self._context
            self.is_done = True
            self._backend.take_over()

    def _call(self) -> None:
        self._check_cancelled()
        self._result = self._function()
        # scikit-learn includes the wait for other fits in the time of a fit
        records = self._result if isinstance(self._result, list) else ()
        for record in records:
            if isinstance(record, dict) and isinstance(record.get("fit_time"), float):
                own_s = record["fit_time"] - self._paused_s + self._trained_s
                record["fit_time"] = max(0.0, own_s)

    def train(self, jobs: Sequence[TrainingJob]) -> list[TrainingResult]:
        """Wait until these networks are trained together with those of other tasks."""
        self.jobs = jobs
        self.pause()
        results, self.trained = self.trained, []
        for result in results:
            if isinstance(result, Exception):
                raise result
            if result.error is not None and len(jobs) > 1:
                raise result.error
            self._trained_s += sum(row["duration_s"] for row in result.history)
        return results

    def pause(self) -> None:
        """Let other tasks run until `resume` is called."""
        started = time.perf_counter()
        self._backend.take_over()
        self._may_run.acquire()
        self._paused_s += time.perf_counter() - started
        self._check_cancelled()

    def _check_cancelled(self) -> None:
        if self.is_cancelled:
            raise _Cancelled


class SideBySideBackend(ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """A joblib backend that runs all tasks until they have networks to train, then trains them.

    One thread runs at a time, so that tasks may share objects that are not thread-safe. The
    training itself runs in the thread that waits for the results, which Ctrl-C reaches.
    """

    supports_sharedmem = True
    uses_threads = True

    def __init__(self) -> None:
        super().__init__(nesting_level=0)
        self._tasks: list[_Task] = []
        self._is_back = threading.Semaphore(0)
        self._current: _Task | None = None  # the running task; None for the caller's thread

    # Called by joblib

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Return an unlimited number, because all tasks must start before the first trains."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        return _MANY

    def submit(self, func: Callable[[], Any], callback: Callable[..., Any] | None = None) -> _Task:
        """Register a call as a task."""
        task = _Task(self, func, self._current, callback)
        self._tasks.append(task)
        return task

    apply_async = submit  # the name before joblib 1.5

    def get_nested_backend(self) -> tuple["SideBySideBackend", int]:
        """Run the subtasks of a task as tasks of this backend."""
        return self, _MANY

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Cancel the subtasks of the current task."""
        self.cancel(self._current)

    # Called by tasks

    def train_jobs(self, jobs: Sequence[TrainingJob]) -> list[TrainingResult] | None:
        """Train a fit's networks with those of other tasks; None if the caller's thread asks."""
        return None if self._current is None else self._current.train(jobs)

    def take_over(self) -> None:
        """Return control to the caller's thread."""
        self._is_back.release()

    def finish(self, task: _Task) -> None:
        """Run other tasks until this one is done."""
        waiting = self._current
        if waiting is None:
            while not task.is_done:
                self._advance()
        elif not task.is_done:
            waiting.awaited = task
            waiting.pause()
            waiting.awaited = None

    # Runs in the caller's thread

    def _advance(self) -> None:
        self._tasks = [task for task in self._tasks if not task.is_done]
        able = next((task for task in self._tasks if task.can_run), None)
        waiting = [task for task in self._tasks if task.jobs is not None]
        is_full = sum(task.n_bytes for task in waiting) >= WAITING_BYTES
        if able is None and not (waiting and (is_full or len(waiting) >= WAITING_FITS)):
            able = next((task for task in self._tasks if task.is_new), None)
        if able is not None:
            self._resume(able)
        else:
            self._train(waiting)

    def _resume(self, task: _Task) -> None:
        self._current = task
        try:
            task.resume()
            self._is_back.acquire()
        except KeyboardInterrupt:  # the task is still running, so wait until it stops
            task.is_cancelled = True
            self._is_back.acquire()
            raise
        finally:
            self._current = None

    def _train(self, waiting: list[_Task]) -> None:
        if not waiting:
            raise RuntimeError("tasks wait for each other")
        jobs = share_equal([job for task in waiting for job in task.jobs or ()])
        results = train_side_by_side(jobs, return_errors=True)
        for task in waiting:
            n_jobs = len(task.jobs or ())
            task.trained, results = results[:n_jobs], results[n_jobs:]
            task.jobs = None

    def cancel(self, parent: _Task | None) -> None:
        """Cancel the subtasks of a task recursively, or all tasks for None."""
        for task in self._tasks:
            if task.is_done or task.parent is not parent:
                continue
            self.cancel(task)
            task.is_cancelled = True
            if task.is_new:
                task.is_done = True
            task.jobs = task.awaited = None
        while parent is None and any(task.can_run for task in self._tasks):
            self._advance()  # ends the waiting threads; those of a task end at their turn
