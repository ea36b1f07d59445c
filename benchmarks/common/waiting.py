"""Checks how threads wait during a benchmark."""

import os
import sys


def refuse_sleeping_threads() -> None:
    """Exit if waiting threads would sleep, which slows torch more than sensorseq."""
    if os.environ.get("OMP_WAIT_POLICY", "").upper() == "PASSIVE":
        raise SystemExit(
            "OMP_WAIT_POLICY=PASSIVE slows torch's threads up to ten times and would make"
            f" sensorseq look faster than it is. Run: env -u OMP_WAIT_POLICY python {sys.argv[0]}"
        )
