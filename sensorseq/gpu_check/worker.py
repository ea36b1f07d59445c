"""The process that runs the kernels: ``python -m sensorseq.gpu_check.worker``.

It reads one line of JSON: the cases, the number of runs of each, a folder and a device. For each
case it prints a line at the start and one at the end, and writes the results into the folder.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sensorseq.gpu_check.cases import Case, compute
from sensorseq.ops.choice import allowing_tf32


def main() -> int:
    """Run the cases; stop at the first that raises, because later ones cannot be trusted."""
    job = json.loads(sys.stdin.readline())
    device, folder = torch.device(job["device"]), Path(job["folder"])
    torch.zeros(1, device=device)
    _say(ready=True)
    for number, case in enumerate(Case(*fields) for fields in job["cases"]):
        _say(begin=number)
        started = time.monotonic()
        try:
            with allowing_tf32(case.precision == "fp16"):
                values = compute(case, device)
                same = all(_same(values, compute(case, device)) for _ in range(job["runs"] - 1))
        except RuntimeError as error:
            _say(error=" ".join(str(error).split())[:500])
            return 1
        file = folder / f"{number}.npz"
        np.savez(file, **dict[str, Any](values))
        _say(done=number, file=str(file), same=same, seconds=time.monotonic() - started)
    return 0


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    return all(np.array_equal(first[name], second[name], equal_nan=True) for name in first)


def _say(**fields: Any) -> None:
    # Start a new line, because a library may have left text on this one.
    print(f"\n{json.dumps(fields)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
