"""Load the next piece in a thread while the last one is used."""

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Job = TypeVar("Job")
Loaded = TypeVar("Loaded")


class Abandoned(BaseException):
    """Raised inside a load that nobody waits for any more."""


def read_ahead(
    load: Callable[[Job, int, Callable[[], None]], Loaded], jobs: Sequence[Job]
) -> Generator[Loaded, None, None]:
    """Yield what each job loads, in order; one thread loads the next meanwhile.

    Two are there at a time: the one in use and the next. A piece is done with when the following
    one is asked for. Close the iterator when it is left early; that waits for the thread.

    Parameters
    ----------
    load : callable
        Gets a job, the place 0 or 1 that its piece may fill, and a function to be called now and
        then, which ends the load when nobody waits for it. What it raises is raised here.
    jobs : sequence
        What to load.
    """
    abandoned = threading.Event()

    def check() -> None:
        if abandoned.is_set():
            raise Abandoned

    with ThreadPoolExecutor(1, thread_name_prefix="sensorseq-reader") as thread:
        try:
            for i, _ in enumerate(jobs):
                if i == 0:
                    coming = thread.submit(load, jobs[0], 0, check)
                loaded = coming.result()
                if i + 1 < len(jobs):
                    coming = thread.submit(load, jobs[i + 1], (i + 1) % 2, check)
                yield loaded
                del loaded
        finally:
            abandoned.set()
