"""Imported when Python starts: installs the rounding of the test that started the process."""

import os

if "ROUNDING_LOG" in os.environ:
    import rounding_moves

    seed = os.environ[rounding_moves.SEED]
    rounding_moves.install(int(seed) if seed else None, os.environ[rounding_moves.LOG])
