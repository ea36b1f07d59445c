"""Compile the measurements of this folder, run one after the other and keep what they print.

`python benchmarks/cuda/measure.py FILE`: FILE holds what every program printed last, one JSON
object each, under its name.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.results_file import commit

HERE = Path(__file__).resolve().parent
COMPILE = ["nvcc", "-std=c++17", "-O3", "-gencode=arch=compute_90a,code=sm_90a"]
COMPILE += ["-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra,-Werror", "-Xptxas", "-Werror"]
LIMIT_S = 25


def main():
    """Return 1 if a program does not compile, or says that something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("--dry-run", action="store_true", help="only compile, where nvcc is")
    options = parser.parse_args()
    if not shutil.which("nvcc"):
        print("there is no nvcc")
        return 0 if options.dry_run else 1
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        compilers = {
            Path(folder, source.stem): subprocess.Popen(
                [*COMPILE, "-o", f"{folder}/{source.stem}", source]
            )
            for source in sorted(HERE.glob("*.cu"))
        }
        for program, compiler in compilers.items():
            if compiler.wait():
                failed.append(f"compile {program.name}")
        # only now: they must not share the processor and the GPU
        for program in [] if options.dry_run else filter(Path.exists, compilers):
            try:
                keep(options.file, program)
            except (subprocess.SubprocessError, ValueError) as error:
                failed.append(f"{program.name}: {error}")
    print(*failed or ["all measured" if not options.dry_run else "all compiled"], sep="\n")
    return int(bool(failed))


def keep(file, program):
    """Run a program and keep what it prints; an error if it fails, even then kept."""
    print(f"-- {program.name}", flush=True)
    done = subprocess.run(
        [program], stdout=subprocess.PIPE, text=True, check=False, timeout=LIMIT_S
    )
    print(done.stdout, flush=True)
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise ValueError(f"no JSON object, exit code {done.returncode}") from None
    kept = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    kept["commit"] = commit()
    kept["rows"][said["measurement"]] = said
    file.write_text(json.dumps(kept, indent=1) + "\n")
    done.check_returncode()


if __name__ == "__main__":
    sys.exit(main())
