"""Simulates a full disk: files of this process or of a child process cannot exceed a size."""

import contextlib
import os
import resource
import subprocess
import sys


@contextlib.contextmanager
def files_limited_to(size_bytes):
    """Limit file sizes within a `with` block, which must be short because pytest also writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    skipped_bytecode = sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # a truncated .pyc would break every later import of the module
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        sys.dont_write_bytecode = skipped_bytecode


def run_limited(command, size_bytes, **options):
    """Run a command whose files cannot grow beyond a size."""
    return subprocess.run(
        command,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes)),
        check=False,
        **options,
    )
