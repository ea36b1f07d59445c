"""A program that does the work of each line of JSON in a forked process, which can be killed.

`serve` is the program's loop. The forked process prints "pid N" when it begins, and its parent
prints "ended N" after the process exits or is killed. `Program` starts a program with this loop and
communicates with it.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path


def print_line(text):
    os.write(1, f"{text}\n".encode())  # one write, so that no partial line is written


def serve(work):
    """Call `work` with the arguments in each line of stdin, each time in a forked process."""
    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if child == 0:
            print_line(f"pid {os.getpid()}")
            code = 1
            try:
                work(**asked)
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        print_line(f"ended {os.waitstatus_to_exitcode(status)}")


class Program:
    """A program that executes runs on request, so that modules are imported only once."""

    def __init__(self, *command):
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        self._rest = b""

    def begin(self, **asked):
        """Begin a run; return its process id."""
        self._process.stdin.write(json.dumps(asked).encode() + b"\n")
        self._process.stdin.flush()
        return int(self.hear(b"pid"))

    def run(self, kill_after_s=None, **asked):
        """Return a run's exit code, its duration, and its child processes when it was killed."""
        pid, children = self.begin(**asked), []
        began = time.perf_counter()
        if kill_after_s is not None:
            until = began + kill_after_s
            while (left := until - time.perf_counter()) > 0:
                if select.select([self._process.stdout], [], [], left)[0]:
                    self._rest += os.read(self._process.stdout.fileno(), 65536)
                    if b"ended" in self._rest:
                        break
            else:
                children = children_of(pid)
                with contextlib.suppress(ProcessLookupError):  # the process has just ended
                    os.kill(pid, signal.SIGKILL)
        code = int(self.hear(b"ended"))
        return code, time.perf_counter() - began, children

    def line(self):
        """Return the next line that the program prints."""
        while b"\n" not in self._rest:
            read = os.read(self._process.stdout.fileno(), 65536)
            if not read:
                raise SystemExit("the program ended by itself")
            self._rest += read
        line, self._rest = self._rest.split(b"\n", 1)
        return line

    def hear(self, word):
        """Wait for a line that begins with this word; return the text after it."""
        while not (line := self.line()).startswith(word):
            assert not line.startswith(b"ended"), f"a run ended before {word!r}: {line!r}"
        return line.removeprefix(word)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._process.communicate()


def children_of(pid):
    with contextlib.suppress(OSError):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in listed]
    return []
