"""Run a program that prints one JSON object, and keep it in a file under its name.

`python benchmarks/cuda/keep_json.py FILE PROGRAM`: FILE holds what every program said last.
"""

import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from common.results_file import commit


def main(path, program):
    """Return the program's exit code; what it says on stderr passes through."""
    done = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    try:
        said = json.loads(done.stdout)
    except json.JSONDecodeError as error:
        print(f"{Path(program).name} did not print a JSON object: {error}", file=sys.stderr)
        return done.returncode or 1
    file = Path(path)
    kept = json.loads(file.read_text()) if file.exists() else {"rows": {}}
    kept["commit"] = commit()
    kept["rows"][said["measurement"]] = said
    file.write_text(json.dumps(kept, indent=1) + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
