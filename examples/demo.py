"""Make a first model and its page from the CSV files of simulated robots, with `sensorseq run`.

Run it with `make demo`.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from sensorseq.cli import run

LOGS = Path(__file__).resolve().parents[1] / "data" / "surfaces"


def main():
    """Print the command and run it, as a user would."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("demo_output"))
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    n_files = len(list(LOGS.glob("*/*.csv.gz")))
    print(f"{n_files} CSV files of SIMULATED motor current: ten robots on six surfaces\n")
    words = ["run", os.path.relpath(LOGS), "-o", str(output / "first")]
    print(f"$ sensorseq {shlex.join(words)}", flush=True)
    sys.exit(run(words))


if __name__ == "__main__":
    main()
