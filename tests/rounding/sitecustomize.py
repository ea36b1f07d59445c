"""Imported at the start of Python: installs the rounding of the tests that started it."""

import os

if "ROUNDING_LOG" in os.environ:
    import rounding_moves

    seed = os.environ[rounding_moves.SEED]
    rounding_moves.install(int(seed) if seed else None, os.environ[rounding_moves.LOG])
