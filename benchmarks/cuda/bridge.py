"""Builds the bridge test of this folder in advance, and runs it on a machine with a GPU.

`python benchmarks/cuda/bridge.py build` compiles the test into build/gpu, which git ignores.
`python benchmarks/cuda/bridge.py run FILE` runs it and stores the JSON object that it prints in
FILE. If the test is not built yet, it is compiled first.
"""

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import bridge_mutants
from common.results_file import begin, keep_measurement

PROGRAM = Path(__file__).resolve().parents[2] / "build" / "gpu" / "bridge"
LIMIT_S = 25


def main():
    """Return 1 if the test does not compile or finds an error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    actions.add_parser("build", help="compile; needs nvcc")
    run = actions.add_parser("run", help="run and store the output")
    run.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.action == "build" and not shutil.which("nvcc"):
        print("nothing is compiled: nvcc was not found")
        return 0
    try:
        if options.action == "build" or not PROGRAM.exists():
            PROGRAM.parent.mkdir(parents=True, exist_ok=True)
            bridge_mutants.compile_bridge(PROGRAM)
        if options.action == "build":
            return 0
        code = begin(__file__, folder=options.file.parent)
        done = subprocess.run(
            [PROGRAM], stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S
        )
        print(done.stdout, flush=True)
        # even if the test fails
        keep_measurement(options.file, json.loads(done.stdout), code=code)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        print(error)
        return 1
    return int(done.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
