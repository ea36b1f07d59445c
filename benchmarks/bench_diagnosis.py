"""Does the report name the right family of causes? On runs whose single resets were all tried.

    bench_diagnosis.py --data calibration --borealtc FOLDER --work FOLDER   # resumes
    bench_diagnosis.py --data test --borealtc FOLDER --work FOLDER
    bench_diagnosis.py --table --work FOLDER                                # results/diagnosis.json
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from fluctuation.generate import generate


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate rows, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="\n".join(__doc__.splitlines()[2:]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", choices=("calibration", "test"), default="calibration")
    parser.add_argument("--borealtc", type=Path, help="folder of the BorealTC set")
    parser.add_argument("--work", type=Path, required=True, help="folder of rows and records")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--first", type=int, default=0, help="number of the first draw")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    draws = range(options.first, options.first + options.draws)
    generate(options.data, draws, options.work, options.borealtc)
    return 0


if __name__ == "__main__":
    sys.exit(main())
